"""Photos as the analysis reads them: upright RGB arrays of a working size, and masks as small PNGs.

Shapes   H W rows and columns   3 red, green, blue (uint8)
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from core.dataset import photos
from core.dataset.crops import Box

WORKING_SIDE_PX = 768  # the longer side at which sharpness and text are judged: about what a run sees of a photo
SMALL_SIDE_PX = 160  # the longer side at which subjects are found
SUBJECT, BACKGROUND = 255, 128  # values of a mask

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


def read(photo: Path | bytes) -> tuple[Pixels, tuple[int, int]]:
    """The photo at the working size, and its whole size as seen (width, height in px).

    A JPEG is decoded at a fraction of its size. Raises DataProblem as core.dataset.photos does.
    """
    size = photos.size_of(photo)
    return np.asarray(photos.open_small_rgb(photo, WORKING_SIDE_PX)), size


def shrunk(photo_HW3: Pixels, side_px: int) -> Pixels:
    """The photo scaled down so that its longer side is `side_px`; as it is where it is smaller."""
    height, width = photo_HW3.shape[:2]
    scale = side_px / max(height, width)
    if scale >= 1:
        return photo_HW3
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(cv2.resize(photo_HW3, size, interpolation=cv2.INTER_AREA), np.uint8)


def lab_of(photo_HW3: Pixels) -> Floats:
    """CIE Lab (D65) in its own units: L* 0..100, a* and b* about -100..100."""
    return np.asarray(cv2.cvtColor(photo_HW3.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def encode_mask(mask_HW: Mask) -> bytes:
    """An 8-bit grey PNG of at most SMALL_SIDE_PX: SUBJECT where the mask is, BACKGROUND elsewhere."""
    values = np.where(mask_HW, SUBJECT, BACKGROUND).astype(np.uint8)
    _, content = cv2.imencode(".png", values)
    return content.tobytes()


def decode_mask(content: bytes, size: tuple[int, int] | None = None) -> Mask:
    """The mask of `encode_mask`, scaled to `size` (width, height) where it is given."""
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    if values is None:
        raise ValueError("is not a PNG")
    if size is not None and (values.shape[1], values.shape[0]) != size:
        values = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(values > (SUBJECT + BACKGROUND) // 2, np.bool_)


def box_of(mask_HW: Mask) -> Box | None:
    """The box around a mask, in fractions; None where it is empty."""
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    if not len(rows):
        return None
    height, width = mask_HW.shape
    return Box(
        float(columns[0] / width), float(rows[0] / height), float((columns[-1] + 1) / width),
        float((rows[-1] + 1) / height),
    )  # fmt: skip
