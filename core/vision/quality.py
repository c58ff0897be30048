"""How well a photo is taken: blur of the subject's edges, exposure, and whether it is a screenshot.

    blur        an edge of standard deviation s, smoothed by t, has the gradient  c / sqrt(2 pi (s^2 + t^2)).
                The ratio of the gradients at two smoothings t1 < t2 has no contrast c in it, and gives
                s^2 = (t2^2 - R^2 t1^2) / (R^2 - 1),   R = |grad t1| / |grad t2|        (after Elder and Zucker 1998)
                on the strongest edges, for four directions: the sharpest fifth of each, then the worst direction,
                so that a blurred background does not count and a shaken camera does
    exposure    L* of the subject's median and of the photo's 10th and 98th percentile, and its share of white pixels
    screenshot  one even colour over much of the picture, and lines of letters

Shapes   H W rows and columns   3 red, green, blue (uint8)
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from core.vision.pictures import Floats, Mask, Pixels

FINE_PX, COARSE_PX = 0.8, 2.4  # smoothings of the two gradients
REACH_PX = 16  # of a gradient: four deviations, and a pixel
EDGES_AT_LEAST = 60  # of one direction; fewer say nothing
BLUR_AT_MOST_PX = 12.0
WHITE = 250  # in all three channels
FLAT = 0.42  # share of a screen's pixels whose neighbours are equal, at least
PAPER = 0.2  # share of a screen that is one even colour, at least
EQUAL = 2  # levels within which pixels of a screenshot that went through JPEG are equal


@dataclass(frozen=True, slots=True)
class Exposure:
    """L* from 0 to 100, and the share of the subject's pixels that are white."""

    subject: float
    darkest: float
    brightest: float
    clipped: float


def blur_of(photo_HW3: Pixels, subject_HW: Mask | None = None) -> float:
    """The standard deviation of the subject's edges in px, 0 to BLUR_AT_MOST_PX; without a mask, of the photo's."""
    border = 4
    inside = np.zeros(photo_HW3.shape[:2], np.bool_)
    inside[border:-border, border:-border] = True
    if subject_HW is not None:
        inside &= subject_HW
    if inside.sum() < 400:
        return 0.0
    around = _around(inside)  # gradients are computed there alone
    inside = inside[around]
    grey = cv2.cvtColor(np.ascontiguousarray(photo_HW3[around]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine_x, fine_y = _gradient(grey, FINE_PX)
    coarse_x, coarse_y = _gradient(grey, COARSE_PX)
    coarse = np.hypot(coarse_x, coarse_y)
    strong = inside & (coarse >= max(float(np.percentile(coarse[inside], 90)), 2.0))
    if strong.sum() < EDGES_AT_LEAST:
        return BLUR_AT_MOST_PX  # no edges at all
    ratio = np.hypot(fine_x[strong], fine_y[strong]) / np.maximum(coarse[strong], 1e-6)
    squared = np.maximum(ratio**2, 1.0001)
    deviation = np.sqrt(np.clip((COARSE_PX**2 - squared * FINE_PX**2) / (squared - 1), 0, BLUR_AT_MOST_PX**2))
    direction = (np.arctan2(coarse_y[strong], coarse_x[strong]) % np.pi / np.pi * 4 + 0.5).astype(int) % 4
    found = [
        float(np.percentile(deviation[direction == each], 20))
        for each in range(4)
        if (direction == each).sum() >= EDGES_AT_LEAST
    ]
    return max(found) if found else float(np.percentile(deviation, 20))


def exposure_of(lab_HW3: Floats, photo_HW3: Pixels, subject_HW: Mask | None = None) -> Exposure:
    """Both of one size, the mask too."""
    lightness = lab_HW3[..., 0]
    inside = subject_HW if subject_HW is not None and subject_HW.any() else np.ones(lightness.shape, np.bool_)
    darkest, brightest = np.percentile(lightness, (10, 98))
    white = (photo_HW3[inside] >= WHITE).all(-1).mean()
    return Exposure(float(np.median(lightness[inside])), float(darkest), float(brightest), float(white))


def screenshot_score(photo_HW3: Pixels) -> float:
    """0..1: how much of the photo is flat and lettered as a screen is. A drawing on white has no letters in lines."""
    if min(photo_HW3.shape[:2]) < 2:
        return 0.0  # a strip of one pixel has no neighbours
    grey = np.asarray(cv2.cvtColor(photo_HW3, cv2.COLOR_RGB2GRAY), np.uint8)
    level = grey.astype(np.int16)
    flat = (np.abs(np.diff(level, axis=1))[:-1] <= EQUAL) & (np.abs(np.diff(level, axis=0))[:, :-1] <= EQUAL)
    even = float(np.clip((float(flat.mean()) - FLAT) / 0.1, 0, 1))
    if even == 0:
        return 0.0  # as for most photos: what follows takes longer
    counts = np.bincount(grey[:-1, :-1][flat], minlength=256)
    paper = float(np.convolve(counts, np.ones(2 * EQUAL + 1), "same").max()) / flat.size
    lettered = _rows_of_letters(grey)
    return float(even * np.clip((paper - PAPER) / PAPER, 0, 1) * np.clip(lettered / 3, 0, 1))


def _around(inside_HW: Mask) -> tuple[slice, slice]:
    """Rows and columns of a mask that is not empty, and as many around as a gradient at COARSE_PX reaches."""
    found = []
    for axis in (1, 0):
        places = np.flatnonzero(inside_HW.any(axis))
        found.append(slice(max(int(places[0]) - REACH_PX, 0), int(places[-1]) + REACH_PX + 1))
    return found[0], found[1]


def _gradient(grey_HW: Floats, deviation_px: float) -> tuple[Floats, Floats]:
    smooth = cv2.GaussianBlur(grey_HW, (0, 0), deviation_px)
    x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    return np.asarray(x, np.float32), np.asarray(y, np.float32)


def _rows_of_letters(grey_HW: Pixels) -> int:
    """Lines of text: wide low blobs of small strokes, once strokes of a line are joined."""
    stroke = cv2.morphologyEx(grey_HW, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    ink = (stroke > 60).astype(np.uint8)
    joined = cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones((1, 9), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=4)
    longest = max(grey_HW.shape)
    lines = 0
    for x, y, wide, high, area in stats[1:count]:
        if not (0.008 * longest <= high <= 0.08 * longest and wide >= 2.5 * high and area >= 0.45 * wide * high):
            continue
        inner = ink[y : y + high, x : x + wide]
        # Letters start and end strokes many times along a line; a ruler's edge does not.
        crossings = np.abs(np.diff(inner[high // 2].astype(np.int8))).sum()
        lines += int(crossings >= wide / high * 1.2)
    return lines
