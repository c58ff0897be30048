"""A folder's photos get the crop and the mask of their subject, where it is surely found and none was drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from core.config.resolve import Resolved, resolve
from core.dataset import masks, photos
from core.dataset.crops import Box
from core.dataset.examples import Example, read_folder
from core.pocket.assets import EXAMPLES
from core.vision.found import find_subjects, with_subjects

SQUARE = resolve({"side_px": 256, "shapes": "square"}).config


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return read_folder(EXAMPLES, "sks", "toy")[0][:3]


@pytest.fixture(scope="module")
def completed(examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    return with_subjects(examples, SQUARE, 16, tmp_path_factory.mktemp("cache"))


def test_a_photo_gets_a_square_crop_around_its_subject_and_the_subjects_mask(completed: list[Example]) -> None:
    found = find_subjects([example.photo for example in completed])
    assert any(one is not None and one.sure >= 0.6 for one in found)
    for example, one in zip(completed, found, strict=True):
        if one is None or one.sure < 0.6:
            assert (example.box, example.mask) == (None, None)
            continue
        assert example.box is not None
        assert example.mask is not None
        size = photos.size_of(example.photo)
        assert (example.box.right - example.box.left) * size[0] == pytest.approx(
            (example.box.bottom - example.box.top) * size[1]
        )
        left, top, right, bottom = one.box.left, one.box.top, one.box.right, one.box.bottom
        assert example.box.left <= left < right <= example.box.right
        assert example.box.top <= top < bottom <= example.box.bottom
        mask = masks.read(example.mask.file, size)
        assert 0.05 < masks.counts(mask)[masks.SUBJECT] / (size[0] * size[1]) < 0.7
        assert masks.counts(mask)[masks.IGNORED] == 0


def test_what_was_drawn_stays(examples: list[Example], completed: list[Example], tmp_path: Path) -> None:
    box, mask = Box(0.1, 0.1, 0.5, 0.5), completed[0].mask
    drawn = [replace(each, box=box, mask=mask) for each in examples]
    assert with_subjects(drawn, SQUARE, 16, tmp_path) == drawn


def test_a_photo_that_is_gone_is_left_to_the_trainer_to_name(examples: list[Example], tmp_path: Path) -> None:
    gone = replace(examples[0], photo=tmp_path / "gone.jpg")
    assert with_subjects([gone, *examples[1:]], SQUARE, 16, tmp_path)[0] == gone


def test_a_run_from_before_the_knob_goes_on_with_the_photos_centres() -> None:
    stored = json.loads(json.dumps(resolve({"steps": 7}).as_json()))
    assert Resolved.from_json(stored).config.find_subjects
    del stored["find_subjects"]
    assert not Resolved.from_json(stored).config.find_subjects
