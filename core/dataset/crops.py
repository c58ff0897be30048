"""Which part of a photo is trained on: a box in fractions of the photo as seen, cut out and scaled, never stretched.

    box (left, top, right, bottom), 0 to 1   ->   the largest square inside it, about its centre   ->   side x side px

Every photo becomes the same square today. Buckets of several shapes would replace `pixel_box` and `side_px` here and
`Example.side_px` in `latents.py`; batches are already grouped by the shape of their latents.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageOps

from core.errors import DataProblem


@dataclass(frozen=True, slots=True)
class Box:
    """Fractions of the photo as seen: 0 is its left or top edge, 1 its right or bottom edge."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        for low, high, what in ((self.left, self.right, "left and right"), (self.top, self.bottom, "top and bottom")):
            if not 0 <= low < high <= 1:
                raise DataProblem(f"A crop's {what} are {low:g} and {high:g}; they must rise within 0 to 1.")


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


def pixel_box(width: int, height: int, box: Box | None) -> tuple[float, float, float, float]:
    """The largest square inside `box` about its centre, in pixels (left, top, right, bottom), not rounded."""
    box = box or WHOLE
    left, right = box.left * width, box.right * width
    top, bottom = box.top * height, box.bottom * height
    side = max(min(right - left, bottom - top), 1.0)
    centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
    x = min(max(centre_x - side / 2, 0.0), width - side)
    y = min(max(centre_y - side / 2, 0.0), height - side)
    return x, y, x + side, y + side


def square(photo: Image.Image, side_px: int, box: Box | None = None, *, flip: bool = False) -> Image.Image:
    """The crop as a square of `side_px`, Lanczos; mirrored left to right when `flip`."""
    cut = photo.resize((side_px, side_px), Image.Resampling.LANCZOS, box=pixel_box(*photo.size, box))
    return ImageOps.mirror(cut) if flip else cut
