"""The VAE's resolutions tile by tile, for pictures that do not fit into memory whole.

    segment    the blocks of one resolution, and the change of resolution before or after them
    tile       a core, and a border as wide as the segment's convolutions see, so cores fit together without a seam

Segments are computed one after the other. Group normalizations take the statistics of the whole picture
(core/models/moments.py), so each segment takes a round over its tiles for every normalization, and a last one for its
result: some three to four times the work of the whole. Maps between segments are kept in 16 bits.

Units   tiles are counted in pixels of the segment's lower resolution, whose side is 2 pixels of its higher one
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import mlx.core as mx

from core.device.backend import evaluate
from core.device.working_set import TILE_BYTES
from core.models.moments import Gathered, Moments

FINE = 2  # pixels of the higher resolution on a side of one of the lower
LEAST_CORE = 8


@dataclass(frozen=True, slots=True)
class Segment:
    """A function between two resolutions."""

    function: Callable[[mx.array], mx.array]
    up: bool  # from the lower resolution to the higher
    reach: int  # pixels of the higher resolution that a result sees on each side
    channels: int  # most of a map at the higher resolution

    @property
    def border(self) -> int:
        return math.ceil(self.reach / FINE)

    @property
    def core(self) -> int:
        """The side of a tile without its borders, for maps of TILE_BYTES."""
        side = math.isqrt(TILE_BYTES // (mx.float32.size * self.channels)) // FINE
        return max(side - 2 * self.border, LEAST_CORE)


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis: its core, and its border, which ends at the picture's edge."""

    start: int
    end: int
    core_start: int
    core_end: int

    @property
    def share(self) -> tuple[float, float]:
        """Where the core begins and ends, as shares of the tile."""
        length = self.end - self.start
        return (self.core_start - self.start) / length, (self.core_end - self.start) / length


def in_tiles(segments: Sequence[Segment], x_BHWC: mx.array) -> mx.array:
    """The segments in turn, evaluated: float32."""
    for number, segment in enumerate(segments, start=1):
        x_BHWC = _computed(segment, x_BHWC, mx.float32 if number == len(segments) else mx.bfloat16)
    return x_BHWC


def spans(length: int, core: int, border: int) -> list[Span]:
    """Tiles with about equal cores, of at most `core`."""
    count = -(-length // core)
    edges = pairwise(length * number // count for number in range(count + 1))
    return [Span(max(start - border, 0), min(end + border, length), start, end) for start, end in edges]


def _computed(segment: Segment, x_BHWC: mx.array, dtype: mx.Dtype) -> mx.array:
    unit_in, unit_out = (1, FINE) if segment.up else (FINE, 1)
    rows, columns = (spans(size // unit_in, segment.core, segment.border) for size in x_BHWC.shape[1:3])
    moments, whole = Moments(), mx.zeros((0,))
    while True:
        for row in rows:
            for column in columns:
                cut = x_BHWC[:, row.start * unit_in : row.end * unit_in, column.start * unit_in : column.end * unit_in]
                try:
                    with moments.of_tile((row.share, column.share)):
                        tile = segment.function(cut.astype(mx.float32))
                except Gathered:
                    continue
                if not whole.size:
                    shape = (x_BHWC.shape[0], rows[-1].end * unit_out, columns[-1].end * unit_out, tile.shape[3])
                    whole = mx.zeros(shape, dtype=dtype)
                _place(whole, tile, row, column, unit_out)
                evaluate(whole)
                del tile
        if not moments.update():
            return whole


def _place(whole_BHWC: mx.array, tile_BHWC: mx.array, row: Span, column: Span, unit: int) -> None:
    """Write the tile's core to its place; MLX does so within the array's own memory, as nothing else refers to it."""
    (top, bottom), (left, right) = (
        ((span.core_start - span.start) * unit, (span.core_end - span.start) * unit) for span in (row, column)
    )
    core = tile_BHWC[:, top:bottom, left:right].astype(whole_BHWC.dtype)
    rows, columns = (slice(span.core_start * unit, span.core_end * unit) for span in (row, column))
    whole_BHWC[:, rows, columns] = core
