"""Crops of photos: a box in fractions of the upright photo, cut out and scaled, never stretched.

    box (left, top, right, bottom), 0 to 1   ->   the largest box inside it, about its centre, of the training picture's
                                                  shape   ->   width x height px, one factor in both directions

`buckets` chooses the width and height.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageOps

from core.errors import DataProblem

PixelBox = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the photo, not rounded."""


@dataclass(frozen=True, slots=True)
class Box:
    """Fractions of the upright photo: 0 is the left or top edge, 1 the right or bottom edge."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        for low, high, what in ((self.left, self.right, "left and right"), (self.top, self.bottom, "top and bottom")):
            if not 0 <= low < high <= 1:
                raise DataProblem(f"A crop's {what} are {low:g} and {high:g}; they must rise within 0 to 1.")


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


def pixel_box(width: int, height: int, shape: tuple[int, int], box: Box | None = None) -> PixelBox:
    """The largest box with the aspect of `shape` (width, height) inside `box`, around its centre.

    A box of less than a pixel grows to one pixel, within the photo.
    """
    box = box or WHOLE
    left, right = box.left * width, box.right * width
    top, bottom = box.top * height, box.bottom * height
    scale = max(min((right - left) / shape[0], (bottom - top) / shape[1]), 1 / min(shape))
    scale = min(scale, width / shape[0], height / shape[1])
    wide, high = scale * shape[0], scale * shape[1]
    x = min(max((left + right - wide) / 2, 0.0), max(width - wide, 0.0))
    y = min(max((top + bottom - high) / 2, 0.0), max(height - high, 0.0))
    return x, y, min(x + wide, width), min(y + high, height)


def enlargement(width: int, height: int, shape: tuple[int, int], box: Box | None = None) -> float:
    """The factor by which the crop is enlarged to `shape` pixels."""
    left, _, right, _ = pixel_box(width, height, shape, box)
    return shape[0] / (right - left)


def cut(photo: Image.Image, shape: tuple[int, int], box: Box | None = None, *, flip: bool = False) -> Image.Image:
    """The crop as a picture of `shape` (width, height in pixels), Lanczos; mirrored left to right when `flip`."""
    picture = photo.resize(shape, Image.Resampling.LANCZOS, box=pixel_box(*photo.size, shape, box))
    return ImageOps.mirror(picture) if flip else picture
