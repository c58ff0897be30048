"""The mean and variance of group normalizations, measured over a whole picture while it is computed tile by tile.

    mean     = sum_i n_i mean_i / sum_i n_i
    variance = sum_i n_i (variance_i + mean_i^2) / sum_i n_i - mean^2              tiles i of n_i pixels

    moments = Moments()
    with moments.sampling():           function(small picture)       starts with the statistics of a sample
    with moments.gathering(core):      function(tile)                normalizes by what is known, adds the tile's own
    moments.update()                                                 once all tiles are gathered
    with moments.applying():           function(tile)                normalizes by what is known

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


@dataclass(slots=True)
class Moments:
    """Statistics by normalization, in the order in which a picture passes them."""

    known: dict[int, Statistics] = field(default_factory=dict)  # by id of the layer
    sums: dict[int, tuple[int, mx.array, mx.array]] = field(default_factory=dict)  # pixels, of mean, of mean square
    core: Core | None = None
    samples: bool = False

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Normalize each map by its own statistics, and know them from then on."""
        self.samples = True
        try:
            with _in_use(self):
                yield
        finally:
            self.samples = False

    @contextmanager
    def gathering(self, core: Core) -> Iterator[None]:
        """Normalize by the known statistics, and add those of this part of each map."""
        self.core = core
        try:
            with _in_use(self):
                yield
        finally:
            self.core = None

    @contextmanager
    def applying(self) -> Iterator[None]:
        """Normalize by the known statistics."""
        with _in_use(self):
            yield

    def update(self) -> None:
        """Know the statistics of all that was gathered."""
        for layer, (pixels, of_mean, of_square) in self.sums.items():
            mean = of_mean / pixels
            self.known[layer] = mean, mx.maximum(of_square / pixels - mean.square(), 0.0)
        evaluate(list(self.known.values()))
        self.sums = {}

    def of(self, layer: int, x_BHWC: mx.array, measure: Callable[[mx.array], Statistics]) -> Statistics:
        """The statistics that this layer uses for x."""
        if self.samples:
            self.known[layer] = measure(x_BHWC)
        elif self.core is not None:
            self._add(layer, _part(x_BHWC, self.core), measure)
        return self.known[layer]

    def _add(self, layer: int, part_BHWC: mx.array, measure: Callable[[mx.array], Statistics]) -> None:
        mean, variance = measure(part_BHWC)
        pixels, of_mean, of_square = self.sums.get(layer, (0, mx.zeros_like(mean), mx.zeros_like(mean)))
        here = part_BHWC.shape[1] * part_BHWC.shape[2]
        of_mean, of_square = of_mean + here * mean, of_square + here * (variance + mean.square())
        evaluate(of_mean, of_square)
        self.sums[layer] = pixels + here, of_mean, of_square


def _part(x_BHWC: mx.array, core: Core) -> mx.array:
    (top, bottom), (left, right) = (
        (round(start * size), round(end * size)) for (start, end), size in zip(core, x_BHWC.shape[1:3], strict=True)
    )
    return x_BHWC[:, top:bottom, left:right]


_moments: list[Moments] = []


@contextmanager
def _in_use(moments: Moments) -> Iterator[None]:
    _moments.append(moments)
    try:
        yield
    finally:
        _moments.pop()


def used(layer: object, x_BHWC: mx.array, measure: Callable[[mx.array], Statistics]) -> Statistics:
    """The statistics by which this layer normalizes x: its own, except while a picture is computed tile by tile."""
    return _moments[-1].of(id(layer), x_BHWC, measure) if _moments else measure(x_BHWC)
