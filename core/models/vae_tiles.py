"""A function of a picture tile by tile, for pictures that do not fit into memory whole.

    sample    the picture with every n-th pixel: a first guess of all statistics of group normalizations
    gather    every tile, normalized by the guess; what it measures replaces the guess
    apply     every tile, normalized by that; its core is a part of the result

A tile is a core and a border as wide as the function sees, so cores fit together without a seam. What is left of the
difference is that of the statistics, of which those behind several layers were gathered with guesses before them. It is
the price of not holding every map; the tiles are computed twice, with their borders, so a picture takes some four to
five times as long.

Units   tiles are counted in latent pixels; `unit_in` and `unit_out` are their sides in pixels of input and output
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import mlx.core as mx

from core.device.backend import evaluate
from core.device.working_set import TILE
from core.models.moments import Core, Moments


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis, in latent pixels: its core, and its border, which ends at the picture's edge."""

    start: int
    end: int
    core_start: int
    core_end: int

    @property
    def share(self) -> tuple[float, float]:
        """Where the core begins and ends, as shares of the tile."""
        length = self.end - self.start
        return (self.core_start - self.start) / length, (self.core_end - self.start) / length


def in_tiles(
    function: Callable[[mx.array], mx.array], x_BHWC: mx.array, unit_in: int, unit_out: int, border: int
) -> mx.array:
    """function(x), evaluated; `border` is how far it sees."""
    rows, columns = (spans(size // unit_in, border) for size in x_BHWC.shape[1:3])
    moments = Moments()
    with moments.sampling():
        function(_sample(x_BHWC, unit_in, TILE + 2 * border))
    for row in rows:
        for column in columns:
            core: Core = row.share, column.share
            with moments.gathering(core):
                function(_cut(x_BHWC, row, column, unit_in))
    moments.update()
    bands = []
    with moments.applying():
        for row in rows:
            tiles = [_core(function(_cut(x_BHWC, row, column, unit_in)), row, column, unit_out) for column in columns]
            bands.append(mx.concatenate(tiles, axis=2))
            evaluate(bands[-1])
            del tiles
    whole = mx.concatenate(bands, axis=1)
    evaluate(whole)
    return whole


def spans(length: int, border: int) -> list[Span]:
    """Tiles of about equal cores, of at most TILE."""
    count = -(-length // TILE)
    edges = pairwise(length * number // count for number in range(count + 1))
    return [Span(max(start - border, 0), min(end + border, length), start, end) for start, end in edges]


def _sample(x_BHWC: mx.array, unit: int, at_most: int) -> mx.array:
    """Every n-th pixel, so that no side is longer than `at_most` latent pixels."""
    every = max(1, *(-(-size // (unit * at_most)) for size in x_BHWC.shape[1:3]))
    sample = x_BHWC[:, ::every, ::every]
    height, width = (size // unit * unit for size in sample.shape[1:3])
    return mx.contiguous(sample[:, :height, :width])


def _cut(x_BHWC: mx.array, row: Span, column: Span, unit: int) -> mx.array:
    return x_BHWC[:, row.start * unit : row.end * unit, column.start * unit : column.end * unit]


def _core(tile_BHWC: mx.array, row: Span, column: Span, unit: int) -> mx.array:
    """The core of a tile's result, evaluated, in memory of its own."""
    (top, bottom), (left, right) = (
        ((span.core_start - span.start) * unit, (span.core_end - span.start) * unit) for span in (row, column)
    )
    core = mx.contiguous(tile_BHWC[:, top:bottom, left:right])
    evaluate(core)
    return core
