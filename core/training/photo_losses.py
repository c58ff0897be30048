"""The training loss by photo, corrected for the noise level of each draw: which photo is harder than the others.

    log loss of a draw = level of its noise band + offset of its photo + noise
    relative(photo)    = exp(mean over its draws of (log loss - mean log loss of the other photos in that band))

1.4 is a photo whose loss is 40% above that of the others at the same noise. The bands' levels hold the effect of sigma
and of the training so far, since all photos come equally often, in rounds. Every step computes these losses anyway.
Stored as sums, so that a checkpoint can hold them. A photo with a mask has the loss of what the mask weighs: where only
some photos have one, they differ for that reason too.

Plain Python, without MLX.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

BANDS = 8  # of sigma, equally wide
DRAWS_AT_LEAST = 5  # of a photo that is compared
SMALLEST = 1e-12  # a loss of 0 has no logarithm


@dataclass(slots=True)
class PhotoLosses:
    """By photo and noise band: [number of draws, sum of their log losses]."""

    cells: dict[int, list[list[float]]] = field(default_factory=dict)

    def add(self, photos: Iterable[int], sigmas: Iterable[float], losses: Iterable[float]) -> None:
        """Add the draws of a batch; losses that are not finite are left out."""
        for photo, sigma, loss in zip(photos, sigmas, losses, strict=True):
            if math.isfinite(loss):
                row = self.cells.setdefault(photo, [[0.0, 0.0] for _ in range(BANDS)])
                cell = row[min(int(sigma * BANDS), BANDS - 1)]
                cell[0] += 1
                cell[1] += math.log(max(loss, SMALLEST))

    def relative(self) -> dict[int, float]:
        """By photo, its loss relative to the others' at the same noise; only photos with enough draws."""
        whole = [[sum(row[band][part] for row in self.cells.values()) for part in (0, 1)] for band in range(BANDS)]
        found = {}
        for photo, row in sorted(self.cells.items()):
            above = draws = 0.0
            for (count, total), (all_count, all_total) in zip(row, whole, strict=True):
                if count and all_count > count:
                    above += total - count * (all_total - total) / (all_count - count)
                    draws += count
            if draws >= DRAWS_AT_LEAST:
                found[photo] = math.exp(above / draws)
        return found

    def as_json(self) -> dict[str, list[list[float]]]:
        """For a checkpoint; JSON keys are strings."""
        return {str(photo): row for photo, row in self.cells.items()}

    @staticmethod
    def from_json(data: dict[str, list[list[float]]]) -> PhotoLosses:
        """The exact inverse of `as_json`: JSON keeps every digit of a float."""
        return PhotoLosses({int(photo): row for photo, row in data.items()})
