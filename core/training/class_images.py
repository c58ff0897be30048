"""Prior preservation: the base model draws pictures of the class before the first step; they are trained on too.

    "a photo of can"  --base, without any adapter-->  l_T of each class picture
    loss = mean over photos + prior_weight * mean over class pictures         core/loss.py

A few photos of one can would teach the model that every can is this one. The class pictures keep it close to what it
drew before: the same loss, with the class prompt as caption, on the latents that the sampler ended with (not decoded
and encoded again).

The user's own pictures of the class (knob `class_folder`) are trained on beside the drawn ones, with the same caption.
Each is cut to the bucket of the photos that is nearest to its shape; a bucket that none is nearest to has the picture
that fits it best.

    cache/class/<key>.safetensors         key = hash of model, precision, prompt, seed, size, sampler steps, guidance
    <run>/class_pictures/<number>.png     for people to look at

They are drawn with the model's default sampler settings, not with the run's, which a resumed run may change while it
needs the same class pictures. Each is cached as soon as it is drawn, so an interrupted run continues from there.

Source: Ruiz et al. 2022, arXiv:2208.12242, section 3.3.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.config.choices import precision_of
from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.dataset import captions, latents, photos
from core.dataset.batches import Encoded
from core.dataset.buckets import Bucket
from core.dataset.examples import Example
from core.errors import DataProblem, FieldProblem
from core.models.base import Conditioning, Family, Grid
from core.models.quantized import bits_of
from core.randomness import number_for
from core.sampling import drawing, ticks, to_image
from core.training.background_writer import Work, writing
from core.training.events import ClassPicture, Note, Phase, Progress, Request

PARTS = ("transformer", "vae", "text")  # of the model; a training assistant does not affect pictures


@dataclass(frozen=True, slots=True)
class ClassImages:
    """The class pictures of a run; no adapter may be attached to the network yet."""

    family: Family
    config: TrainConfig
    folder: Path  # the run's
    cache: Path
    prompt: str  # with the class word filled in
    texts: dict[str, Conditioning]  # of the prompt and of ""
    grids: tuple[Grid, ...]  # of each class picture, from `distribute`
    encoded: list[Encoded] = field(default_factory=list)  # those ready to train on
    drawn: list[int] = field(default_factory=list)  # the numbers of those that were not cached

    def file(self, number: int) -> Path:
        return self.folder / "class_pictures" / f"{number:04d}.png"

    def seed(self, number: int) -> int:
        return number_for("class picture", self.config.seed, number) % 2**31

    def summary(self) -> str:
        """How many there are, in words: "12 class pictures of 'a photo of can', 8 of them drawn now." """
        count, new = len(self.encoded), len(self.drawn)
        pictures = "1 class picture" if count == 1 else f"{count} class pictures"
        return f"{pictures} of {self.prompt!r}, {new or 'none'} of them drawn now."

    def pictures(self) -> Iterator[Work | None]:
        """Load or draw the class pictures one at a time.

        Yields the work that writes each, and None between two sampler steps. Raises DiskProblem.
        """
        best = resolve({}, self.family.defaults).config
        steps, guidance = best.sample_steps, best.sample_guidance
        model = [self.family.name, latents.family_dtype(self.family), precision_of(bits_of(self.family.transformer))]
        model += [self.family.hashes[part] for part in PARTS]
        for number, grid in enumerate(self.grids):
            width, height = (tokens * self.family.pixel_multiple for tokens in (grid.columns, grid.rows))
            seed, image = self.seed(number), None
            key = latents.key_of("class", model, self.prompt, seed, width, height, steps, guidance)
            cached, notes = latents.read(self.cache / "class", key)
            if not cached:
                sampler = drawing(
                    self.family,
                    self.texts[self.prompt],
                    height_px=height,
                    width_px=width,
                    steps=steps,
                    guidance=guidance,
                    seed=seed,
                    negative_prompt=self.texts[""],
                    about={"prompt": self.prompt, "negative_prompt": ""},
                )
                picture = yield from ticks(sampler)
                cached, notes, image = {"l_T": picture.l_T}, {"recipe": json.dumps(picture.recipe)}, picture.image
                latents.write(self.cache / "class", key, cached, notes)
                self.drawn.append(number)
            file = self.file(number)
            if image is None and not file.is_file():
                image = to_image(self.family.decode(cached["l_T"], grid))
            self.encoded.append(Encoded(cached["l_T"], None, self.texts[self.prompt], grid))
            event = ClassPicture(number, self.prompt, seed, file, width, height, json.loads(notes["recipe"]))
            yield writing(image, event)


def prompt_of(config: TrainConfig, trigger: str, class_word: str) -> tuple[str, ...]:
    """The run's class prompt with placeholders filled in; empty without class pictures. Raises DataProblem."""
    return (captions.fill(config.class_prompt, trigger, class_word),) if config.has_class_pictures else ()


