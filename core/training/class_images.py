"""Prior preservation: pictures of the class, drawn by the untouched base before the first step, are trained on too.

    "a photo of can"  --base, without any adapter-->  l_T of each class picture
    loss = mean over photos + prior_weight * mean over class pictures         core/loss.py

A few photos of one can would teach the model that every can is this one. The class pictures hold it to what it drew
before: the same loss, with the class prompt as their caption, on what the sampler ended with (no way through the VAE).

    cache/class/<key>.safetensors         key = hash of model, precision, prompt, seed, size, sampler steps, guidance
    <run>/class_pictures/<number>.png     for people to look at

They are drawn as the model is drawn with best, whatever the run's samples are drawn with: a resumed run may change
those, and has to find the same class pictures. What was drawn is kept at once, so a run that stops goes on from there.

Source: Ruiz et al. 2022, arXiv:2208.12242, section 3.3.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.config.choices import precision_of
from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.dataset import captions, latents
from core.dataset.batches import Encoded
from core.models.base import Conditioning, Family, Grid
from core.models.quantized import bits_of
from core.randomness import number_for
from core.sampling import drawing, ticks, to_image
from core.training.background_writer import Work, writing
from core.training.events import ClassPicture

PARTS = ("transformer", "vae", "text")  # of the model: a training assistant has no say in a picture


@dataclass(frozen=True, slots=True)
class Prior:
    """The class pictures of a run; its network must not have an adapter on yet."""

    family: Family
    config: TrainConfig
    folder: Path  # the run's
    cache: Path
    prompt: str  # with the class word filled in
    texts: dict[str, Conditioning]  # of the prompt and of ""
    grids: tuple[Grid, ...]  # of each class picture, as `shared_out` gives them
    encoded: list[Encoded] = field(default_factory=list)  # those that are there, ready to train on
    drawn: list[int] = field(default_factory=list)  # the numbers of those that were not there before

    def file(self, number: int) -> Path:
        return self.folder / "class_pictures" / f"{number:04d}.png"

    def seed(self, number: int) -> int:
        return number_for("class picture", self.config.seed, number) % 2**31

    def counted(self) -> str:
        """What there is by now, in words: "12 class pictures of 'a photo of can', 8 of them drawn now." """
        count, new = len(self.encoded), len(self.drawn)
        pictures = "1 class picture" if count == 1 else f"{count} class pictures"
        return f"{pictures} of {self.prompt!r}, {new or 'none'} of them drawn now."

    def pictures(self) -> Iterator[Work | None]:
        """Find or draw each class picture, one at a time, with a None between two sampler steps.

        What comes writes the picture, where it is not there yet. Raises DiskProblem.
        """
        best = resolve({}, self.family.defaults).config
        steps, guidance = best.sample_steps, best.sample_guidance
        model = [self.family.name, latents.family_dtype(self.family), precision_of(bits_of(self.family.transformer))]
        model += [self.family.hashes[part] for part in PARTS]
        for number, grid in enumerate(self.grids):
            width, height = (tokens * self.family.pixel_multiple for tokens in (grid.columns, grid.rows))
            seed, image = self.seed(number), None
            key = latents.key_of("class", model, self.prompt, seed, width, height, steps, guidance)
            kept, notes = latents.read(self.cache / "class", key)
            if not kept:
                walk = drawing(
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
                picture = yield from ticks(walk)
                kept, notes, image = {"l_T": picture.l_T}, {"recipe": json.dumps(picture.recipe)}, picture.image
                latents.write(self.cache / "class", key, kept, notes)
                self.drawn.append(number)
            file = self.file(number)
            if image is None and not file.is_file():
                image = to_image(self.family.decode(kept["l_T"], grid))
            self.encoded.append(Encoded(kept["l_T"], None, self.texts[self.prompt], grid))
            said = ClassPicture(number, self.prompt, seed, file, width, height, json.loads(notes["recipe"]))
            yield writing(image, said)


def prompt_of(config: TrainConfig, trigger: str, class_word: str) -> tuple[str, ...]:
    """The run's class prompt, placeholders filled in; nothing where there are no class pictures. Raises DataProblem."""
    return (captions.fill(config.class_prompt, trigger, class_word),) if config.class_pictures else ()


def shared_out(count: int, photos: Sequence[Grid]) -> tuple[Grid, ...]:
    """The buckets of `count` class pictures: each has one, then as large a share as it has of the photos.

    More buckets than `count` make it more. A larger count goes on where a smaller one ends, so what was drawn stays.
    """
    share, given = Counter(photos), dict.fromkeys(photos, 0)
    found = []
    for _ in range(max(count, len(share))):
        grid = min(given, key=lambda each: given[each] / share[each])
        given[grid] += 1
        found.append(grid)
    return tuple(found)
