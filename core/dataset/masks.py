"""Masks of photos: which parts are the subject, which the background, and which are ignored in training.

    255 subject    weight 1                         a picture of the photo's size as seen; other greys count as the
    128 background weight `background_weight`       nearest of the three
      0 ignored    weight 0

A mask is cropped and scaled to the training picture as its photo is; then the weights of each token's pixels (16 x 16)
are averaged. A token is a cell, or 2 x 2 cells, of the VAE's latent: the smallest part that the network predicts at
once. Levels become weights before they are averaged: half subject and half ignored is the weight 1/2, not background.

Pillow only, for the web process too.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from core.dataset import photos
from core.dataset.crops import Box, pixel_box
from core.errors import DataProblem

SUBJECT, BACKGROUND, IGNORED = 255, 128, 0
LEVELS = (IGNORED, BACKGROUND, SUBJECT)
COVER = (128, 128, 128)  # over ignored parts, where a captioner sees the photo

_NEAREST = [min(LEVELS, key=lambda level: abs(level - grey)) for grey in range(256)]


@dataclass(frozen=True, slots=True)
class Mask:
    """A photo's mask on the disk."""

    file: Path
    sha256: str  # of the file


def read(source: Path | bytes, size: tuple[int, int]) -> Image.Image:
    """The mask of a photo of `size` as seen (width, height in pixels): 8-bit grey, of the three levels alone.

    Raises DataProblem for a picture that cannot be read or has another size; the message continues "the mask".
    """
    try:
        grey = photos.open_rgb(source).convert("L")
    except FileNotFoundError:
        raise DataProblem("is gone; add it again, or remove it from the photo.") from None
    if grey.size != size:
        has, needs = (f"{width} x {height} px" for width, height in (grey.size, size))
        raise DataProblem(f"has {has}; it must have the photo's size, {needs}.")
    return grey.point(_NEAREST)


def read_of_photo(mask: Path, size: tuple[int, int]) -> Image.Image:
    """`read`; the message of its DataProblem continues the photo's name."""
    try:
        return read(mask, size)
    except DataProblem as problem:
        raise DataProblem(f"has a mask that {problem.message}") from None


def enlarged(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A small mask at its photo's `size`: smooth, then the nearest level, so that an enlarged edge has no stairs."""
    return mask.convert("L").resize(size, Image.Resampling.BICUBIC).point(_NEAREST)


def token_weights(
    mask: Image.Image, shape: tuple[int, int], grid: tuple[int, int], box: Box | None, background_weight: float
) -> Image.Image:
    """The mean weight of each token: floats 0 to 1, `grid` (columns, rows) pixels.

    `mask` is from `read`, `shape` the training picture's (width, height in pixels), and `box` the photo's crop.
    """
    left, top, right, bottom = pixel_box(*mask.size, shape, box)
    x, y = math.floor(left), math.floor(top)
    part = mask.crop((x, y, math.ceil(right), math.ceil(bottom)))  # a float takes four times the memory of a grey
    weights = {IGNORED: 0.0, BACKGROUND: background_weight, SUBJECT: 1.0}
    weighted = part.point([weights[level] for level in _NEAREST], "F")
    scaled = weighted.resize(shape, Image.Resampling.BOX, box=(left - x, top - y, right - x, bottom - y))
    return scaled.resize(grid, Image.Resampling.BOX)


def counts(mask: Image.Image) -> Counter[int]:
    """Pixels by level of a mask from `read`."""
    histogram = mask.histogram()
    return Counter({level: histogram[level] for level in LEVELS})


def covered(photo: Image.Image, mask: Image.Image) -> Image.Image:
    """The photo with its ignored parts under a plain grey; `mask` is from `read`."""
    cover = mask.point([255 * (level == IGNORED) for level in _NEAREST])
    return Image.composite(Image.new("RGB", photo.size, COVER), photo, cover)