def encode_own(
    family: Family,
    pictures: Sequence[Example],
    conditioning: Conditioning,
    grids: Sequence[Grid],
    config: TrainConfig,
    cache: Path,
) -> Generator[Progress, Request | None, list[Encoded]]:
    """The user's own class pictures, each in its bucket among `grids`, those of the photos.

    Raises DataProblem that names every picture that cannot be read, DiskProblem.
    """
    encoded: list[Encoded] = []
    problems: list[FieldProblem] = []
    sizes = [photos.size_of(each.photo) for each in pictures]
    wanted = assign(sizes, grids, config.sides_px, family.pixel_multiple)
    yield Phase("encoding class pictures", 0, len(wanted))
    for done, (number, grid) in enumerate(wanted, start=1):
        bucket = Bucket(grid.columns * family.pixel_multiple, grid.rows * family.pixel_multiple)
        try:
            l_T = latents.latents_of(family, pictures[number], bucket, cache)
            encoded.append(Encoded(l_T, None, conditioning, grid))
        except DataProblem as problem:
            problems.append(FieldProblem(pictures[number].label, problem.message))
        yield Phase("encoding class pictures", done, len(wanted))
    family.free("vae")
    if problems:
        raise DataProblem("Some of your class pictures cannot be trained on; replace or remove them.", problems)
    yield Note(f"{len(pictures)} class picture{'' if len(pictures) == 1 else 's'} of your own.")
    return encoded


def assign(
    sizes: Sequence[tuple[int, int]], grids: Sequence[Grid], sides_px: Sequence[int], multiple: int
) -> list[tuple[int, Grid]]:
    """(number of the picture, its bucket) of each example, for pictures of these (width, height).

    For each picture size of the run, a picture is in the bucket of nearest shape; every bucket has one at least.
    """
    by_side: dict[int, list[Grid]] = {}
    for grid in dict.fromkeys(grids):
        side = min(sides_px, key=lambda each: abs(each**2 - grid.tokens * multiple**2))
        by_side.setdefault(side, []).append(grid)

    def apart(size: tuple[int, int], grid: Grid) -> float:
        return abs(math.log(size[0] / size[1]) - math.log(grid.columns / grid.rows))

    found: list[tuple[int, Grid]] = []
    for choices in by_side.values():
        nearest = [min(choices, key=lambda grid: apart(size, grid)) for size in sizes]
        found += enumerate(nearest)
        numbers = range(len(sizes))
        found += [
            (min(numbers, key=lambda number: apart(sizes[number], grid)), grid)
            for grid in choices
            if grid not in nearest
        ]
    return found


def distribute(count: int, photos: Sequence[Grid]) -> tuple[Grid, ...]:
    """The bucket of each of `count` class pictures: at least one for each bucket, then in proportion to the photos.

    With more buckets than `count` there are more pictures. A larger count extends a smaller one, so that pictures drawn
    before are used again.
    """
    share, assigned = Counter(photos), dict.fromkeys(photos, 0)
    grids = []
    for _ in range(max(count, len(share))):
        grid = min(assigned, key=lambda each: assigned[each] / share[each])
        assigned[grid] += 1
        grids.append(grid)
    return tuple(grids)
