"""Memory of the VAE beyond its weights, for a picture as a whole and tile by tile.

    whole      multiple x the widest map, which is channels at full resolution x pixels; + strips of its rows
    tiles      the largest segment: the map before it + the map after it + multiple x a tile's widest map + strips;
               or attention and its chunks at the latent's resolution

core/models/autoencoder.py decides by these numbers whether it takes tiles, and the forecast of a run
(core/estimate/memory.py) by the same; `python -m bench.vae_memory` measures both.

The multiples of "cuda" were fitted on one NVIDIA H200, whole at 512 to 2,048 px and in tiles at 1,536 and 2,048 px, all
within 15%; those of "cpu" to whole pictures; those of "metal" are guesses on the safe side.

Units   bytes, except channels, which are counts
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.device.hardware import Device
from core.device.working_set import STRIP_AT_MOST, TILE_BYTES

Direction = Literal["encode", "decode"]
ITEM = 4  # the VAE computes in float32
KEPT = 2  # maps between the segments of tiles are kept in 16 bits
COLOURS = 3
STRIP = 8.7  # times a strip of rows, which is what a layer computes at once
COARSE = 7.6  # times the map at the latent's resolution: attention's x, h, k, v, its result, and half a block
MULTIPLES: dict[Direction, dict[Device, float]] = {
    "encode": {"cpu": 4.1, "metal": 4.0, "cuda": 3.8},
    "decode": {"cpu": 3.2, "metal": 5.5, "cuda": 2.55},
}


@dataclass(frozen=True, slots=True)
class Channels:
    """Of each resolution, from the picture's to the latent's."""

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]

    @staticmethod
    def of(channels: Sequence[int], decoder: Sequence[int] | None = None) -> Channels:
        return Channels(tuple(channels), tuple(decoder or channels))

    def widest(self, direction: Direction) -> int:
        """Most channels at the picture's resolution; the decoder's first layer there has those of the level below."""
        return self.encoder[0] if direction == "encode" else self.decoder[min(1, len(self.decoder) - 1)]


def peak(direction: Direction, device: Device, channels: Channels, side_px: int, room: float) -> float:
    """Of a square picture: whole where that fits into `room`, else tile by tile."""
    least = whole(direction, device, channels, side_px**2)
    return least if least <= room else min(least, in_tiles(direction, device, channels, side_px))


def whole(direction: Direction, device: Device, channels: Channels, pixels: int) -> float:
    return _computing(direction, device, ITEM * channels.widest(direction) * pixels)


def in_tiles(direction: Direction, device: Device, channels: Channels, side_px: int) -> float:
    of = channels.encoder if direction == "encode" else channels.decoder
    halvings = len(of) - 1
    maps = [ITEM * COLOURS * side_px**2]  # from the picture to the latent's resolution
    maps += [KEPT * of[max(level - 1, 0)] * (side_px >> level) ** 2 for level in range(1, halvings)]
    if direction == "decode":
        maps[1:] = [KEPT * of[level] * (side_px >> level) ** 2 for level in range(1, halvings)]
    coarse = ITEM * of[-1] * (side_px >> halvings) ** 2
    between = max(one + other for one, other in zip(maps, [*maps[1:], coarse], strict=True))
    return max(between + _computing(direction, device, TILE_BYTES), COARSE * coarse)


def _computing(direction: Direction, device: Device, plane: int) -> float:
    return MULTIPLES[direction][device] * plane + STRIP * plane / -(-plane // STRIP_AT_MOST)
