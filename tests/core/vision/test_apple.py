"""The analyser of macOS, with prepared answers in the place of Apple's Vision: nobody has run it on a Mac."""

from __future__ import annotations

import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from core.dataset.crops import Box
from core.vision import analysers, apple, review
from core.vision.apple import Answers, AppleAnalyser
from core.vision.opencv import OpenCVAnalyser
from core.vision.pictures import Mask, Pixels, decode_mask
from core.vision.results import Analysis

SIDE = 300


def photo() -> Pixels:
    rng = np.random.default_rng(0)
    values = rng.integers(90, 110, (SIDE, SIDE, 3)).astype(np.uint8)
    cv2.circle(values, (150, 150), 60, (200, 60, 40), -1)
    return values


def disc(x: int, y: int, radius: int) -> Mask:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(mask, (x, y), radius, 1, -1)
    return mask > 0


def analysed(answers: Answers) -> Analysis:
    seen: list[bytes] = []

    def ask(png: bytes) -> Answers:
        seen.append(png)
        return answers

    analysis = AppleAnalyser(ask).analyse(photo(), (1200, 1200))
    assert len(seen) == 1
    shown = cv2.imdecode(np.frombuffer(seen[0], np.uint8), cv2.IMREAD_COLOR)
    assert shown[150, 150].tolist() == [40, 60, 200]  # OpenCV reads BGR
    return analysis


def test_the_piece_of_the_foreground_in_the_middle_is_the_subject_and_another_as_large_is_named() -> None:
    analysis = analysed(Answers((disc(40, 40, 38), disc(150, 150, 60)), (), 0, b""))
    assert analysis.analyser == "apple-1"
    assert analysis.subject is not None
    box = analysis.subject.box
    assert [box.left, box.top, box.right, box.bottom] == pytest.approx([0.3, 0.3, 0.7, 0.7], abs=0.02)
    assert decode_mask(analysis.subject.mask).mean() == pytest.approx(disc(150, 150, 60).mean(), rel=0.05)
    assert analysis.others == () or analysis.others[0].left < 0.05


def test_without_foreground_there_is_no_subject() -> None:
    assert analysed(Answers((), (), 0, b"")).subject is None


def test_two_faces_are_a_finding_with_a_crop() -> None:
    faces = (Box(0.1, 0.1, 0.3, 0.3), Box(0.5, 0.1, 0.7, 0.3))
    found = review.review({7: analysed(Answers((disc(150, 150, 60),), faces, 0, b""))}).findings
    (several,) = [each for each in found if each.kind == "several_subjects"]
    assert several.action == "crop"
    assert not several.unsure
    assert several.photos == (7,)


def test_feature_prints_tell_a_stranger_from_the_rest_and_surely_so() -> None:
    same = np.array([1, 0.1, 0, 0], np.float32).tobytes()
    other = np.array([0, 0, 1, 0], np.float32).tobytes()
    photos = {n: analysed(Answers((disc(150, 150, 60),), (), 0, same)) for n in range(6)}
    photos[9] = analysed(Answers((disc(150, 150, 60),), (), 0, other))
    # They are one photo to the eye; here only the rule about strangers is looked at.
    spread = {n: _with_look(each, n) for n, each in photos.items()}
    found = [each for each in review.review(spread).findings if each.kind == "unlike_the_rest"]
    assert [each.photos for each in found] == [(9,)]
    assert not found[0].unsure


def test_other_computers_have_the_analyser_of_opencv() -> None:
    if sys.platform == "darwin":
        pytest.skip("a Mac may have Apple's")
    assert not apple.is_available()
    assert isinstance(analysers.best(), OpenCVAnalyser)


def _with_look(analysis: Analysis, number: int) -> Analysis:
    noise = np.random.default_rng(number).integers(0, 255, (8, 8)).astype(np.uint8)
    look = cv2.resize(noise, (64, 64), interpolation=cv2.INTER_CUBIC).tobytes()
    return replace(analysis, look=look)
