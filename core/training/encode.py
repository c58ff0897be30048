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
from core.dataset.examples import Example
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
    return whole + [captions.without_trigger(each, trigger) for each in whole] if config.trigger_dropout else whole


def encode_photos(
    family: Family,
    examples: Sequence[Example],
    texts: dict[str, Conditioning],
    config: TrainConfig,
    cache: Path,
    trigger: str,
    held_out: Collection[int] = (),
) -> Generator[Progress, Request | None, list[Encoded]]:
    """Every photo in each of its buckets, with the conditioning of its caption with and without the trigger.

    A held-out photo is encoded in its first bucket only. Raises DataProblem, naming every photo that cannot be trained
    on, and DiskProblem.
    """
    encoded: list[Encoded] = []
    problems: list[FieldProblem] = []
    placed: list[Bucket] = []
    enlarged: list[str] = []
    yield Phase("encoding photos", 0, len(examples))
    for place, example in enumerate(examples):
        name = example.name or example.photo.name
        try:
            width, height = photos.size_of(example.photo)
            sizes = buckets.of_photo(config, width, height, example.box, family.pixel_multiple)
            sizes = sizes[:1] if place in held_out else sizes
            conditioning, untriggered = texts[example.caption], None
            if config.trigger_dropout:
                untriggered = texts[captions.without_trigger(example.caption, trigger)]
            encoded += [
                _encoded(family, example, bucket, conditioning, untriggered, config, cache, place) for bucket in sizes
            ]
            placed += sizes if place not in held_out else []
            enlarged += [
                f"{name} {times:.1f} times, to {bucket}"
                for bucket in sizes
                if (times := crops.enlargement(width, height, (bucket.width, bucket.height), example.box))
                > buckets.ENLARGED_AT_MOST
            ]
        except (DataProblem, FileNotFoundError) as error:
            problems.append(FieldProblem(name, error.message if isinstance(error, Problem) else "is gone"))
        yield Phase("encoding photos", place + 1, len(examples))
    family.free("vae")
    if problems:
        raise DataProblem("Some photos cannot be trained on; replace or remove them.", problems)
    yield Note(f"Trained at {buckets.counted(placed)}.")
    if held_out:
        names = ", ".join(examples[place].name or examples[place].photo.name for place in held_out)
        yield Note(f"Held out, to score the run on and not to learn: {names}.")
    if enlarged:
        words = f"Enlarged, so soft: {'; '.join(enlarged)}. Choose a smaller picture size, larger photos or crops."
        yield Note(words, "warning")
    trained = [example.caption for place, example in enumerate(examples) if place not in held_out]
    dropout = captions.dropout_advice(config.trigger_dropout, config.class_pictures, trained, trigger)
    for advice in (captions.trigger_advice(trained, trigger), dropout):
        if advice:
            yield Note(advice, "warning")
    return encoded


def _encoded(
    family: Family,
    example: Example,
    bucket: Bucket,
    conditioning: Conditioning,
    untriggered: Conditioning | None,
    config: TrainConfig,
    cache: Path,
    place: int,
) -> Encoded:
    """One photo in one of its buckets."""
    l_T = latents.latents_of(family, example, bucket, cache)
    flipped = latents.latents_of(family, example, bucket, cache, flip=True) if config.flip else None
    return Encoded(l_T, flipped, conditioning, family.grid(bucket.height, bucket.width), place, untriggered)
