"""The training loop. It yields what happens and does what it is asked to; saving state and stopping well are its part.

    read texts, encode photos        once, cached; the encoders are freed                    training/encoding.py
    draw class pictures, if any      once, cached; before there is an adapter                training/prior.py
    for step in 1 ... steps:
        A, B <- rule(A, B, gradient of the loss)                                             training/step.py
        yield Stepped; then what is due or requested: a checkpoint, sample pictures

A device that runs ahead is told the next step first, where nothing is due: it never waits for a loss to be heard. What
is written is finished in a thread beside the steps (background_writer.py), and said when it is whole.

    run = train(family, examples, config, folder, trigger="sks", class_word="can")
    for progress in run: ...         or   progress = run.send(Request.STOP)   or   run.close()

Every draw is a function of (seed, step, example), and a checkpoint holds exact float32 weights and all that the
optimizer remembers, so a run that was stopped or killed and resumed ends bit for bit like one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

from core.adapters import diffusers, lora
from core.adapters import file as adapter_file
from core.config.optimizer_defaults import rate_advice
from core.config.train import TrainConfig
from core.dataset.batches import Batches, Encoded
from core.dataset.examples import Example
from core.device import backend
from core.distributed import handoff
from core.distributed.process_group import ALONE, Group, MachineLost
from core.errors import AdapterProblem, ConfigProblem, DataProblem, FieldProblem, Problem, TrainingProblem
from core.models.base import Conditioning, Family
from core.training import assistant, checkpoint, ema, outcome, setup, validation
from core.training.background_writer import Work, Writer
from core.training.class_images import Prior, prompt_of, shared_out
from core.training.encode import Material, captions_of, encode_photos, read_texts
from core.training.events import Finished, Note, Phase, Progress, Request, Resumed
from core.training.outcome import BadSteps
from core.training.preview import Previews, prompts_of
from core.training.step import Step
from core.training.validation import Scoring

Made = TypeVar("Made")
SECONDS_BETWEEN_QUESTIONS = 1.0  # a picture takes long; its caller may want to stop in the middle of it


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
) -> Generator[Progress, Request | None, None]:
    """Train an adapter in `folder`, yielding progress; the last thing yielded is `Finished`.

    With `resume` the run goes on from its newest whole checkpoint (from the start when it has none); without it, what
    an earlier run left in `folder` is removed. The family is left as it was found, without the adapter.

    `start_from` is an adapter file that the run begins with: it trains the layers that the file has, at the file's
    ranks, with alpha / rank in B already; the knobs targets, rank, alpha and ranks have no say then. Once there is a
    checkpoint the file is only held against it, and not needed.

    With a `group` this is its first machine, and the others take their shares of each step (core/distributed/peer.py).

    A request to stop is heard before the first step too: what was read and encoded by then is kept in the cache.

    Raises DataProblem, AdapterProblem, ConfigProblem, ModelProblem, DiskProblem, and TrainingProblem after three steps
    in a row whose loss was not finite, or when a machine of the group is lost; the last whole step is saved then, and
    where the disk has no room for it, DiskProblem says both.
    """
    if not examples:
        raise DataProblem("There are no photos to train on; add at least one.")
    run = Run(family, examples, config, folder, trigger, class_word, cache, start_from, title, group)
    try:
        yield from run.go(resume)
    except MachineLost as lost:
        yield from run.keep(lost, "Resume the run with all machines, or on fewer.")
    except BadSteps as bad:
        yield from run.keep(bad, f"Try a lower learning rate (it is {config.learning_rate:g}).")
    except Problem:
        yield from run.settle()  # a checkpoint that became whole is said, whatever ended the run
        raise
    finally:
        run.end()


class Run:
    """One call of `train`: what its parts share."""

    def __init__(
        self,
        family: Family,
        examples: Sequence[Example],
        config: TrainConfig,
        folder: Path,
        trigger: str,
        class_word: str,
        cache: Path,
        start_from: Path | None,
        title: str,
        group: Group,
    ) -> None:
        if config.machines % group.size:
            words = f"is {config.machines}, and {group.size} are here; they must share it evenly"
            raise ConfigProblem("Some settings need another look.", [FieldProblem("machines", words)])
        self.group = group
        self.family, self.examples, self.config, self.folder, self.cache = family, examples, config, folder, cache
        self.trigger, self.title = trigger, title or trigger
        self.prompts = prompts_of(config, trigger, class_word)
        self.held = validation.choose(config.held_out, [each.name or each.photo.name for each in examples], config.seed)
        self.scoring: Scoring | None = None
        self.class_prompt = prompt_of(config, trigger, class_word)
        self.data_hash = checkpoint.data_hash_of(
            examples, [*([trigger] if config.trigger_dropout else []), *self.class_prompt]
        )
        self.start_from = start_from
        self.request = Request.NONE
        self.state: checkpoint.State | None = None
        self.one: Step | None = None
        self.adapter: lora.Adapter | None = None
        self.assistant: lora.Adapter | None = None
        self.writer = Writer()
        self.snapshot: checkpoint.Snapshot | None = None
        self.started, self.started_at = time.monotonic(), time.time()
        self.peak = 0
        self.policy = backend.prepare().policy
        backend.reset_peak_memory()

    # The order of things

    def go(self, resume: bool) -> Generator[Progress, Request | None, None]:
        self.state = yield from self.found(resume)
        if resume:
            yield from self.say(Resumed(self.state.step if self.state else 0))
        material = yield from self.encoded()
        if material is None:
            yield self.finished()
            return
        learned, held, texts = material.learned, material.held, material.texts
        batches = Batches(learned, texts[""], self.config, self.family.training_shift, material.prior)

        yield from self.attach(self.state)
        self.scoring = Scoring(self.family, self.adapter, held or learned[:1], bool(held), self.config)
        previews = Previews(self.family, self.config, self.folder, self.prompts, texts, self.state.start)
        if not self.state.scores and Request.STOP not in self.request:
            yield from self.score()
        if previews.due(self.state.step) and previews.missing(self.state.step):
            yield from self.sample(previews)
        self.request = self.group.agree(self.request)
        if Request.STOP not in self.request:
            yield from self.steps(batches, previews)
        yield from self.settle()
        yield self.finished()

    def found(self, resume: bool) -> Generator[Progress, Request | None, checkpoint.State | None]:
        """The checkpoint to go on from, if any; what else lies in the folder is removed when the run is a new one."""
        config = self.config
        checkpoint.remove_partial_writes(self.folder)
        state, sentences = checkpoint.newest(self.folder) if resume else (None, [])
        for sentence in sentences:
            yield from self.say(Note(f"{sentence[0].upper()}{sentence[1:]} The one before it is used.", "warning"))
        if state is not None:
            start = setup.start_hash(state, self.start_from)
            checkpoint.check_same_run(state, config, self.data_hash, self.family.hashes, start)
            checkpoint.set_aside_after(self.folder, state.step)
        if not resume:
            checkpoint.clear(self.folder)
        handoff.give(self.group, config, self.family, self.folder, state, self.start_from)
        return state

    def encoded(self) -> Generator[Progress, Request | None, Material | None]:
        """What is trained on, drawn and scored, as the network reads it; None when the run is to stop before."""
        material = yield from self.read()
        handoff.give_examples(self.group, material)
        return material

    def read(self) -> Generator[Progress, Request | None, Material | None]:
        captions = captions_of(self.examples, self.config, self.trigger)
        wanted = ["", *self.prompts, *captions, *self.class_prompt]
        texts = yield from self.heed(read_texts(self.family, wanted, self.cache))
        if texts is None:
            return None
        photos = encode_photos(self.family, self.examples, texts, self.config, self.cache, self.trigger, self.held)
        encoded = yield from self.heed(photos)
        if encoded is None:
            return None
        learned = [each for each in encoded if each.photo not in self.held]
        prior = yield from self.prior(learned, texts)
        if Request.STOP in self.request:
            return None
        return Material(learned, [each for each in encoded if each.photo in self.held], prior, texts)

    def steps(self, batches: Batches, previews: Previews) -> Generator[Progress, Request | None, None]:
        state, config = self.state, self.config
        self.one = Step(self.family, self.adapter, config, state, self.group)
        for step in range(state.step + 1, config.steps + 1):
            with assistant.enabled(self.assistant):
                self.one.submit(step, batches, before_update=self.copied)
            to_save = step == config.steps or step % config.save_every == 0
            at_once = to_save or self.scoring.due(step) or previews.due(step)
            yield from self.hear(leave=0 if at_once or not self.policy.runs_ahead else 1)
            if self.request:
                yield from self.hear()  # of the step under way too, for the request is fulfilled after that
            if self.scoring.due(step):
                yield from self.score()
            if to_save or self.request & (Request.STOP | Request.SAVE):
                yield from self.save()
            if previews.due(step) or Request.SAMPLE in self.request:
                yield from self.sample(previews)
            if step < config.steps:
                self.request = self.group.agree(self.request)
            if Request.STOP in self.request:
                yield from self.settle()
                if not checkpoint.is_newest(self.folder, step):
                    yield from self.save()  # the request came while the pictures were drawn
                return

    def hear(self, leave: int = 0, *, ends: bool = False) -> Generator[Progress, Request | None, None]:
        """Say what became of the steps, but for the last `leave`: a device that runs ahead is at those.

        Raises BadSteps, unless the run `ends` anyway.
        """
        for stepped in self.one.read(leave):
            self.note_memory()
            self.state.seconds += stepped.seconds
            yield from self.say(stepped)
            if not ends:
                outcome.check_losses(self.state, stepped)

    def say(self, progress: Progress) -> Generator[Progress, Request | None, None]:
        """Yield, and what became whole on the disk by now; remember what the caller answers."""
        for each in chain([progress], self.writer.written()):
            self.request |= (yield each) or Request.NONE

    def settle(self) -> Generator[Progress, Request | None, None]:
        """Wait until all that is being written is whole, and say it."""
        for progress in self.writer.rest():
            yield from self.say(progress)

    def heed(self, work: Generator[Progress, Request | None, Made]) -> Generator[Progress, Request | None, Made | None]:
        """Yield what `work` yields, remember what the caller answers, and return what it returns.

        When the run is to stop, the work is left where it is; None then.
        """
        while Request.STOP not in self.request:
            try:
                progress = next(work)
            except StopIteration as done:
                return done.value
            yield from self.say(progress)
            self.group.check()
        self.family.free("text", "vae")  # whichever was at it
        return None

    # Before the first step

    def prior(
        self, photos: Sequence[Encoded], texts: dict[str, Conditioning]
    ) -> Generator[Progress, Request | None, Sequence[Encoded]]:
        """The class pictures, in the buckets of the photos; fewer when the run is to stop."""
        if not self.class_prompt:
            return ()
        grids = shared_out(self.config.class_pictures, [each.grid for each in photos])
        prior = Prior(self.family, self.config, self.folder, self.cache, *self.class_prompt, texts, grids)
        yield from self.draw("drawing class pictures", len(grids), prior.pictures())
        yield from self.settle()
        yield from self.say(Note(prior.counted()))
        return prior.encoded

    def attach(self, state: checkpoint.State | None) -> Generator[Progress, Request | None, None]:
        config = self.config
        self.adapter, sentence = setup.attach(self.family, config, state, self.start_from)
        if state is None:
            begun = (self.adapter, self.family, config, self.folder, self.data_hash, self.start_from)
            state = setup.first_state(*begun)
        else:
            sentence = setup.go_on(self.adapter, state, self.family, config, self.folder)
        if sentence:
            yield from self.say(Note(sentence))
        self.state = state
        self.assistant = assistant.attach(self.family)
        unsuited = rate_advice(config.optimizer, config.learning_rate)
        if unsuited:
            yield from self.say(Note(unsuited, "warning"))
        if self.assistant is None and self.family.distilled:
            yield from self.say(Note(assistant.UNASSISTED, "warning"))

    # After a step

    def score(self) -> Generator[Progress, Request | None, None]:
        with assistant.enabled(self.assistant), ema.applied(self.adapter, self.state):
            scored = self.scoring.take(self.state)
        self.note_memory()
        yield from self.say(scored)

    def save(self) -> Generator[Progress, Request | None, None]:
        self.request &= ~Request.SAVE
        state = self.state
        with ema.applied(self.adapter, state):
            factors = self.adapter.folded()
        try:
            adapter_file.check_worth(factors)
        except AdapterProblem as problem:
            if state.step == self.config.steps:
                raise TrainingProblem(f"Nothing was learned in {state.step} steps. {problem.message}") from None
            yield from self.say(Note(f"No checkpoint at step {state.step}. {problem.message}", "warning"))
            return
        metadata = diffusers.metadata_for(
            self.config,
            family=self.family.name,
            modelspec=self.family.modelspec,
            title=self.title,
            trigger=self.trigger,
            step=state.step,
            rank=max(a_RI.shape[0] for a_RI, _ in factors.values()),
            photos=len(self.examples),
            started_at=self.started_at,
        )
        yield from self.settle()  # no two checkpoints are on their way
        self.snapshot = checkpoint.Snapshot(self.folder, state, diffusers.tensors_of(factors), metadata)
        self.writer.give(self.snapshot.write)

    def copied(self) -> None:
        """Wait until nobody but the run holds the state's tensors: an update then needs no further memory.

        What a card has moved out of its own memory, to be read, needs none there.
        """
        if self.snapshot is not None and not self.policy.own_memory:
            self.snapshot.copied.wait()

    def keep(self, problem: TrainingProblem, advice: str) -> Generator[Progress, Request | None, None]:
        """Save the last whole step, and raise `problem` with what became of that."""
        state = self.state
        with outcome.said_with(problem, self.folder, state, advice):
            if self.one is not None:
                yield from self.hear(ends=True)  # what is under way needs no other machine
            yield from self.settle()
            if self.one is not None and state.step and not checkpoint.is_newest(self.folder, state.step):
                outcome.count_anew(state)
                self.adapter.update(state.parameters)
                yield from self.save()
                yield from self.settle()

    def sample(self, previews: Previews) -> Generator[Progress, Request | None, None]:
        self.request &= ~Request.SAMPLE
        with ema.applied(self.adapter, self.state):
            yield from self.draw("drawing samples", len(previews.prompts), previews.pictures(self.state.step))

    def draw(self, phase: str, of: int, pictures: Iterable[Work | None]) -> Generator[Progress, Request | None, None]:
        """Have each picture written, and ask in between whether to stop."""
        done, asked = 0, time.monotonic()
        yield from self.say(Phase(phase, 0, of))
        for picture in pictures:
            if picture is not None:
                done += 1
                self.writer.give(picture)
            if picture is not None or time.monotonic() - asked > SECONDS_BETWEEN_QUESTIONS:
                asked = time.monotonic()
                yield from self.say(Phase(phase, done, of))
            self.group.check()
            if Request.STOP in self.request:
                break
        self.family.free("vae")
        self.note_memory()

    # The end

    def finished(self) -> Finished:
        self.note_memory()
        more = {"seconds": time.monotonic() - self.started, "peak_memory_bytes": self.peak, "held": bool(self.held)}
        return outcome.finished(self.state, self.config, self.folder, **more)

    def end(self) -> None:
        """Leave whole what was to be written, and the family as it was found."""
        self.writer.end()
        for adapter in (self.adapter, self.assistant):
            if adapter is not None:
                adapter.detach()

    def note_memory(self) -> None:
        self.peak = max(self.peak, backend.peak_memory())
