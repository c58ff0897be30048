"""What rank 0 makes of a run between its steps: scores, checkpoints and sample pictures.

Each uses the EMA weights where the run has them. Files are finished by the background writer and reported then.
"""

from __future__ import annotations

from threading import Event
from typing import Protocol

from core.adapters import diffusers
from core.adapters import file as adapter_file
from core.device import backend
from core.errors import AdapterProblem, TrainingProblem
from core.training import assistant, checkpoint, ema, preview
from core.training.events import Note, Request
from core.training.judging import Judging
from core.training.preview import Previews
from core.training.reporter import Events, Reporter
from core.training.run import Run
from core.training.setup import Attached
from core.training.validation import Scoring


class Outputs(Protocol):
    """What the training loop calls; a peer of a distributed run makes none of it."""

    def score(self) -> Events:
        """Score the adapter on the held-out photos."""

    def save(self) -> Events:
        """Write a checkpoint."""

    def save_if_newer(self) -> Events:
        """Write a checkpoint unless this step has one."""

    def sample(self) -> Events:
        """Draw the sample pictures."""

    def wait_until_copied(self) -> None:
        """Before an update: wait until no checkpoint holds the state's tensors, so that it can reuse their memory."""


class RunOutputs:
    """The outputs of a run that has a folder and a caller."""

    def __init__(
        self,
        run: Run,
        attached: Attached,
        scoring: Scoring,
        previews: Previews,
        judging: Judging,
        reporter: Reporter,
    ) -> None:
        self._run, self._scoring, self._reporter = run, scoring, reporter
        self._previews, self._judging = previews, judging
        self._state, self._adapter, self._assistant = attached.state, attached.adapter, attached.assistant
        self._copied = Event()  # of the newest checkpoint: its tensors are in files
        self._copied.set()

    def begin(self) -> Events:
        """The first score of a run, and sample pictures that are due at this step and not there."""
        if not self._state.scores and not self._reporter.stopping:
            yield from self.score()
        step = self._state.step
        if preview.is_due(step, self._run.config) and self._previews.missing(step):
            yield from self.sample()

    def score(self) -> Events:
        with assistant.enabled(self._assistant), ema.applied(self._adapter, self._state):
            scored = self._scoring.score(self._state)
        yield from self._reporter.report(scored)

    def sample(self) -> Events:
        self._reporter.request &= ~Request.SAMPLE
        previews = self._previews
        with ema.applied(self._adapter, self._state):
            pictures = previews.pictures(self._state.step)
            more = self._judging.count > 0
            yield from self._reporter.draw("drawing samples", len(previews.prompts), pictures, more=more)
            if more and not self._reporter.stopping:
                yield from self._reporter.draw("drawing pictures to measure", 0, self._judging.draw(previews.images))
        for event in self._judging.measure(self._state.step):
            yield from self._reporter.report(event)

    def save(self) -> Events:
        """Submit a checkpoint to the writer; an adapter that is still zero has none.

        Raises TrainingProblem if that is so at the last step.
        """
        run, state, reporter = self._run, self._state, self._reporter
        reporter.request &= ~Request.SAVE
        with ema.applied(self._adapter, state):
            factors = self._adapter.folded()
        try:
            adapter_file.check_worth(factors)
        except AdapterProblem as problem:
            if state.step == run.config.steps:
                raise TrainingProblem(f"Nothing was learned in {state.step} steps. {problem.message}") from None
            yield from reporter.report(Note(f"No checkpoint at step {state.step}. {problem.message}", "warning"))
            return
        metadata = diffusers.metadata_for(
            run.config,
            family=run.family.name,
            modelspec=run.family.modelspec,
            title=run.title,
            trigger=run.trigger,
            step=state.step,
            rank=max(a_RI.shape[0] for a_RI, _ in factors.values()),
            photos=len(run.examples),
            started_at=run.started_at,
        )
        yield from reporter.flush()  # one checkpoint is written at a time
        snapshot = checkpoint.Snapshot(run.folder, state, diffusers.tensors_of(factors), metadata)
        self._copied = snapshot.copied
        reporter.writer.submit(snapshot.write)

    def save_if_newer(self) -> Events:
        yield from self._reporter.flush()
        if self._state.step and not checkpoint.is_newest(self._run.folder, self._state.step):
            yield from self.save()

    def wait_until_copied(self) -> None:
        """On a card with memory of its own there is nothing to wait for: what is written was copied out of it."""
        if not backend.policy().own_memory:
            self._copied.wait()
