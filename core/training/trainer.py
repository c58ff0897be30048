"""The training loop: a generator that yields progress, takes requests, saves the state and stops cleanly.

    prepare: checkpoint, encoded texts and photos, class pictures, adapter                    prepare.py
    for step in 1 ... steps:
        A, B <- optimizer(A, B, gradient of the loss)                                         step.py
        yield Stepped; then the scores, checkpoint and samples that are due or requested      outputs.py

On GPUs the next step is queued before the previous loss is read, so the device never idles. Files are written by a
thread beside the steps and reported when they are whole (background_writer.py).

    run = train(family, examples, config, folder, trigger="sks", class_word="can", cache=cache)
    for progress in run: ...         or   progress = run.send(Request.STOP)   or   run.close()

Every draw is a function of (seed, step, example), and a checkpoint holds the exact float32 weights and the whole
optimizer state, so a run that was stopped or killed and then resumed ends bit for bit like one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from core.config.train import TrainConfig
from core.dataset.examples import Example
from core.device import backend
from core.errors import DataProblem, Problem
from core.models.base import Family
from core.training import assistant, due, outcome, preview, validation
from core.training.background_writer import Writer
from core.training.checkpoint import State
from core.training.events import Progress, Request
from core.training.group import ALONE, Group, MachineLost
from core.training.outcome import BadSteps
from core.training.prepare import PreparedRun, load_checkpoint, prepare
from core.training.reporter import Events, Reporter
from core.training.run import Run
from core.training.step import Step


def train(
    family: Family,
    examples: Sequence[Example],
    config: TrainConfig,
    folder: Path,
    *,
    trigger: str,
    class_word: str,
    cache: Path,
    resume: bool = False,
    start_from: Path | None = None,
    title: str = "",
    group: Group = ALONE,
    dinov2: Path | None = None,
) -> Generator[Progress, Request | None, None]:
    """Train an adapter in `folder`, yielding progress; the last event is `Finished`.

    With `resume` the run continues from its newest whole checkpoint (from step 0 if it has none); without it, whatever
    an earlier run left in `folder` is removed. The adapter is detached from the family at the end.

    `start_from` is an adapter file that the run begins with. It trains the layers of the file at the file's ranks, with
    alpha / rank folded into B; the knobs targets, rank, alpha and ranks are ignored. Once a checkpoint exists, the file
    is not loaded. If it still exists, its hash must match the checkpoint's.

    With a `group` this process is rank 0, and the peers take their shares of each step (core/distributed/peer.py).

    `dinov2` is the folder of that model, whose features measure the pictures (core/training/judging.py).

    A stop requested before the first step is obeyed too; what was encoded by then stays in the cache.

    Raises DataProblem, AdapterProblem, ConfigProblem, ModelProblem, DiskProblem, TrainingProblem. After three steps in
    a row with a non-finite loss or gradient norm, and after the loss of a machine of the group, the last complete step
    is saved before the TrainingProblem; if the disk has no room for it, a DiskProblem says both. Other errors are
    raised without saving.
    """
    if not examples:
        raise DataProblem("There are no photos to train on; add at least one.")
    started = time.monotonic()
    backend.prepare()
    backend.reset_peak_memory()
    run = Run(
        family, examples, config, folder,
        trigger=trigger, class_word=class_word, cache=cache, start_from=start_from, title=title, group=group,
        dinov2=dinov2,
    )  # fmt: skip
    with ExitStack() as cleanup, closing(Writer()) as writer:
        reporter = Reporter(family, group, writer)
        state: State | None = None
        loop: Loop | None = None
        try:
            state = yield from load_checkpoint(run, reporter, resume=resume)
            prepared = yield from prepare(run, state, reporter, cleanup, resume=resume)
            if prepared is not None:
                state = prepared.state
                loop = Loop(prepared)
                yield from loop.take_steps()
            yield from reporter.flush()
            seconds = time.monotonic() - started
            yield outcome.finished(state, config, folder, seconds=seconds, held_out=bool(run.held_out))
        except (MachineLost, BadSteps) as problem:
            with outcome.raised_after(problem, folder, state, config):
                yield from loop.save_last_step() if loop is not None else reporter.flush()
        except Problem:
            yield from reporter.flush()  # reports a checkpoint that was completed meanwhile
            raise


class Loop:
    """Takes the steps of a prepared run. Every rank of a distributed run walks the same loop."""

    def __init__(self, run: PreparedRun) -> None:
        self._run = run
        self._step = Step(run.family, run.adapter, run.config, run.state, run.group)

    def take_steps(self) -> Events:
        """Train until the last step or until a stop is requested. Raises MachineLost, BadSteps."""
        run, config, outputs, reporter = self._run, self._run.config, self._run.outputs, self._run.reporter
        # Yielding collects requests; outputs.save and outputs.sample clear theirs. Peers see only STOP.
        for step in range(run.state.step + 1, config.steps + 1):
            reporter.request = run.group.agree(reporter.request)
            if Request.STOP in reporter.request:
                yield from outputs.save_if_newer()
                return
            with assistant.enabled(run.assistant):
                self._step.submit(step, run.batches, before_update=outputs.wait_until_copied)
            save = due.saves(step, config.steps, config.save_every)
            score, sample = validation.is_due(step, config), preview.is_due(step, config)
            runs_ahead = backend.policy().runs_ahead and not (save or score or sample)
            yield from self._report_steps(in_flight=1 if runs_ahead else 0)
            if reporter.request:
                yield from self._report_steps()  # requests are fulfilled after the step under way
            if score:
                yield from outputs.score()
            if save or Request.STOP in reporter.request or Request.SAVE in reporter.request:
                yield from outputs.save()
            if sample or Request.SAMPLE in reporter.request:
                yield from outputs.sample()

    def save_last_step(self) -> Events:
        """When the run cannot continue: read the steps in flight (their gradients are already summed), then save."""
        run = self._run
        yield from self._report_steps(check=False)
        outcome.reset_bad_steps(run.state)
        yield from run.outputs.save_if_newer()
        yield from run.reporter.flush()

    def _report_steps(self, in_flight: int = 0, *, check: bool = True) -> Events:
        """Report all submitted steps but the last `in_flight`. Raises BadSteps if `check` is set."""
        for stepped in self._step.read(in_flight):
            yield from self._run.reporter.report(stepped)
            if check:
                outcome.check_losses(self._run.state, stepped)
