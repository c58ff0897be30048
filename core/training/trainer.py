"""The training loop. It yields what happens and does what it is asked to; saving state and stopping well are its part.

    encode texts, encode photos      once, cached; the encoders are freed
    for step in 1 ... steps:
        g = mean over micro-steps of  d/d(A, B) dreambooth_loss(batch(step, micro))          core/loss.py
        A, B = AdamW(A, B, g)        unless the loss is not finite                           training/optimizer.py
        yield Stepped; then what is due or wished: a checkpoint, sample pictures

    run = train(family, examples, config, folder, trigger="sks", class_word="can")
    for progress in run: ...         or   progress = run.send(Wish.STOP)   or   run.close()

Every draw is a function of (seed, step, example), and a checkpoint holds exact float32 weights and moments, so a run
that was stopped or killed and resumed ends bit for bit like one that was not.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlx.core as mx

from core import backend, files, lora
from core.config import TrainConfig
from core.dataset import buckets, crops, latents, photos
from core.dataset.batches import Batch, Batches, Encoded
from core.dataset.buckets import Bucket
from core.dataset.examples import Example
from core.errors import AdapterProblem, DataProblem, FieldProblem, Problem, TrainingProblem
from core.export import adapter_file, diffusers
from core.loss import dreambooth_loss
from core.models.base import Conditioning, Family, Grid
from core.randomness import key_for
from core.training import assistant, checkpoint
from core.training.optimizer import Moments, Tensors, learning_rate, update
from core.training.preview import Previews, prompts_of
from core.training.progress import Finished, Note, Phase, Progress, Resumed, Sampled, Saved, Stepped, Wish

BAD_STEPS_ALLOWED = 3  # in a row; one more chance than bad luck needs
SECONDS_BETWEEN_QUESTIONS = 1.0  # a picture takes long; its caller may want to stop in the middle of it
LOSSES_AVERAGED = 20  # a single step's loss says more about its sigma than about the adapter


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
) -> Generator[Progress, Wish | None, None]:
    """Train an adapter in `folder`, yielding progress; the last thing yielded is `Finished`.

    With `resume` the run goes on from its newest whole checkpoint (from the start when it has none); without it, what
    an earlier run left in `folder` is removed. The family is left as it was found, without the adapter.

    `start_from` is an adapter file that the run begins with: it trains the layers that the file has, at the file's
    ranks, with alpha / rank in B already; the knobs targets, rank and alpha have no say then. Once there is a
    checkpoint the file is only held against it, and not needed.

    Raises DataProblem, AdapterProblem, ConfigProblem, ModelProblem, DiskProblem, and TrainingProblem after three steps
    in a row whose loss was not finite.
    """
    run = _Run(family, examples, config, folder, trigger, class_word, cache, start_from, title)
    try:
        yield from run.go(resume)
    finally:
        run.end()


class _Run:
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
    ) -> None:
        if not examples:
            raise DataProblem("There are no photos to train on; add at least one.")
        self.family, self.examples, self.config, self.folder, self.cache = family, examples, config, folder, cache
        self.trigger, self.title = trigger, title or trigger
        self.prompts = prompts_of(config, trigger, class_word)
        self.data_hash = _data_hash(examples)
        self.start_from = start_from
        self.wish = Wish.NOTHING
        self.adapter: lora.Adapter | None = None
        self.assistant: lora.Adapter | None = None
        self.started, self.started_at = time.monotonic(), time.time()
        self.peak = 0
        mx.reset_peak_memory()

    # The order of things

    def go(self, resume: bool) -> Generator[Progress, Wish | None, None]:
        config = self.config
        state, sentences = checkpoint.newest(self.folder) if resume else (None, [])
        for sentence in sentences:
            yield from self.say(Note(f"{sentence[0].upper()}{sentence[1:]} The one before it is used.", "warning"))
        if state is not None:
            checkpoint.check_same_run(state, config, self.data_hash, self.family.hashes, self.start_hash(state))
        if not resume:
            checkpoint.clear(self.folder)

        texts = yield from self.encode_texts()
        encoded = yield from self.encode_photos(texts)
        batches = Batches(encoded, texts[""], config, self.family.training_shift)

        yield from self.attach(state)
        previews = Previews(self.family, config, self.folder, self.prompts, texts, self.state.start)
        if resume:
            yield from self.say(Resumed(self.state.step))
        if previews.due(self.state.step) and previews.missing(self.state.step):
            yield from self.sample(previews)
        if Wish.STOP not in self.wish:
            yield from self.steps(batches, previews)
        yield self.finished()

    def steps(self, batches: Batches, previews: Previews) -> Generator[Progress, Wish | None, None]:
        micro_step, apply = self.micro_steps(), self.optimizer_step()
        state, config = self.state, self.config
        for step in range(state.step + 1, config.steps + 1):
            began = time.monotonic()
            with assistant.heard(self.assistant):
                stepped = self.step(step, batches, micro_step, apply)
            state.seconds += time.monotonic() - began
            yield from self.say(stepped)
            if state.bad_steps_in_a_row >= BAD_STEPS_ALLOWED:
                raise TrainingProblem(
                    f"The loss was not a number in {BAD_STEPS_ALLOWED} steps in a row, the last at step {step}. The "
                    f"adapter is as it was before them. Try a lower learning rate (it is {config.learning_rate:g})."
                )
            last = step == config.steps
            if last or step % config.save_every == 0 or self.wish & (Wish.STOP | Wish.SAVE):
                yield from self.save()
            if previews.due(step) or Wish.SAMPLE in self.wish:
                yield from self.sample(previews)
            if Wish.STOP in self.wish:
                if checkpoint.steps_saved(self.folder)[-1:] != [step]:
                    yield from self.save()  # the wish came while the pictures were drawn
                return

    def say(self, progress: Progress) -> Generator[Progress, Wish | None, None]:
        """Yield, and remember what the caller answers."""
        self.wish |= (yield progress) or Wish.NOTHING

    # Before the first step

    def encode_texts(self) -> Generator[Progress, Wish | None, dict[str, Conditioning]]:
        wanted = list(dict.fromkeys(["", *self.prompts, *(example.caption for example in self.examples)]))
        texts: dict[str, Conditioning] = {}
        yield from self.say(Phase("reading captions", 0, len(wanted)))
        for done, (prompt, conditioning) in enumerate(latents.texts_of(self.family, wanted, self.cache), start=1):
            texts[prompt] = conditioning
            yield from self.say(Phase("reading captions", done, len(wanted)))
        self.family.free("text")
        return texts

    def encode_photos(self, texts: dict[str, Conditioning]) -> Generator[Progress, Wish | None, list[Encoded]]:
        encoded: list[Encoded] = []
        problems: list[FieldProblem] = []
        placed: list[Bucket] = []
        enlarged: list[str] = []
        yield from self.say(Phase("encoding photos", 0, len(self.examples)))
        for done, example in enumerate(self.examples, start=1):
            try:
                width, height = photos.size_of(example.photo)
                sizes = buckets.of_photo(self.config, width, height, example.box, self.family.pixel_multiple)
                encoded += [self.encode(example, bucket, texts[example.caption]) for bucket in sizes]
                placed += sizes
                enlarged += [
                    f"{example.name or example.photo.name} {times:.1f} times, to {bucket}"
                    for bucket in sizes
                    if (times := crops.enlargement(width, height, (bucket.width, bucket.height), example.box))
                    > buckets.ENLARGED_AT_MOST
                ]
            except (DataProblem, FileNotFoundError) as error:
                message = error.message if isinstance(error, Problem) else "is gone"
                problems.append(FieldProblem(example.name or example.photo.name, message))
            yield from self.say(Phase("encoding photos", done, len(self.examples)))
        self.family.free("vae")
        if problems:
            raise DataProblem("Some photos cannot be trained on; replace them or take them out.", problems)
        yield from self.say(Note(f"Trained at {buckets.counted(placed)}."))
        if enlarged:
            words = f"Enlarged, so soft: {'; '.join(enlarged)}. Choose a smaller picture size, larger photos or crops."
            yield from self.say(Note(words, "warning"))
        return encoded

    def encode(self, example: Example, bucket: Bucket, conditioning: Conditioning) -> Encoded:
        """One photo in one of its buckets. Raises DataProblem, DiskProblem, FileNotFoundError."""
        family, cache = self.family, self.cache
        l_T = latents.latents_of(family, example, bucket, cache)
        flipped = latents.latents_of(family, example, bucket, cache, flip=True) if self.config.flip else None
        return Encoded(l_T, flipped, conditioning, family.grid(bucket.height, bucket.width))

    def start_hash(self, state: checkpoint.State) -> str:
        """The hash of the file to begin with; one that is gone by now is taken to be what it was."""
        if self.start_from is None:
            return ""
        return files.sha256_of(self.start_from) if self.start_from.is_file() else state.start

    def attach(self, state: checkpoint.State | None) -> Generator[Progress, Wish | None, None]:
        config, transformer = self.config, self.family.transformer
        if state is None and self.start_from is not None:
            given = adapter_file.read(self.start_from, self.family.name)
            self.adapter = lora.attach_factors(transformer, given.factors, name="subject", trained=True)
            layers = f"{len(given.factors)} layers, rank {given.rank}"
            yield from self.say(Note(f"Begins with {self.start_from.name}: {layers}; these are what is trained."))
        elif state is not None and state.start:
            names = dict.fromkeys(name.rpartition(".")[0] for name in state.parameters)
            held = {name: (state.parameters[f"{name}.lora_A"], state.parameters[f"{name}.lora_B"]) for name in names}
            self.adapter = lora.attach_factors(transformer, held, name="subject", trained=True)
        else:
            targets = lora.resolve_targets(transformer, self.family.presets, config.targets)
            key = key_for("adapter", config.seed)
            self.adapter = lora.attach(transformer, targets, config.rank, config.alpha, key)
        if state is None:
            first = self.adapter.parameters()
            settings = json.loads(json.dumps(asdict(config)))
            hashes = dict(self.family.hashes)
            state = checkpoint.State(0, first, Moments.of(first), settings, self.data_hash, hashes, 0)
            state.start = files.sha256_of(self.start_from) if self.start_from is not None else ""
        else:
            if state.parameters.keys() != self.adapter.parameters().keys():
                raise TrainingProblem("The checkpoint holds other layers than this run trains; start a new run.")
            state.config = json.loads(json.dumps(asdict(config)))
            self.adapter.update(state.parameters)
        self.state = state
        self.assistant = assistant.attach(self.family)
        if self.assistant is None and self.family.distilled:
            yield from self.say(Note(assistant.UNASSISTED, "warning"))

    # A step

    def micro_steps(self) -> Callable[[Grid], Any]:
        """Loss and gradients of a micro-step on a grid, compiled where that pays.

        Each grid has a function of its own: a compiled one goes by the shapes of its arrays, and a wide grid has those
        of the tall one but not its positions.
        """
        family, config, adapter = self.family, self.config, self.adapter

        @functools.cache
        def on(grid: Grid) -> Any:
            def loss_of(parameters: Tensors, batch: tuple[Any, ...]) -> mx.array:
                clean_BLC, noise_BLC, sigma_B, conditioning = batch
                adapter.update(parameters)

                def predict(l_t_BLC: mx.array, sigma_B: mx.array) -> mx.array:
                    return family.velocity(l_t_BLC, sigma_B, conditioning, grid, config.train_guidance)

                return dreambooth_loss(predict, clean_BLC, noise_BLC, sigma_B)

            return backend.compile_step(mx.value_and_grad(loss_of))

        return on

    def optimizer_step(self) -> Any:
        """The optimizer's update, compiled where that pays."""
        config = self.config

        def apply(w: Tensors, g: Tensors, m: Tensors, v: Tensors, n: mx.array, loss: mx.array, lr: mx.array) -> Any:
            g = {name: value / config.accumulate for name, value in g.items()} if config.accumulate > 1 else g
            limit, decay = config.clip_norm, config.weight_decay
            new_w, moments, norm, counted = update(w, g, Moments(m, v, n), loss, lr, limit=limit, decay=decay)
            return new_w, moments.m, moments.v, moments.n, norm, counted

        return backend.compile_step(apply)

    def step(self, step: int, batches: Batches, micro_step: Callable[[Grid], Any], apply: Any) -> Stepped:
        """Take one optimizer step; afterwards `self.state` and the adapter hold the new weights, evaluated."""
        began, state, config = time.monotonic(), self.state, self.config
        loss, g = mx.array(0.0), None
        for micro in range(config.accumulate):
            batch: Batch = batches.batch(step, micro)
            arrays = (batch.clean_BLC, batch.noise_BLC, batch.sigma_B, batch.conditioning)
            one_loss, one_g = micro_step(batch.grid)(state.parameters, arrays)
            loss = loss + one_loss / config.accumulate
            g = one_g if g is None else {name: value + one_g[name] for name, value in g.items()}
            mx.eval(loss, g)
        lr = learning_rate(step, config)
        moments = state.moments
        w, m, v, n, norm, counted = apply(state.parameters, g, moments.m, moments.v, moments.n, loss, mx.array(lr))
        mx.eval(w, m, v, n, norm, counted)
        self.adapter.update(w)
        state.step, state.parameters, state.moments = step, w, Moments(m, v, n)
        state.next_example = batches.first_index(step + 1)
        value, fine = float(loss.item()), bool(counted.item())
        state.losses.append(value if math.isfinite(value) else None)
        state.bad_steps_in_a_row = 0 if fine else state.bad_steps_in_a_row + 1
        self.note_memory()
        return Stepped(step, value, lr, float(norm.item()), fine, time.monotonic() - began, self.peak)

    # After a step

    def save(self) -> Generator[Progress, Wish | None, None]:
        self.wish &= ~Wish.SAVE
        state = self.state
        factors = self.adapter.baked()
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
            photos=len(self.examples),
            started_at=self.started_at,
        )
        folder = checkpoint.save(self.folder, state, factors, metadata)
        size = sum(each.stat().st_size for each in folder.iterdir())
        yield from self.say(Saved(state.step, folder, size, files.sha256_of(folder / checkpoint.ADAPTER)))

    def sample(self, previews: Previews) -> Generator[Progress, Wish | None, None]:
        self.wish &= ~Wish.SAMPLE
        done, of = 0, len(previews.prompts)
        asked = time.monotonic()
        yield from self.say(Phase("drawing samples", 0, of))
        for picture in previews.pictures(self.state.step):
            if picture is not None:
                done += 1
                yield from self.say(picture)
            if picture is not None or time.monotonic() - asked > SECONDS_BETWEEN_QUESTIONS:
                asked = time.monotonic()
                yield from self.say(Phase("drawing samples", done, of))
            if Wish.STOP in self.wish:
                break
        self.family.free("vae")
        self.note_memory()

    # The end

    def finished(self) -> Finished:
        state = self.state
        recent = [loss for loss in state.losses if loss is not None][-LOSSES_AVERAGED:]
        saved = checkpoint.steps_saved(self.folder)
        adapter = self.folder / "checkpoints" / str(saved[-1]) / checkpoint.ADAPTER if saved else None
        self.note_memory()
        return Finished(
            step=state.step,
            stopped=state.step < self.config.steps,
            adapter=adapter,
            final_loss=sum(recent) / len(recent) if recent else None,
            held_out_loss=None,
            seconds=time.monotonic() - self.started,
            peak_memory_bytes=self.peak,
        )

    def end(self) -> None:
        """Leave the family as it was found."""
        for adapter in (self.adapter, self.assistant):
            if adapter is not None:
                adapter.detach()

    def note_memory(self) -> None:
        """`get_peak_memory` restarts at zero, not at what is held; so the larger of the two counts."""
        self.peak = max(self.peak, mx.get_peak_memory(), mx.get_active_memory())


def _data_hash(examples: Sequence[Example]) -> str:
    items = [
        [e.sha256, e.caption, [e.box.left, e.box.top, e.box.right, e.box.bottom] if e.box else None] for e in examples
    ]
    return hashlib.sha256(json.dumps(items).encode()).hexdigest()


__all__ = ["Finished", "Note", "Phase", "Progress", "Resumed", "Sampled", "Saved", "Stepped", "Wish", "train"]
