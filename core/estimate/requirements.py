"""Memory and disk that a model needs, by base precision and picture size, before it is downloaded.

    training   a run with the model's own settings, batch 1, all activations recomputed: the minimum
    drawing    a picture with an adapter, for a model that should not be trained

    rows       base precision: full, 8, 6, 4 bits
    columns    1, 1.5 and 2 times the model's own picture size: 512, 768 and 1024 px for most

Every number is a forecast of core/estimate/memory.py. The recommended cell fits and costs a picture the least: first
the picture size that is the model's own, then the highest precision.

Units   bytes
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from core.config.choices import BITS, BasePrecision
from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.device.hardware import Computer, Device, this_computer
from core.device.units import disk_size, memory_size
from core.errors import ConfigProblem
from core.estimate import memory
from core.estimate.architecture import Architecture
from core.hub import cache as hub_cache
from core.hub.catalog import Entry

PHOTOS = 6  # the model's default number of steps suits up to so many
LEAST = {"batch_size": 1, "activations": "none"}
SIDES = (1.0, 1.5, 2.0)  # times the model's own
GRID_PX = 16

Purpose = Literal["training", "drawing"]


@dataclass(frozen=True, slots=True)
class Need:
    """The forecast for one precision and picture size."""

    base_precision: BasePrecision
    side_px: int
    memory: int
    disk: int  # that a run writes; 0 for drawing
    fits: bool
    recommended: bool


@dataclass(frozen=True, slots=True)
class ModelNeeds:
    """The forecasts for every precision and picture size, row by row, compared with this computer."""

    purpose: Purpose
    device: Device
    memory_there: int
    disk_there: int  # free on the disk of runs and downloads
    table: tuple[Need, ...]
    sentence: str  # the best settings that fit, or that none do


def here(entry: Entry, home: Path) -> ModelNeeds | None:
    """A model's requirements on this computer, the rest of its download included; runs are saved in `home`."""
    computer = this_computer(home)
    if entry.on_disk or entry.known is None:
        return model_needs(entry, computer)
    to_fetch = max(entry.known.download_bytes - hub_cache.bytes_here(entry.known.repo), 0)
    room = min(computer.disk, this_computer(hub_cache.root()).disk)  # usually the same disk
    return model_needs(entry, replace(computer, disk=room), to_fetch)


def model_needs(entry: Entry, computer: Computer, to_fetch: int = 0) -> ModelNeeds | None:
    """The requirements of a model that has `to_fetch` bytes left to download.

    None when its architecture is unknown, or when its card sets invalid knobs.
    """
    architecture = Architecture.of_entry(entry)
    try:
        own = resolve(LEAST, entry.defaults).config
    except ConfigProblem:
        return None
    if architecture is None:
        return None
    sides = [int(own.side_px * times) // GRID_PX * GRID_PX for times in SIDES]
    wanted = own.side_px if entry.trains else entry.drawing.get("side_px", own.side_px)
    rest = replace(computer, disk=computer.disk - to_fetch)
    table = [_need(architecture, own, precision, side, rest, entry.trains) for precision in BITS for side in sides]
    fitting = [need for need in table if need.fits and need.side_px <= wanted]
    best = max(fitting, key=lambda need: need.side_px, default=None)  # the first of a size has the highest precision
    return ModelNeeds(
        purpose="training" if entry.trains else "drawing",
        device=computer.device,
        memory_there=computer.memory,
        disk_there=computer.disk,
        table=tuple(replace(need, recommended=need is best) for need in table),
        sentence=_sentence(best) if best else memory.nothing_fits(min(n.memory for n in table) <= computer.memory),
    )


def _sentence(best: Need) -> str:
    words = memory.described({"base_precision": best.base_precision, "side_px": best.side_px})
    disk = f", {disk_size(best.disk)} on the disk" if best.disk else ""
    return f"{words}: about {memory_size(best.memory)} of memory{disk}."


def _need(
    architecture: Architecture, own: TrainConfig, precision: BasePrecision, side: int, computer: Computer, trains: bool
) -> Need:
    needed = _predicted(architecture, own, precision, side, computer.device, computer.memory, trains)
    fits = memory.fits_memory(needed, computer) and memory.fits_disk(needed, computer)
    return Need(precision, side, needed.memory, needed.disk, fits, recommended=False)


@lru_cache(maxsize=1024)
def _predicted(
    architecture: Architecture,
    own: TrainConfig,
    precision: BasePrecision,
    side: int,
    device: Device,
    available: int,
    trains: bool,
) -> memory.Needs:
    """The forecast, cached per process; it does not depend on the free disk, which changes."""
    config = replace(own, base_precision=precision, side_px=side, more_sides_px=())
    needed = memory.needs(architecture, config, Computer(device, available, disk=0), PHOTOS if trains else 0)
    return needed if trains else replace(needed, photo_encoding=0, training=0, disk=0)
