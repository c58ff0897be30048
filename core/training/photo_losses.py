"""Which photo is harder to learn than the others: the training loss by photo, freed of the noise that each draw had.

    log loss of a draw = level of its noise band + what the photo adds + chance
    relative(photo)    = exp(mean over its draws of (log loss - mean log loss of the other photos in that band))

1.4 is a photo whose loss is 40% above that of the others at the same noise. What the amount of noise does to a loss,
and how far the adapter has learned, is in the bands' levels: all photos come equally often, in rounds. It costs
nothing, since every step works these losses out anyway. Kept as sums, so that a checkpoint can hold them.

No MLX here: plain numbers in, plain numbers out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

BANDS = 8  # of sigma, equally wide
DRAWS_AT_LEAST = 5  # of a photo, before it is compared
SMALLEST = 1e-12  # a loss of 0 has no logarithm


@dataclass(slots=True)
class PhotoLosses:
    """How many draws each photo had in each noise band, and the sum of their log losses: [count, sum] by band."""

    cells: dict[int, list[list[float]]] = field(default_factory=dict)

    def add(self, photos: Iterable[int], sigmas: Iterable[float], losses: Iterable[float]) -> None:
        """Take in the draws of a batch; a loss that is not finite says nothing about its photo."""
        for photo, sigma, loss in zip(photos, sigmas, losses, strict=True):
            if math.isfinite(loss):
                row = self.cells.setdefault(photo, [[0.0, 0.0] for _ in range(BANDS)])
                cell = row[min(int(sigma * BANDS), BANDS - 1)]
                cell[0] += 1
                cell[1] += math.log(max(loss, SMALLEST))

    def relative(self) -> dict[int, float]:
        """By photo, its loss against that of the others at the same noise; only photos that had enough draws."""
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
        """What a checkpoint keeps; JSON has no numbers for keys."""
        return {str(photo): row for photo, row in self.cells.items()}

    @staticmethod
    def from_json(data: dict[str, list[list[float]]]) -> PhotoLosses:
        """The inverse of `as_json`, exactly: JSON keeps every digit of a float."""
        return PhotoLosses({int(photo): row for photo, row in data.items()})
