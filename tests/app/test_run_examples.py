"""From a run's frozen list to training examples: crops of the user, the crop that keeps the subject, masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.actions import masks
from app.home import Home
from app.worker.examples import example_of
from core.config.train import TrainConfig
from core.dataset import buckets
from core.dataset.crops import Box, pixel_box
from tests.app.conftest import picture
from tests.app.test_masks import mask_png

BOX = {"left": 0.25, "top": 0.0, "right": 0.75, "bottom": 1.0}
CLOSE = {"left": 0.4, "top": 0.4, "right": 0.6, "bottom": 0.6}
ITEM: dict[str, Any] = {"photo_id": 1, "sha256": "a" * 64, "extension": "jpg", "name": "a.jpg", "caption": "a can"}
NEW = {"width": 4000, "height": 2000, "crop": None, "crops": [], "subject": None, "mask": None}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    one = Home(tmp_path / "home")
    one.create_folders()
    return one


def test_an_item_of_an_older_version_is_what_it_was(home: Home) -> None:
    whole = example_of(home, ITEM | {"crop": None}, TrainConfig(), 16)
    assert (whole.box, whole.further_boxes, whole.mask, whole.caption) == (None, (), None, "a can")
    assert example_of(home, ITEM | {"crop": BOX}, TrainConfig(), 16).box == Box(**BOX)


def test_each_crop_of_the_user_is_an_example(home: Home) -> None:
    item = ITEM | NEW | {"crop": BOX, "crops": [BOX, CLOSE], "subject": [0.8, 0.8, 0.9, 0.9]}
    example = example_of(home, item, TrainConfig(), 16)
    assert [each.box for each in example.crops] == [Box(**BOX), Box(**CLOSE)]


@pytest.mark.parametrize("shapes", ["square", "as_photographed"])
def test_without_a_crop_the_subject_is_kept_in_the_shape_that_is_trained(home: Home, shapes: Any) -> None:
    config = TrainConfig(shapes=shapes, side_px=256)
    subject = Box(0.8, 0.3, 0.98, 0.7)  # which the centre square of a photo of 2:1 would cut away
    item = ITEM | NEW | {"subject": [subject.left, subject.top, subject.right, subject.bottom]}
    example = example_of(home, item, config, 16)
    (bucket,) = buckets.of_photo(config, 4000, 2000, example.box)
    left, top, right, bottom = pixel_box(4000, 2000, (bucket.width, bucket.height), example.box)
    assert left <= subject.left * 4000
    assert subject.right * 4000 <= right
    assert top <= subject.top * 2000
    assert subject.bottom * 2000 <= bottom
    assert (right - left) / (bottom - top) == pytest.approx(bucket.width / bucket.height, rel=1e-3)


def test_a_mask_is_handed_over_at_the_photos_size(home: Home) -> None:
    drawn = masks.read(mask_png((80, 64)), (80, 64))
    masks.keep(home, drawn.png)
    item = ITEM | NEW | {"width": 80, "height": 64, "mask": drawn.sha256}
    mask = example_of(home, item, TrainConfig(), 16).mask
    assert mask is not None
    assert mask.file == home.mask(str(drawn.sha256))
    small = masks.keep(home, picture(255, (20, 16), mode="L"))
    found = example_of(home, item | {"mask": small}, TrainConfig(), 16).mask
    assert found is not None
    assert found.sha256 == small
    with Image.open(found.file) as enlarged:
        assert enlarged.size == (80, 64)
