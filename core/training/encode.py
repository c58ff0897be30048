"""Encodes every text and every photo once, before the first step; the results are cached.

    captions, prompts  --text encoder-->  conditioning         photos, cut to their buckets  --VAE-->  l_T

Both are generators: they yield progress and return the result. Each frees its encoder at the end, before the next part
of the model is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.config.train import TrainConfig
from core.dataset import buckets, captions, crops, latents, photos
from core.dataset.batches import Encoded
from core.dataset.buckets import Bucket
from core.dataset.examples import Example, masks_counted
from core.errors import DataProblem, FieldProblem, Problem
from core.models.base import Conditioning, Family
from core.training.events import Note, Phase, Progress, Request


@dataclass(frozen=True, slots=True)
class Material:
    """The encoded examples and texts of a run."""

    learned: Sequence[Encoded]  # photos that are trained on
    held: Sequence[Encoded]  # photos that are only scored
    prior: Sequence[Encoded]  # class pictures
    texts: dict[str, Conditioning]  # "", captions and prompts, by text


def read_texts(
    family: Family, texts: Sequence[str], cache: Path
) -> Generator[Progress, Request | None, dict[str, Conditioning]]:
    """The conditioning of each text, by text."""
    wanted = list(dict.fromkeys(texts))
    read: dict[str, Conditioning] = {}
    yield Phase("reading captions", 0, len(wanted))
    for done, (text, conditioning) in enumerate(latents.texts_of(family, wanted, cache), start=1):
        read[text] = conditioning
        yield Phase("reading captions", done, len(wanted))
    family.free("text")
    return read


def captions_of(examples: Sequence[Example], config: TrainConfig, trigger: str) -> list[str]:
    """Every text that a photo may be trained with."""
    whole = [example.caption for example in examples]
    return whole + [captions.without_trigger(each, trigger) for each in whole] if config.untriggers else whole


@dataclass(frozen=True, slots=True)
class PhotoEncoder:
    """Encodes photos crop by crop and size by size, with their captions' conditioning and their masks' weights."""

    family: Family
    texts: dict[str, Conditioning]
    config: TrainConfig
    cache: Path
    trigger: str

    def encode(self, example: Example, place: int, *, first_only: bool) -> tuple[list[Encoded], list[Bucket], str]:
        """A photo's training examples, the bucket of each, and which of its crops are enlarged much, in words.

        `first_only` is for a photo that is scored: its first crop and size. Raises DataProblem; FileNotFoundError for
        a photo that is gone.
        """
        size = photos.size_of(example.photo)
        found: list[Encoded] = []
        placed: list[Bucket] = []
        enlarged: list[str] = []
        for number, crop in enumerate(example.crops[:1] if first_only else example.crops, start=1):
            sizes = buckets.of_photo(self.config, *size, crop.box, self.family.pixel_multiple)
            for bucket in sizes[:1] if first_only else sizes:
                found.append(self._encoded(crop, bucket, size, place))
                placed.append(bucket)
                times = crops.enlargement(*size, (bucket.width, bucket.height), crop.box)
                if times > buckets.ENLARGED_AT_MOST:
                    which = f"crop {number} of " if number > 1 else ""
                    enlarged.append(f"{which}{example.label} {times:.1f} times, to {bucket}")
        return found, placed, "; ".join(enlarged)

    def _encoded(self, crop: Example, bucket: Bucket, size: tuple[int, int], place: int) -> Encoded:
        """One crop in one of its buckets."""
        weight_BL = latents.weights_of(self.family, crop, bucket, size, self.config.background_weight, self.cache)
        l_T = latents.latents_of(self.family, crop, bucket, self.cache)
        flipped = latents.latents_of(self.family, crop, bucket, self.cache, flip=True) if self.config.flip else None
        conditioning, untriggered = self.texts[crop.caption], None
        if self.config.untriggers:
            untriggered = self.texts[captions.without_trigger(crop.caption, self.trigger)]
        grid = self.family.grid(bucket.height, bucket.width)
        return Encoded(l_T, flipped, conditioning, grid, place, untriggered, weight_BL)


def encode_photos(
    family: Family,
    examples: Sequence[Example],
    texts: dict[str, Conditioning],
    config: TrainConfig,
    cache: Path,
    trigger: str,
    held_out: Collection[int] = (),
) -> Generator[Progress, Request | None, list[Encoded]]:
    """Every crop of every photo in each of its buckets, with the conditioning of its caption and its mask's weights.

    No crop of a held-out photo is trained on; it is encoded to be scored, its first crop in its first bucket. Raises
    DataProblem, naming every photo that cannot be trained on, and DiskProblem.
    """
    encoder = PhotoEncoder(family, texts, config, cache, trigger)
    encoded: list[Encoded] = []
    problems: list[FieldProblem] = []
    placed: list[Bucket] = []
    enlarged: list[str] = []
    yield Phase("encoding photos", 0, len(examples))
    for place, example in enumerate(examples):
        try:
            found, sizes, words = encoder.encode(example, place, first_only=place in held_out)
            encoded += found
            placed += sizes if place not in held_out else []
            enlarged += [words] if words else []
        except (DataProblem, FileNotFoundError) as error:
            message = error.message if isinstance(error, Problem) else "is gone"
            problems.append(FieldProblem(example.label, message))
        yield Phase("encoding photos", place + 1, len(examples))
    family.free("vae")
    if problems:
        raise DataProblem("Some photos cannot be trained on; replace or remove them.", problems)
    trained = [example for place, example in enumerate(examples) if place not in held_out]
    yield Note(f"Trained at {_counted(placed, trained)}.")
    if masked := masks_counted(examples, config.background_weight):
        yield Note(masked)
    if held_out:
        names = ", ".join(examples[place].label for place in held_out)
        yield Note(f"Held out, to score the run on and not to learn: {names}.")
    if enlarged:
        words = f"Enlarged, so soft: {'; '.join(enlarged)}. Choose a smaller picture size, larger photos or crops."
        yield Note(words, "warning")
    texts_trained = [example.caption for example in trained]
    dropout = captions.dropout_advice(config.trigger_dropout, config.has_class_pictures, texts_trained, trigger)
    preserved = captions.preservation_advice(config.class_preservation, texts_trained, trigger)
    for advice in (captions.trigger_advice(texts_trained, trigger), dropout, preserved):
        if advice:
            yield Note(advice, "warning")
    return encoded


def _counted(placed: Sequence[Bucket], trained: Sequence[Example]) -> str:
    """Photos by bucket, or crops where a photo has several."""
    if all(len(example.crops) == 1 for example in trained):
        return buckets.counted(placed)
    return f"{buckets.counted(placed, 'crop')}, from {len(trained)} photo{'s' if len(trained) > 1 else ''}"
