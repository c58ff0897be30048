"""Blur, exposure and screenshots, on made pictures whose fault is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from bench import made_photos
from core.pocket.assets import EXAMPLES
from core.vision import quality
from core.vision.pictures import Pixels, lab_of


def shapes(contrast: int = 120) -> Pixels:
    """Discs and bars with sharp edges in all directions."""
    rng = np.random.default_rng(3)
    values = np.full((480, 640), 60, np.uint8)
    for _ in range(25):
        x, y, radius = (int(each) for each in rng.integers((0, 0, 20), (640, 480, 70)))
        cv2.circle(values, (x, y), radius, int(60 + rng.integers(0, contrast)), -1, cv2.LINE_AA)
    return np.repeat(values[..., None], 3, 2)


@pytest.mark.parametrize("deviation", [1.5, 2.5, 4.0])
def test_the_width_of_edges_is_measured_in_pixels(deviation: float) -> None:
    soft = cv2.GaussianBlur(shapes(), (0, 0), deviation)
    assert quality.blur_of(soft) == pytest.approx(deviation, rel=0.25)


def test_contrast_does_not_count_as_sharpness() -> None:
    soft = cv2.GaussianBlur(shapes(), (0, 0), 2.0)
    pale = cv2.GaussianBlur(shapes(60), (0, 0), 2.0)
    assert quality.blur_of(pale) == pytest.approx(quality.blur_of(soft), rel=0.2)


def test_a_shaken_camera_blurs_one_direction_and_that_counts() -> None:
    kernel = np.full((1, 15), 1 / 15, np.float32)
    assert quality.blur_of(cv2.filter2D(shapes(), -1, kernel)) > 3 * quality.blur_of(shapes())


def test_a_blurred_background_does_not_count_where_the_subject_is_sharp() -> None:
    sharp = shapes()
    mixed = cv2.GaussianBlur(sharp, (0, 0), 6)
    subject = np.zeros(sharp.shape[:2], np.bool_)
    subject[120:360, 200:440] = True
    mixed[subject] = sharp[subject]
    assert quality.blur_of(mixed, subject) < 1.2
    assert quality.blur_of(mixed, ~subject) > 2.5


def test_lightness_and_white_are_measured_within_the_subject() -> None:
    values = np.full((50, 50, 3), 10, np.uint8)
    subject = np.zeros((50, 50), np.bool_)
    subject[10:30, 10:30] = True
    values[subject] = 255
    exposure = quality.exposure_of(lab_of(values), values, subject)
    assert exposure.subject == pytest.approx(100, abs=0.5)
    assert exposure.darkest < 5
    assert exposure.clipped == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_screen_is_told_from_photos_and_from_a_drawing_on_white(seed: int) -> None:
    rng = np.random.default_rng(seed)
    photo = Image.open(EXAMPLES / "01.jpg")
    screen = made_photos.screenshot(rng, photo)
    screen.thumbnail((768, 768))
    assert quality.screenshot_score(np.asarray(screen)) > 0.6
    assert quality.screenshot_score(np.asarray(photo)) < 0.2
    drawing = np.full((600, 600, 3), 255, np.uint8)
    cv2.circle(drawing, (300, 300), 150, (200, 0, 0), -1)
    cv2.circle(drawing, (250, 270), 20, (0, 0, 0), 5)
    assert quality.screenshot_score(drawing) < 0.2
