"""Subjects are found in one photo, and better in a set, where what recurs is the subject."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from core.dataset.crops import Box
from core.pocket.assets import EXAMPLES
from core.vision import pictures, subject
from core.vision.opencv import OpenCVAnalyser
from core.vision.pictures import Mask, Pixels
from core.vision.results import Analysis, Subject

BOXES = {  # of the example photos, as traced by core/pocket/example_photos.py
    "01.jpg": (0.203, 0.117, 0.797, 0.875),
    "02.jpg": (0.305, 0.141, 0.781, 0.805),
    "03.jpg": (0.289, 0.125, 0.766, 0.844),
    "04.jpg": (0.125, 0.078, 0.781, 0.898),
    "05.jpg": (0.227, 0.102, 0.672, 0.883),
    "06.jpg": (0.062, 0, 0.922, 1),
    "07.jpg": (0.25, 0.188, 0.719, 0.812),
    "08.jpg": (0.328, 0.148, 0.75, 0.859),
}
ANALYSER = OpenCVAnalyser()


def overlap(one: Box, other: Box) -> float:
    wide = max(min(one.right, other.right) - max(one.left, other.left), 0)
    high = max(min(one.bottom, other.bottom) - max(one.top, other.top), 0)
    areas = [(each.right - each.left) * (each.bottom - each.top) for each in (one, other)]
    return wide * high / (sum(areas) - wide * high)


def grain(seed: int, colour: tuple[int, int, int], side: int = 256) -> Pixels:
    """A rough ground of one colour."""
    rng = np.random.default_rng(seed)
    noise = cv2.resize(rng.normal(0, 14, (32, 32)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.array(colour) + noise[..., None], 0, 255).astype(np.uint8)


def disc(photo: Pixels, x: int, y: int, radius: int, colour: tuple[int, int, int]) -> Mask:
    """Paint it, and say where."""
    mask = np.zeros(photo.shape[:2], np.uint8)
    cv2.circle(mask, (x, y), radius, 1, -1)
    photo[mask > 0] = grain(x + y, colour, photo.shape[0])[mask > 0]
    return mask > 0


def analysed(photo: Pixels) -> Analysis:
    return ANALYSER.analyse(photo, (photo.shape[1], photo.shape[0]))


def test_a_disc_on_the_ground_is_found_to_the_pixel_or_so() -> None:
    photo = grain(1, (90, 120, 70))
    truth = disc(photo, 150, 110, 45, (190, 60, 50))
    found = subject.find(photo)
    assert found is not None
    mask = pictures.decode_mask(found.subject().mask, (256, 256))
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    assert found.sure > 0.5
    assert found.others == ()


def test_a_photo_of_nothing_has_no_subject() -> None:
    assert subject.find(np.full((200, 300, 3), 128, np.uint8)) is None


def test_a_second_thing_of_the_same_size_is_named() -> None:
    photo = grain(2, (90, 120, 70))
    disc(photo, 80, 128, 40, (190, 60, 50))
    disc(photo, 185, 128, 38, (190, 70, 60))
    found = subject.find(photo)
    assert found is not None
    assert len(found.others) == 1


def test_what_recurs_is_the_subject_and_what_differs_is_not() -> None:
    """Beside the subject each photo has something larger and louder, of another colour each time."""
    loud = [(230, 30, 30), (240, 220, 20), (230, 20, 200), (20, 230, 230), (250, 250, 250)]
    photos, truths = {}, {}
    for number, colour in enumerate(loud):
        photo = grain(number, ((110, 110, 110), (100, 130, 90), (90, 100, 140), (140, 120, 90), (120, 90, 120))[number])
        disc(photo, 75, 90 + 12 * number, 44, colour)
        truths[number] = pictures.box_of(disc(photo, 178, 150 - 10 * number, 34, (30, 60, 190)))
        photos[number] = photo
    analyses = {number: analysed(photo) for number, photo in photos.items()}
    found = subject.reconcile(analyses, photos.__getitem__)
    for number, truth in truths.items():
        mine = found[number]
        assert mine is not None
        assert truth is not None
        assert overlap(mine.box, truth) > 0.8


def test_a_subject_that_somebody_drew_stays_and_teaches_the_others() -> None:
    photos, drawn = {}, {}
    for number in range(3):
        photo = grain(number, (100, 110, 100))
        disc(photo, 80, 120, 40, (200, 60, 50))
        drawn[number] = disc(photo, 185, 130, 38, (60, 70, 200))
        photos[number] = photo
    box = pictures.box_of(drawn[0])
    assert box is not None
    mine = Subject(box, pictures.encode_mask(drawn[0]), 1.0)
    analyses = {number: analysed(photo) for number, photo in photos.items()}
    # They are alike in all but detail; the looks would call them a burst, which teaches nothing.
    looks = {n: np.random.default_rng(n).integers(0, 255, 64 * 64).astype(np.uint8).tobytes() for n in photos}
    spread = {n: replace(each, look=looks[n]) for n, each in analyses.items()}
    found = subject.reconcile(spread, photos.__getitem__, known={0: mine})
    assert found[0] == mine
    for number in (1, 2):
        other, truth = found[number], pictures.box_of(drawn[number])
        assert other is not None
        assert truth is not None
        assert overlap(other.box, truth) > 0.7


def test_only_the_photos_asked_for_are_found_anew() -> None:
    photos = {}
    for number in range(3):
        photos[number] = grain(number, (100, 110, 100))
        disc(photos[number], 90 + 30 * number, 120, 40, (200, 60, 50))
    analyses = {number: analysed(photo) for number, photo in photos.items()}
    assert set(subject.reconcile(analyses, photos.__getitem__, only=[1])) == {1}
    assert subject.reconcile({}, photos.__getitem__) == {}


def test_the_same_photo_has_the_same_mask_each_time() -> None:
    photo, _ = pictures.read(EXAMPLES / "02.jpg")
    first, again = subject.find(photo), subject.find(photo)
    assert first is not None
    assert again is not None
    assert np.array_equal(first.mask_HW, again.mask_HW)


@pytest.mark.slow
def test_the_example_photos_have_their_toy_found() -> None:
    read = {name: pictures.read(EXAMPLES / name)[0] for name in BOXES}
    numbers = dict(enumerate(read))
    analyses = {number: analysed(read[name]) for number, name in numbers.items()}
    found = subject.reconcile(analyses, lambda number: read[numbers[number]])
    overlaps = [overlap(each.box, Box(*BOXES[numbers[n]])) for n, each in found.items() if each is not None]
    assert len(overlaps) == len(BOXES)
    assert min(overlaps) > 0.5
    assert np.mean(overlaps) > 0.65


@pytest.mark.parametrize("shape", [(16, 16), (16, 300), (3, 768), (768, 2), (1, 768), (1, 1), (40, 31)])
def test_photos_of_every_shape_are_analysed(shape: tuple[int, int]) -> None:
    photo = np.random.default_rng(1).integers(0, 255, (*shape, 3)).astype(np.uint8)
    analyses = {0: analysed(photo), 1: analysed(np.zeros_like(photo)), 2: analysed(photo[::-1].copy())}
    assert set(subject.reconcile(analyses, {0: photo, 1: photo, 2: photo}.__getitem__)) == {0, 1, 2}


def test_a_mask_goes_through_png_and_scales() -> None:
    mask = np.zeros((40, 60), np.bool_)
    mask[10:30, 20:50] = True
    content = pictures.encode_mask(mask)
    assert np.array_equal(pictures.decode_mask(content), mask)
    assert pictures.decode_mask(content, (120, 80)).mean() == pytest.approx(mask.mean(), rel=0.1)
    assert pictures.box_of(mask) == Box(20 / 60, 10 / 40, 50 / 60, 30 / 40)
    assert pictures.box_of(np.zeros((5, 5), np.bool_)) is None
    with pytest.raises(ValueError, match="not a PNG"):
        pictures.decode_mask(b"nothing")
