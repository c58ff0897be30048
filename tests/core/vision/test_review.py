"""A set is judged: what its findings say, what they would set aside, and which photos are picked of many."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from core.dataset.crops import Box
from core.vision import review, similarity
from core.vision.pictures import Pixels
from core.vision.results import Analysis, Finding, Kind, Review, Subject


def look(seed: int) -> bytes:
    """Soft patches; another seed is another scene."""
    patches = np.random.default_rng(seed).integers(0, 255, (8, 8)).astype(np.uint8)
    return cv2.resize(patches, (similarity.SIDE, similarity.SIDE), interpolation=cv2.INTER_CUBIC).tobytes()


def colours(subject: int, behind: int) -> bytes:
    """One bin each."""
    values = np.zeros((2, int(np.prod(similarity.BINS))), np.uint8)
    values[0, subject] = values[1, behind] = 255
    return values.tobytes()


def photo(number: int, box: Box | None = None) -> Analysis:
    """A good photo of one subject, on ground of its own, of its own framing."""
    step = 0.03 * (number % 8)
    box = box or Box(0.1 + step, 0.05 + step, 0.55 + 2 * step if number % 2 else 0.9, 0.7 + step)
    return Analysis(
        "opencv-1", 1200, 1600, 0.8, (55.0, 20.0, 85.0), 0.0, 0.0, Subject(box, b"", 0.6), (), None, b"", look(number),
        colours(0, 1 + number),
    )  # fmt: skip


def good(count: int = 9) -> dict[int, Analysis]:
    return {number: photo(number) for number in range(count)} | {count: photo(count, Box(0.0, 0.1, 1.0, 0.9))}


def only(found: Review, kind: Kind) -> Finding:
    (finding,) = [each for each in found.findings if each.kind == kind]
    return finding


def test_a_good_set_has_no_findings_and_says_so() -> None:
    found = review.review(good())
    assert found.findings == ()
    assert found.verdict.title == "10 good photos"
    assert (found.counts.photos, found.counts.good, found.counts.aside) == (10, 10, 0)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("blurred", {"blur": 6.0}),
        ("dark", {"lightness": (4.0, 1.0, 12.0)}),
        ("bright", {"lightness": (100.0, 80.0, 100.0), "clipped": 0.9}),
        ("screenshot", {"screenshot": 1.0}),
    ],
)
def test_a_bad_photo_is_found_and_would_be_set_aside(kind: Kind, change: dict[str, float]) -> None:
    photos = good()
    photos[4] = replace(photos[4], **change)
    found = review.review(photos)
    assert only(found, kind).aside == (4,)
    assert found.counts.good == 9
    assert [each.kind for each in found.findings] == [kind]


def test_a_set_shot_at_dusk_is_not_all_blurred() -> None:
    assert review.review({n: replace(each, blur=2.4) for n, each in good().items()}).findings == ()


def test_a_little_blur_is_unsure_and_sets_nothing_aside() -> None:
    photos = good()
    photos[4] = replace(photos[4], blur=2.1)
    found = review.review(photos)
    finding = only(found, "blurred")
    assert finding.unsure
    assert finding.action == "look"
    assert found.counts.good == 10
    assert "unsure" in found.verdict.words


def test_of_a_burst_the_sharpest_stays() -> None:
    photos = good()
    for number, blur in ((20, 1.1), (21, 0.6), (22, 1.0)):
        photos[number] = replace(photos[0], blur=blur, look=look(50))
    found = review.review(photos)
    finding = only(found, "near_duplicate" if any(f.kind == "near_duplicate" for f in found.findings) else "duplicate")
    assert finding.photos == (20, 21, 22)
    assert finding.keep == 21
    assert finding.aside == (20, 22)
    assert found.counts.good == 11


def test_photos_set_aside_are_counted_and_judged_no_more() -> None:
    photos = good()
    photos[4] = replace(photos[4], blur=6.0)
    found = review.review(photos, aside=[4])
    assert found.findings == ()
    assert (found.counts.photos, found.counts.good, found.counts.aside) == (10, 9, 1)


def test_a_stranger_among_the_photos_is_named_and_unsure_without_feature_prints() -> None:
    photos = good()
    photos[5] = replace(photos[5], colours=colours(200, 6))
    finding = only(review.review(photos), "unlike_the_rest")
    assert finding.photos == (5,)
    assert finding.unsure


def test_one_background_and_one_framing_are_said_of_the_set() -> None:
    box = Box(0.3, 0.3, 0.7, 0.7)
    photos = {n: replace(photo(n, box), colours=colours(0, 5)) for n in range(8)}
    found = review.review(photos)
    assert {each.kind for each in found.findings} == {"same_background", "same_framing", "no_close_up"}
    assert all(each.photos == tuple(range(8)) for each in found.findings)
    assert found.verdict.title == "8 good photos; all on the same background; all framed alike; no close-up"


def test_a_set_of_close_ups_shows_no_whole_subject() -> None:
    photos = {n: photo(n, Box(0.0, 0.01 * n, 0.9, 0.6 + 0.02 * n)) for n in range(8)}
    kinds = {each.kind for each in review.review(photos).findings}
    assert "no_whole" in kinds
    assert "no_close_up" not in kinds


def test_few_photos_are_said_to_be_few() -> None:
    found = review.review({1: photo(1), 2: photo(2)})
    assert only(found, "few_photos").sure == 1
    assert found.verdict.title == "2 good photos; few photos"
    empty = review.review({})
    assert empty.counts.good == 0


def test_small_photos_and_those_without_a_subject_are_to_be_looked_at() -> None:
    photos = good()
    photos[1] = replace(photos[1], width=300, height=400)
    photos[2] = replace(photos[2], subject=None)
    found = review.review(photos)
    assert only(found, "small").words == "The photo is small: 300 x 400 px; enlarged, it looks soft."
    assert only(found, "no_subject").action == "look"
    assert found.counts.good == 10


def test_the_subjects_given_count_and_not_those_of_the_analyses() -> None:
    photos = {n: replace(each, subject=None) for n, each in good().items()}
    given: dict[int, Subject | None] = {n: each.subject for n, each in good().items()}
    assert review.review(photos, given).findings == ()


def test_the_picked_photos_are_diverse_and_sharp() -> None:
    """Three scenes of ten frames each, one frame in three of them blurred."""
    photos: dict[int, Analysis] = {}
    for scene in range(3):
        for frame in range(10):
            base = replace(photo(scene), look=_shaken(look(scene), frame))
            photos[10 * scene + frame] = replace(base, blur=6.0 if frame % 3 == 0 else 0.8)
    picked = review.pick(photos, 3)
    assert {number // 10 for number in picked} == {0, 1, 2}
    assert all(photos[number].blur < 1 for number in picked)
    assert len(set(review.pick(photos, 100))) == 30
    assert review.pick(photos, 0) == []
    assert review.pick({}, 5) == []


def _shaken(content: bytes, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(-4, 5, similarity.SIDE**2)
    grey: Pixels = np.frombuffer(content, np.uint8)
    return np.clip(grey.astype(int) + noise, 0, 255).astype(np.uint8).tobytes()
