"""Aspect-ratio buckets: the sizes in which photos are trained, so that a photo keeps its shape.

    of_side(512)     512 x 512, 528 x 496, 496 x 528 ... 720 x 368, 368 x 720     area about side^2, aspect 1:2 to 2:1
    closest          the bucket whose aspect is nearest to the photo's (or its crop's) on a logarithmic scale
    crops.pixel_box  the largest box of that aspect in the photo; scaled by one factor, so nothing is stretched

The photos of a batch must have one size. A few sizes of about the same area avoid both cropping and steps of different
cost. Plain Python, for the web process too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from core.config.train import TrainConfig
from core.dataset.crops import WHOLE, Box

LONGEST = 2.0  # width to height, or the other way round
ENLARGED_AT_MOST = 2.0  # times; beyond that the user is warned that a photo lacks detail


@dataclass(frozen=True, slots=True)
class Bucket:
    """The size of a training picture in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width} x {self.height}"


def of_side(side_px: int, multiple: int = 16) -> list[Bucket]:
    """The square of `side_px`, then wide and tall buckets in turn, each pair longer than the one before.

    Sides are multiples of `multiple`, as `side_px` must be.
    """
    found = [Bucket(side_px, side_px)]
    for short in range(side_px - multiple, 0, -multiple):
        long = multiple * math.floor(side_px**2 / short / multiple + 0.5)
        if long > LONGEST * short:
            break
        found += [Bucket(long, short), Bucket(short, long)]
    return found


def closest(choices: Sequence[Bucket], width: int, height: int, box: Box | None = None) -> Bucket:
    """The bucket for a photo of this size in pixels, or for its crop `box`; the first one of equals."""
    box = box or WHOLE
    aspect = math.log((box.right - box.left) * width) - math.log((box.bottom - box.top) * height)
    return min(choices, key=lambda each: abs(math.log(each.width / each.height) - aspect))


def of_photo(config: TrainConfig, width: int, height: int, box: Box | None, multiple: int = 16) -> list[Bucket]:
    """The buckets in which a run trains a photo: one for each picture size."""
    found = []
    for side_px in config.sides_px:
        choices = [Bucket(side_px, side_px)] if config.shapes == "square" else of_side(side_px, multiple)
        found.append(closest(choices, width, height, box))
    return found


def counted(buckets: Iterable[Bucket], noun: str = "photo") -> str:
    """Photos or crops by bucket, the fullest first: "512 x 512: 5 photos, 448 x 576: 3"."""
    (first, count), *rest = Counter(buckets).most_common()
    words = [f"{first}: 1 {noun}" if count == 1 else f"{first}: {count} {noun}s"]
    return ", ".join(words + [f"{bucket}: {count}" for bucket, count in rest])
