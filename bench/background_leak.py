"""How much of the photos' backgrounds has come into the pictures: for bench.eval_subjects.

    leak = share of the border patches of the trained model's pictures of a new place whose nearest patch comes from a
           photo's background, and not from the untrained model's pictures of that place

A patch is SIDE x SIDE px of a SIZE px square, compared as 4 x 4 CIE Lab colours (Euclidean). The border is the
outermost ring. A patch of a photo's background touches no box of the subject. Both pools have as many patches.

Shapes   P patches   D = 4 * 4 * 3
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from core.dataset import crops, photos
from core.dataset.crops import Box, pixel_box
from core.vision.pictures import lab_of

SIZE, SIDE = 256, 32

Patches = npt.NDArray[np.float32]


def leak(pictures: Sequence[Image.Image], base: Sequence[Image.Image], background_PD: Patches) -> float:
    """0..1; `background_PD` is from `background_patches`."""
    place_PD = np.concatenate([_patches(each, _everywhere()) for each in base])
    count = min(len(place_PD), len(background_PD))
    place_PD, background_PD = _evenly(place_PD, count), _evenly(background_PD, count)
    border_PD = np.concatenate([_patches(each, _border()) for each in pictures])
    return float((_to_nearest(border_PD, background_PD) < _to_nearest(border_PD, place_PD)).mean())


def background_patches(paths: Sequence[Path], boxes: Sequence[Sequence[Box]]) -> Patches:
    """(P, D) of the photos' central squares, outside of the boxes of each."""
    found = []
    for path, of_photo in zip(paths, boxes, strict=True):
        photo = photos.open_rgb(path)
        left, top, right, bottom = pixel_box(*photo.size, (SIZE, SIZE), None)
        scale_x, scale_y = SIZE / (right - left), SIZE / (bottom - top)
        taken = [
            (
                (box.left * photo.width - left) * scale_x,
                (box.top * photo.height - top) * scale_y,
                (box.right * photo.width - left) * scale_x,
                (box.bottom * photo.height - top) * scale_y,
            )
            for box in of_photo
        ]
        free = [
            (x, y)
            for x, y in _everywhere()
            if all(x + SIDE <= box[0] or x >= box[2] or y + SIDE <= box[1] or y >= box[3] for box in taken)
        ]
        found.append(_patches(photo, free))
    return np.concatenate(found)


def _everywhere() -> list[tuple[int, int]]:
    return [(x, y) for y in range(0, SIZE, SIDE) for x in range(0, SIZE, SIDE)]


def _border() -> list[tuple[int, int]]:
    ends = {0, SIZE - SIDE}
    return [(x, y) for x, y in _everywhere() if x in ends or y in ends]


def _patches(picture: Image.Image, places: Sequence[tuple[int, int]]) -> Patches:
    square = np.asarray(crops.cut(picture.convert("RGB"), (SIZE, SIZE)), np.uint8)
    lab_HW3 = lab_of(square)
    found = [
        cv2.resize(lab_HW3[y : y + SIDE, x : x + SIDE], (4, 4), interpolation=cv2.INTER_AREA).ravel() for x, y in places
    ]
    return np.array(found, np.float32).reshape(len(places), 4 * 4 * 3)


def _evenly(patches_PD: Patches, count: int) -> Patches:
    return patches_PD[np.linspace(0, len(patches_PD) - 1, count).round().astype(int)] if count else patches_PD[:0]


def _to_nearest(one_PD: Patches, other_PD: Patches) -> Patches:
    """(P,) the distance from each patch to its nearest in `other_PD`."""
    return np.array([np.linalg.norm(other_PD - each, axis=1).min(initial=np.inf) for each in one_PD], np.float32)
