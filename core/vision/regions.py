"""A photo cut into some 200 regions of one colour each, which all that finds subjects works on.

    watershed   from a grid of seeds (Meyer 1992), so that borders of regions follow borders of things
    look        mean L*, a*, b* of a region, and TEXTURE times the logarithm of its mean gradient: bokeh and grass
                differ from a subject of the same colour

Shapes   H W rows and columns   R regions   P pairs of neighbours   4 the look
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from core.vision.pictures import Floats, Pixels, lab_of

SEEDS = 15  # a side
TEXTURE = 8.0  # units of Lab for a factor of e in mean gradient


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of a photo."""

    labels_HW: npt.NDArray[np.int32]
    look_R4: Floats
    place_R2: Floats  # x, y of the centre, 0..1
    area_R: Floats  # shares that sum to 1
    border_R: Floats  # shares of the photo's border that sum to 1
    pairs_P2: npt.NDArray[np.int64]  # neighbours, each pair once

    @property
    def count(self) -> int:
        return len(self.area_R)

    def spread(self, value_R: Floats) -> Floats:
        """Each pixel has its region's value."""
        return np.asarray(value_R, np.float32)[self.labels_HW]

    def mean(self, value_HW: Floats) -> Floats:
        """Each region's mean of the pixels' values."""
        flat = self.labels_HW.ravel()
        sums = np.bincount(flat, np.asarray(value_HW, np.float64).ravel(), self.count)
        return np.asarray(sums / np.bincount(flat, minlength=self.count), np.float32)


def regions_of(photo_HW3: Pixels, seeds: int = SEEDS) -> Regions:
    """Cut a photo of SMALL_SIDE_PX or so."""
    return regions_of_each(photo_HW3, (seeds,))[0]


def regions_of_each(photo_HW3: Pixels, seeds: Sequence[int]) -> list[Regions]:
    """A photo cut several times, into regions of different sizes."""
    smooth = np.asarray(cv2.bilateralFilter(photo_HW3, 5, 30, 3), np.uint8)
    grey = lab_of(photo_HW3)[..., 0]
    gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8))
    lab_HW3 = lab_of(smooth)
    return [_described(_watershed(smooth, each), lab_HW3, np.asarray(gradient, np.float32)) for each in seeds]


def _described(labels: npt.NDArray[np.int32], lab_HW3: Floats, gradient: Floats) -> Regions:
    height, width = labels.shape
    flat = labels.ravel()
    sizes = np.bincount(flat).astype(np.float64)
    count = len(sizes)
    means = [np.bincount(flat, lab_HW3[..., i].ravel(), count) / sizes for i in range(3)]
    texture = TEXTURE * np.log(0.5 + np.bincount(flat, gradient.ravel(), count) / sizes)
    rows, columns = np.mgrid[:height, :width]
    place = [
        np.bincount(flat, each.ravel(), count) / sizes for each in ((columns + 0.5) / width, (rows + 0.5) / height)
    ]
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    border = np.bincount(edge, minlength=count) / len(edge)
    return Regions(
        labels, _float32(np.stack([*means, texture], 1)), _float32(np.stack(place, 1)), _float32(sizes / sizes.sum()),
        _float32(border), _neighbours(labels, count),
    )  # fmt: skip


def _watershed(photo_HW3: Pixels, seeds: int) -> npt.NDArray[np.int32]:
    """Labels from 0 without gaps; every pixel has one."""
    height, width = photo_HW3.shape[:2]
    step = max(height, width) / seeds
    down, across = max(round(height / step), 2), max(round(width / step), 2)
    rows = ((np.arange(down) + 0.5) * height / down).astype(int)
    columns = ((np.arange(across) + 0.5) * width / across).astype(int)
    grey = cv2.cvtColor(photo_HW3, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    markers = np.zeros((height, width), np.int32)
    reach = max(int(step / 4), 1)
    for number, (y, x) in enumerate(((y, x) for y in rows for x in columns), 1):
        near = gradient[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        dy, dx = np.unravel_index(int(near.argmin()), near.shape)  # a seed on an edge would belong to neither side
        markers[max(y - reach, 0) + dy, max(x - reach, 0) + dx] = number
    # It leaves the border of a picture without a label, which of a strip of two pixels is all: so with a frame around.
    framed = cv2.copyMakeBorder(markers, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.watershed(cv2.copyMakeBorder(photo_HW3, 1, 1, 1, 1, cv2.BORDER_REPLICATE), framed)
    markers = np.ascontiguousarray(framed[1:-1, 1:-1])
    while (markers <= 0).any():
        grown = cv2.dilate(markers.astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.int32)
        markers = np.where(markers <= 0, grown, markers)
    _, labels = np.unique(markers, return_inverse=True)
    return np.asarray(labels.reshape(height, width), np.int32)


def _neighbours(labels_HW: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int64]:
    sides = [(labels_HW[:, :-1], labels_HW[:, 1:]), (labels_HW[:-1], labels_HW[1:])]
    codes = []
    for one, other in sides:
        low, high = np.minimum(one, other).ravel().astype(np.int64), np.maximum(one, other).ravel().astype(np.int64)
        codes.append((low * count + high)[low != high])
    unique = np.unique(np.concatenate(codes))
    return np.stack([unique // count, unique % count], 1)


def _float32(values: npt.NDArray[np.float64]) -> Floats:
    return np.asarray(values, np.float32)
