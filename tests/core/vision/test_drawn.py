"""Features of drawn pictures beside those of photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core import files
from core.dataset.crops import Box
from core.dataset.examples import Example
from core.dataset.masks import Mask
from core.vision import drawn
from core.vision.opencv import OpenCVAnalyser

X = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)


def test_likeness_is_the_mean_product_with_the_photos_and_distance_the_mean_to_the_others() -> None:
    assert drawn.likeness(X, X[:2]) == pytest.approx((0.5, 0.5, 0.7))
    assert drawn.distances(X) == pytest.approx(((1 + 0.4) / 2, (1 + 0.2) / 2, (0.4 + 0.2) / 2))
    assert drawn.distances(X[:1]) == ()


def test_the_colours_of_a_photos_subject_are_those_inside_its_crop_and_mask(tmp_path: Path) -> None:
    photo, mask = Image.new("RGB", (120, 120), (20, 160, 60)), Image.new("L", (120, 120), 128)
    photo.paste((200, 30, 30), (60, 0, 120, 120))
    mask.paste(255, (60, 0, 120, 120))
    photo.save(tmp_path / "photo.png")
    mask.save(tmp_path / "mask.png")
    analyser = OpenCVAnalyser()
    red = drawn.of_picture(Image.new("RGB", (64, 64), (200, 30, 30)), analyser)

    def red_share(**more: object) -> float:
        example = Example(tmp_path / "photo.png", "", "", **more)  # type: ignore[arg-type]
        features = drawn.subject_features([red, drawn.of_photo(example, analyser)])
        return float(features[0] @ features[1])

    of_mask = Mask(tmp_path / "mask.png", files.sha256_of(tmp_path / "mask.png"))
    assert red_share(mask=of_mask) == pytest.approx(1, abs=1e-3)
    assert red_share(box=Box(0.5, 0, 1, 1)) == pytest.approx(1, abs=1e-3)
    assert red_share(box=Box(0, 0, 0.5, 1)) == pytest.approx(0, abs=1e-3)
    assert red_share(box=Box(0, 0, 0.5, 1), mask=of_mask) == pytest.approx(0, abs=1e-3), "a mask without the subject"
