"""Everything before the first step: the checkpoint, the encoded examples, the adapter, the outputs of step 0.

load_checkpoint      the newest intact checkpoint, or a folder cleared for a new run
encode_material      texts, photos and class pictures as the network reads them; cached     encode.py, class_images.py
setup.attach         the adapter, and the state that the first step changes                 setup.py
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from core.adapters.lora import Adapter
from core.config.train import TrainConfig
from core.dataset.batches import Batches, Encoded
from core.models.base import Conditioning, Family, Grid
from core.training import checkpoint, identity, setup
from core.training.checkpoint import State
from core.training.class_images import ClassImages, distribute, encode_own
from core.training.encode import Material, captions_of, encode_photos, read_texts
from core.training.events import Note, Progress, Request, Resumed
from core.training.group import Group, Start
from core.training.judging import Judging
from core.training.outputs import Outputs, RunOutputs
from core.training.preview import Previews
from core.training.reporter import Reporter
from core.training.run import Run
from core.training.validation import Scoring


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """What the training loop works on; every rank of a distributed run has one."""

    family: Family
    config: TrainConfig
    state: State
    adapter: Adapter
    assistant: Adapter | None  # only for distilled models
    batches: Batches
    group: Group
    outputs: Outputs
    reporter: Reporter


def prepare(
    run: Run, state: State | None, reporter: Reporter, cleanup: ExitStack, *, resume: bool
) -> Generator[Progress, Request | None, PreparedRun | None]:
    """Prepare a run on rank 0, from the checkpoint `state` if there is one; None when the caller stops it.

    `cleanup` detaches the adapters.
    """
    family, config, group = run.family, run.config, run.group
    group.share_start(Start(config, family, run.folder, state, run.start_from))
    if resume:
        yield from reporter.report(Resumed(state.step if state else 0))
    material = yield from encode_material(run, reporter)
    group.share_material(material)
    if material is None:
        return None
    shift = setup.shift_of(family, state)
    batches = batches_of(material, config, shift)
    attached = setup.attach(family, config, run.folder, run.data_hash, state, run.start_from, cleanup)
    for note in attached.notes:
        yield from reporter.report(note)
    scored = material.held or material.learned[:1]  # without held-out photos, score the first training photo
    scoring = Scoring(family, attached.adapter, scored, bool(material.held), config, shift)
    previews = Previews(family, config, run.folder, run.prompts, material.texts, attached.state.start_hash)
    judging = Judging(
        family, config, run.prompts, run.bare_prompts, material.texts, run.examples, run.held_out, run.dinov2
    )
    outputs = RunOutputs(run, attached, scoring, previews, judging, reporter)
    yield from outputs.begin()
    return PreparedRun(
        family, config, attached.state, attached.adapter, attached.assistant, batches, group, outputs, reporter
    )


def batches_of(material: Material, config: TrainConfig, shift: Callable[[Grid], float]) -> Batches:
    return Batches(list(material.learned), material.texts[""], config, shift, material.prior)


def load_checkpoint(run: Run, reporter: Reporter, *, resume: bool) -> Generator[Progress, Request | None, State | None]:
    """Return the newest intact checkpoint if `resume`; otherwise delete the earlier run's files and return None."""
    checkpoint.remove_partial_writes(run.folder)
    state, damaged = checkpoint.newest(run.folder) if resume else (None, [])
    for sentence in damaged:
        yield from reporter.report(Note(sentence, "warning"))
    if state is not None:
        start = setup.start_hash(state, run.start_from)
        identity.check_same_run(state, run.config, run.data_hash, run.family.hashes, start)
    setup.check(run.family, run.config, state, run.start_from)
    if state is not None:
        checkpoint.set_aside_after(run.folder, state.step)
        if damaged:
            yield from reporter.report(Note(f"Checkpoint {state.step} is used instead.", "warning"))
    if not resume:
        checkpoint.clear(run.folder)
    return state


def encode_material(run: Run, reporter: Reporter) -> Generator[Progress, Request | None, Material | None]:
    """Texts, photos and class pictures as the network reads them; None when the caller stops the run."""
    family, config = run.family, run.config
    captions = captions_of(run.examples, config, run.trigger)
    wanted = ["", *run.prompts, *run.bare_prompts.values(), *captions, *run.class_prompt]
    texts = yield from reporter.forward(read_texts(family, wanted, run.cache))
    if texts is None:
        return None
    photos = encode_photos(family, run.examples, texts, config, run.cache, run.trigger, run.held_out)
    encoded = yield from reporter.forward(photos)
    if encoded is None:
        return None
    learned = [each for each in encoded if each.photo not in run.held_out]
    prior = yield from _class_images(run, reporter, learned, texts)
    if reporter.stopping:
        return None
    return Material(learned, [each for each in encoded if each.photo in run.held_out], prior, texts)


def _class_images(
    run: Run, reporter: Reporter, photos: Sequence[Encoded], texts: dict[str, Conditioning]
) -> Generator[Progress, Request | None, Sequence[Encoded]]:
    """The user's own class pictures, then those that the base draws, in the buckets of the photos.

    Fewer when the caller stops the run.
    """
    if not run.class_prompt:
        return ()
    (prompt,) = run.class_prompt
    buckets = [each.grid for each in photos]
    own: Sequence[Encoded] = ()
    if run.own_class_pictures:
        encoding = encode_own(run.family, run.own_class_pictures, texts[prompt], buckets, run.config, run.cache)
        encoded = yield from reporter.forward(encoding)
        if encoded is None or not run.config.class_pictures:
            return encoded or ()
        own = encoded
    grids = distribute(run.config.class_pictures, buckets)
    images = ClassImages(run.family, run.config, run.folder, run.cache, prompt, texts, grids)
    yield from reporter.draw("drawing class pictures", len(grids), images.pictures())
    yield from reporter.flush()
    yield from reporter.report(Note(images.summary()))
    return [*own, *images.encoded]
