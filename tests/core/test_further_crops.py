"""A photo with several crops: each is a training example of its own, and the photo stays one photo."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from core.config.resolve import resolve
from core.dataset.crops import Box
from core.dataset.examples import Example
from core.dataset.masks import Mask
from core.device.hardware import Computer
from core.estimate import memory
from core.estimate.architecture import Architecture
from core.models.base import Family
from core.models.load import load_family
from core.training import checkpoint
from core.training.encode import encode_photos
from core.training.events import Note
from core.training.identity import data_hash_of
from core.training.trainer import train
from tests.core.subjects import examples, settings
from tests.core.test_resume import KNOBS, assert_same

CLOSE_UP, WIDE = Box(0.3, 0.3, 0.7, 0.7), Box(0.0, 0.2, 1.0, 0.7)


def with_crops(folder: Path, *boxes: Box) -> list[Example]:
    """The folder's photos, of which the first has further crops."""
    first, *others = examples(folder)
    return [replace(first, further_boxes=boxes), *others]


def run(family: Family, found: Sequence[Example], out: Path, **knobs: Any) -> list[Any]:
    options = {"trigger": "sks", "class_word": "can", "cache": out.parent / "cache"}
    return list(train(family, found, settings(**knobs), out, **options))


def material(family: Family, found: Sequence[Example], cache: Path, held: tuple[int, ...] = (), **knobs: Any) -> Any:
    """What `encode_photos` returns, and the notes it yields."""
    texts = {found[0].caption: family.encode_text([found[0].caption])}
    going = encode_photos(family, found, texts, settings(**knobs), cache, "sks", held)
    notes = []
    while True:
        try:
            progress = next(going)
        except StopIteration as end:
            return end.value, notes
        notes += [progress.text] if isinstance(progress, Note) else []


def test_each_crop_is_an_example_in_the_bucket_of_its_own_shape(family: Family, photos: Path, tmp_path: Path) -> None:
    encoded, notes = material(family, with_crops(photos, CLOSE_UP, WIDE), tmp_path / "cache")
    assert [each.photo for each in encoded] == [0, 0, 0, 1, 2]
    shapes = [(each.grid.columns, each.grid.rows) for each in encoded]
    assert shapes == [(4, 4), (4, 4), (5, 3), (4, 4), (4, 4)]
    assert notes[0] == "Trained at 64 x 64: 4 crops, 80 x 48: 1, from 3 photos."
    assert not mx.array_equal(encoded[0].l_T, encoded[1].l_T)
    assert len(list((tmp_path / "cache" / "latents").iterdir())) == 5


def test_a_crop_among_several_is_the_one_it_would_be_alone(family: Family, photos: Path, tmp_path: Path) -> None:
    first, *others = examples(photos)
    alone, notes = material(family, [replace(first, box=CLOSE_UP), *others], tmp_path / "cache")
    family.encode_photo = None  # everything is in the cache but the whole photo
    both, _ = material(family, [replace(first, box=CLOSE_UP, further_boxes=(CLOSE_UP,))], tmp_path / "cache")
    assert notes[0] == "Trained at 64 x 64: 3 photos."
    assert all(mx.array_equal(each.l_T, alone[0].l_T) for each in both)


def test_further_sizes_and_enlargement_are_of_each_crop(family: Family, photos: Path, tmp_path: Path) -> None:
    encoded, notes = material(family, with_crops(photos, CLOSE_UP), tmp_path / "cache", more_sides_px="80")
    assert [(each.photo, each.grid.columns) for each in encoded[:4]] == [(0, 4), (0, 5), (0, 4), (0, 5)]
    assert notes[0] == "Trained at 64 x 64: 4 crops, 80 x 80: 4, from 3 photos."
    assert notes[1].startswith("Enlarged, so soft: crop 2 of 0.png 4.0 times, to 64 x 64; crop 2 of 0.png 5.0 times")


def test_no_crop_of_a_held_out_photo_is_trained_on(family: Family, photos: Path, tmp_path: Path) -> None:
    found = with_crops(photos, CLOSE_UP, WIDE)
    encoded, notes = material(family, found, tmp_path / "cache", held=(0,), more_sides_px="80")
    assert [each.photo for each in encoded] == [0, 1, 1, 2, 2]
    assert notes[0] == "Trained at 64 x 64: 2 photos, 80 x 80: 2."


@pytest.mark.slow
def test_a_run_sees_each_crop_as_often_as_a_photo(family: Family, photos: Path, tmp_path: Path) -> None:
    run(family, with_crops(photos, CLOSE_UP), tmp_path / "run", steps=6, save_every=6, held_out="1.png")
    losses = checkpoint.load(tmp_path / "run" / "checkpoints" / "6").photo_losses.cells
    assert {photo: sum(count for count, _ in row) for photo, row in losses.items()} == {0: 4, 2: 2}


def test_photos_without_further_crops_and_masks_have_the_hash_they_had(photos: Path) -> None:
    """So a run that was stopped before these existed resumes."""
    first, *others = examples(photos)
    found = [replace(first, box=CLOSE_UP), *others]
    items = [[e.sha256, e.caption, [0.3, 0.3, 0.7, 0.7] if e is found[0] else None] for e in found]
    assert data_hash_of(found, ["sks"]) == hashlib.sha256(json.dumps([*items, "sks"]).encode()).hexdigest()
    mask = Mask(photos / "0.png", "ab")
    more = [{"further_boxes": (WIDE,)}, {"further_boxes": (CLOSE_UP,)}, {"mask": mask}]
    hashes = {data_hash_of([replace(found[0], **each), *others], ["sks"]) for each in [{}, *more]}
    assert len(hashes) == 4


@pytest.mark.slow
def test_a_list_of_no_further_crops_changes_no_bit(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    run(load_family(model_folder), examples(photos), tmp_path / "one", **KNOBS)
    run(load_family(model_folder), with_crops(photos), tmp_path / "other", **KNOBS)
    assert_same(tmp_path / "one", tmp_path / "other", 8)


def test_the_cached_latents_of_further_crops_are_counted_on_the_disk(model_folder: Path) -> None:
    architecture, computer = Architecture.of(model_folder), Computer("cpu", 2**35, 2**40)
    config = resolve({"side_px": 512, "flip": True}).config
    one, more = (memory.needs(architecture, config, computer, 10, crops) for crops in (0, 5))
    assert more.disk - one.disk == 5 * 2 * 32 * 32 * 128 * 4
    assert more.memory == one.memory
