"""How like a subject drawn pictures are, and how they differ among themselves, by the features of an analyser.

    x            the features of a picture or photo, of length 1: the network's print where the analyser has one, else
                 the colours of its subject; for what differs among pictures, the colours of its background too
    likeness(x)  = mean over the photos p of <x, p>               1 the same, 0 nothing in common
    distance(x)  = mean over the other pictures y of 1 - <x, y>

Of photos among themselves, the same figures are what the best picture could reach.

Shapes   N pictures   M photos   D features
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from PIL import Image

from core.dataset import masks
from core.dataset.crops import WHOLE
from core.dataset.examples import Example
from core.vision import pictures, similarity
from core.vision.base import Analyser
from core.vision.pictures import SMALL_SIDE_PX, Floats, Pixels
from core.vision.results import Analysis


def of_picture(picture: Image.Image, analyser: Analyser) -> Analysis:
    """Raises ModelProblem."""
    return analyser.analyse(np.asarray(picture.convert("RGB")), picture.size)


def of_photo(example: Example, analyser: Analyser) -> Analysis:
    """Of the first crop, its subject by the photo's mask where there is one. Raises DataProblem, ModelProblem."""
    photo_HW3, size = pictures.read(example.photo)
    crop_HW3 = _cropped(photo_HW3, example)
    analysis = analyser.analyse(crop_HW3, (crop_HW3.shape[1], crop_HW3.shape[0]))
    if example.mask is None:
        return analysis
    grey = masks.read(example.mask.file, size).resize(photo_HW3.shape[1::-1], Image.Resampling.NEAREST)
    small_HW3 = pictures.shrunk(crop_HW3, SMALL_SIDE_PX)
    inside_HW = (_cropped(np.asarray(grey), example) == masks.SUBJECT).astype(np.uint8)
    small_HW = cv2.resize(inside_HW, small_HW3.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    if not small_HW.any():
        return analysis
    return replace(analysis, colours=similarity.colours_of(pictures.lab_of(small_HW3), np.asarray(small_HW, np.bool_)))


def subject_features(analyses: Sequence[Analysis]) -> Floats:
    """(N, D), each of length 1: what tells a subject."""
    prints_ND = similarity.prints_array([each.print for each in analyses])
    if prints_ND is not None:
        return prints_ND
    return np.stack([similarity.colours_array(each.colours)[0] for each in analyses])


def whole_features(analyses: Sequence[Analysis]) -> Floats:
    """(N, D), each of length 1: the subject and what surrounds it."""
    prints_ND = similarity.prints_array([each.print for each in analyses])
    if prints_ND is not None:
        return prints_ND
    both = np.stack([similarity.colours_array(each.colours) for each in analyses]) / math.sqrt(2)
    return np.asarray(both.reshape(len(analyses), -1), np.float32)


def likeness(pictures_ND: Floats, photos_MD: Floats) -> tuple[float, ...]:
    """Of each picture to the photos."""
    return tuple(float(value) for value in (pictures_ND @ photos_MD.T).mean(1))


def distances(pictures_ND: Floats) -> tuple[float, ...]:
    """From each picture to the others; empty for fewer than two."""
    count = len(pictures_ND)
    if count < 2:
        return ()
    apart_NN = 1 - pictures_ND @ pictures_ND.T
    np.fill_diagonal(apart_NN, 0.0)
    return tuple(float(value) for value in apart_NN.sum(1) / (count - 1))


def _cropped(photo_HW: Pixels, example: Example) -> Pixels:
    box = example.box or WHOLE
    height, width = photo_HW.shape[:2]
    rows = slice(round(box.top * height), max(round(box.bottom * height), round(box.top * height) + 1))
    columns = slice(round(box.left * width), max(round(box.right * width), round(box.left * width) + 1))
    return np.ascontiguousarray(photo_HW[rows, columns])
