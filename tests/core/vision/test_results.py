"""Analyses and reviews go through JSON unchanged, without numpy."""

from __future__ import annotations

import json

import pytest

from core.dataset.crops import Box
from core.vision.results import Analysis, Counts, Finding, Review, Subject, Verdict

SUBJECT = Subject(Box(0.1, 0.2, 0.8, 0.9), b"\x89PNG...", 0.5)
ANALYSIS = Analysis(
    "opencv-1", 640, 480, 0.75, (50.0, 10.0, 90.0), 0.01, 0.0, SUBJECT, (Box(0.8, 0.0, 1.0, 0.2),), None, b"map",
    b"look",
    bytes(range(256)),
)  # fmt: skip


def test_an_analysis_is_the_same_after_json() -> None:
    assert Analysis.from_json(json.loads(json.dumps(ANALYSIS.to_json()))) == ANALYSIS


def test_an_analysis_of_another_version_is_refused() -> None:
    value = ANALYSIS.to_json()
    del value["colours"]
    with pytest.raises(KeyError):
        Analysis.from_json(value)


def test_a_review_is_the_same_after_json() -> None:
    group = Finding(
        "near_duplicate", (3, 4, 5), "3 photos are nearly the same; keep the sharpest.", "set_aside", 0.9, 4
    )
    review = Review(Verdict("7 good photos", "All is well."), Counts(10, 7, 1), (group,))
    assert Review.from_json(json.loads(json.dumps(review.to_json()))) == review
    assert group.aside == (3, 5)


def test_what_is_unsure_sets_nothing_aside_by_its_action() -> None:
    look = Finding("blurred", (3,), "The subject may be blurred.", "look", 0.55)
    assert look.unsure
    assert look.aside == ()
