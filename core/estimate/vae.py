"""Memory of the VAE beyond its weights, for a picture as a whole and tile by tile.

    whole      multiple x the widest map, which is channels at full resolution x pixels; + strips of its rows
    tiles      the larger of   the same for one tile + the map at the latent's resolution + the picture twice
                               attention and its chunks at the latent's resolution

core/models/autoencoder.py decides by these numbers whether it takes tiles, and the forecast of a run
(core/estimate/memory.py) by the same; `python -m bench.vae_memory` measures both.

Units   bytes, except widths, which are counts of channels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.device.hardware import Device
from core.device.working_set import STRIP_AT_MOST, TILE, TILE_BORDER

Direction = Literal["encode", "decode"]
ITEM = 4  # the VAE computes in float32
UNIT = 8  # pixels of a latent pixel's side
STRIP = 8.7  # times a strip of rows, which is what a layer computes at once
COARSE = (
    7.0  # times the map at the latent's resolution: attention's x, h, k, v, its result twice, and a block beside it
)
MULTIPLES: dict[Direction, dict[Device, float]] = {
    "encode": {"cpu": 4.1, "metal": 4.0, "cuda": 4.0},
    "decode": {"cpu": 4.1, "metal": 5.5, "cuda": 5.5},
}


@dataclass(frozen=True, slots=True)
class Widths:
    """Most channels of a VAE."""

    encoder: int  # at the full resolution
    decoder: int  # the same; its first layer there has those of the level below
    coarse: int  # at the latent's resolution

    @staticmethod
    def of(channels: Sequence[int], decoder: Sequence[int] | None = None) -> Widths:
        back = decoder or channels
        return Widths(channels[0], back[min(1, len(back) - 1)], max(channels[-1], back[-1]))


def peak(direction: Direction, device: Device, widths: Widths, side_px: int, room: float) -> float:
    """Of a square picture: whole where that fits into `room`, else tile by tile."""
    least = whole(direction, device, widths, side_px**2)
    return least if least <= room else in_tiles(direction, device, widths, side_px)


def whole(direction: Direction, device: Device, widths: Widths, pixels: int) -> float:
    plane = ITEM * (widths.encoder if direction == "encode" else widths.decoder) * pixels
    return MULTIPLES[direction][device] * plane + STRIP * plane / -(-plane // STRIP_AT_MOST)


def in_tiles(direction: Direction, device: Device, widths: Widths, side_px: int) -> float:
    coarse = ITEM * widths.coarse * (side_px // UNIT) ** 2
    tile_px = min(UNIT * (TILE + 2 * TILE_BORDER), side_px)
    tile = whole(direction, device, widths, tile_px**2) + coarse + 2 * ITEM * 3 * side_px**2
    return min(max(tile, COARSE * coarse), whole(direction, device, widths, side_px**2))
