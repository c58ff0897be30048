"""The mean and variance of group normalizations, measured over a whole picture that is computed tile by tile.

    mean     = sum_i n_i mean_i / sum_i n_i
    variance = sum_i n_i (variance_i + mean_i^2) / sum_i n_i - mean^2              tiles i of n_i pixels

    moments = Moments()
    with moments.of_tile(core):   function(tile)      raises Gathered at the first layer whose statistics are unknown
    moments.update()                                  after all tiles: the statistics of that layer are known

So a function with n normalizations takes n rounds over all tiles, each a layer longer than the last, before a round
that reaches its end. The statistics are those of the whole picture, to rounding.

Shapes   mean and variance (B, 1, 1, C), as a group normalization has them for each channel
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import mlx.core as mx

from core.device.backend import evaluate

Statistics = tuple[mx.array, mx.array]
Core = tuple[tuple[float, float], tuple[float, float]]
"""Where the part of a tile that counts begins and ends, in rows and in columns, as shares of the tile."""


class Gathered(Exception):
    """The statistics of a tile at the first unknown layer are added; the rest of the tile cannot be computed yet."""


@dataclass(slots=True)
class Moments:
    """Statistics by layer."""

    known: dict[int, Statistics] = field(default_factory=dict)  # by id of the layer
    sums: dict[int, tuple[int, mx.array, mx.array]] = field(default_factory=dict)  # pixels, of mean, of mean square
    core: Core = ((0.0, 1.0), (0.0, 1.0))

    @contextmanager
    def of_tile(self, core: Core) -> Iterator[None]:
        """Normalize by the known statistics within the block; `core` is the part whose statistics are added."""
        self.core = core
        _moments.append(self)
        try:
            yield
        finally:
            _moments.pop()

    def update(self) -> bool:
        """Know the statistics of the layer that was gathered; False when none was."""
        for layer, (pixels, of_mean, of_square) in self.sums.items():
            mean = of_mean / pixels
            self.known[layer] = mean, mx.maximum(of_square / pixels - mean.square(), 0.0)
            evaluate(*self.known[layer])
        gathered = bool(self.sums)
        self.sums = {}
        return gathered

    def of(self, layer: int, x_BHWC: mx.array, measure: Callable[[mx.array], Statistics]) -> Statistics:
        """The statistics of a layer. Raises Gathered where they are unknown."""
        if layer in self.known:
            return self.known[layer]
        (top, bottom), (left, right) = (
            (round(start * size), round(end * size))
            for (start, end), size in zip(self.core, x_BHWC.shape[1:3], strict=True)
        )
        part_BHWC = x_BHWC[:, top:bottom, left:right]
        mean, variance = measure(part_BHWC)
        pixels, of_mean, of_square = self.sums.get(layer, (0, mx.zeros_like(mean), mx.zeros_like(mean)))
        here = part_BHWC.shape[1] * part_BHWC.shape[2]
        of_mean, of_square = of_mean + here * mean, of_square + here * (variance + mean.square())
        evaluate(of_mean, of_square)
        self.sums[layer] = pixels + here, of_mean, of_square
        raise Gathered


_moments: list[Moments] = []


def used(layer: object, x_BHWC: mx.array, measure: Callable[[mx.array], Statistics]) -> Statistics:
    """The statistics by which this layer normalizes x: its own, except while a picture is computed tile by tile."""
    return _moments[-1].of(id(layer), x_BHWC, measure) if _moments else measure(x_BHWC)
