"""Default crops keep the subject, in the bucket's exact shape; close-ups are for small subjects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dataset import buckets, crops
from core.dataset.crops import Box
from core.dataset.subject_crops import close_up, subject_crop

PHOTO = (1200, 900)


def sides(crop: Box, photo: tuple[int, int]) -> tuple[float, float]:
    return (crop.right - crop.left) * photo[0], (crop.bottom - crop.top) * photo[1]


def test_a_small_subject_at_the_side_stays_within_a_square_crop_with_room_around() -> None:
    subject = Box(0.70, 0.30, 0.85, 0.60)
    crop = subject_crop(subject, PHOTO, 1.0)
    wide, high = sides(crop, PHOTO)
    assert wide == pytest.approx(high)
    assert crop.left < subject.left - 0.02 and crop.right > subject.right + 0.02  # noqa: PT018
    assert crop.top < subject.top - 0.02 and crop.bottom > subject.bottom + 0.02  # noqa: PT018
    assert wide < PHOTO[1]


def test_a_subject_longer_than_the_bucket_is_cut_at_both_ends_alike() -> None:
    crop = subject_crop(Box(0.1, 0.4, 0.9, 0.6), PHOTO, 0.5)
    assert crop.top == pytest.approx(0)
    assert crop.bottom == pytest.approx(1)
    assert (crop.left + crop.right) / 2 == pytest.approx(0.5)


def test_surroundings_stay_in_the_default_crop_of_a_tiny_subject() -> None:
    wide, _ = sides(subject_crop(Box(0.5, 0.5, 0.52, 0.52), PHOTO, 1.0), PHOTO)
    assert wide >= 0.6 * PHOTO[1]


@given(
    st.tuples(*[st.floats(0, 0.98)] * 2),
    st.tuples(*[st.floats(0.02, 1)] * 2),
    st.sampled_from(buckets.of_side(512)),
    st.sampled_from([(1200, 900), (900, 1600), (640, 640), (4000, 1000)]),
)
def test_every_crop_has_the_buckets_shape_and_lies_in_the_photo(
    corner: tuple[float, float], size: tuple[float, float], bucket: buckets.Bucket, photo: tuple[int, int]
) -> None:
    box = Box(*corner, min(corner[0] + size[0], 1), min(corner[1] + size[1], 1))
    crop = subject_crop(box, photo, bucket.width / bucket.height)
    wide, high = sides(crop, photo)
    assert wide / high == pytest.approx(bucket.width / bucket.height, rel=1e-6)
    # What training cuts out of it is all of it.
    left, top, right, bottom = crops.pixel_box(*photo, (bucket.width, bucket.height), crop)
    assert right - left == pytest.approx(wide, rel=1e-6)
    assert bottom - top == pytest.approx(high, rel=1e-6)


def test_a_small_subject_has_a_close_up_within_the_default_crop_and_a_large_one_none() -> None:
    small = Box(0.45, 0.40, 0.55, 0.58)
    photo = (3000, 2250)
    close = close_up(small, photo, 1.0)
    assert close is not None
    assert sides(close, photo)[0] < 0.6 * sides(subject_crop(small, photo, 1.0), photo)[0]
    assert close.left < small.left
    assert close.bottom > small.bottom
    assert close_up(Box(0.1, 0.1, 0.9, 0.9), photo, 1.0) is None


def test_a_subject_of_few_pixels_has_no_close_up() -> None:
    assert close_up(Box(0.45, 0.40, 0.55, 0.58), (600, 450), 1.0) is None
