"""What a model needs of this computer, by base precision and picture size, also when it is not here yet.

    training   a run with the model's own settings, one photo at a time, that keeps no activations: the least it takes
    drawing    a picture with an adapter, for a model that is not made to be trained

    rows       how exactly the base is held: full, 8, 6, 4 bits
    columns    the model's own picture size, one and a half times that, and twice: 512, 768 and 1024 px for most

Every number is predicted, by core/estimate/memory.py from the model's anatomy. Recommended is what costs a picture the least
and fits: first the picture size that is the model's own, then the most exact base.

Units   bytes
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from core.config.resolve import resolve
from core.config.choices import BITS, BasePrecision
from core.config.train import TrainConfig
from core.device.hardware import Computer, Device, this_computer
from core.errors import ConfigProblem
from core.estimate import memory
from core.estimate.architecture import Anatomy
from core.hub import cache as hub_cache
from core.hub.catalog import Entry

PHOTOS = 6  # a model's own number of steps suits up to so many
LEAN = {"batch_size": 1, "activations": "none"}
SIDES = (1.0, 1.5, 2.0)  # times the model's own
GRID_PX = 16

Purpose = Literal["training", "drawing"]


@dataclass(frozen=True, slots=True)
class Need:
    """What one precision and picture size is predicted to take."""

    base_precision: BasePrecision
    side_px: int
    memory: int
    disk: int  # what a run leaves there; 0 for drawing
    fits: bool
    recommended: bool


@dataclass(frozen=True, slots=True)
class ModelNeeds:
    """Every precision at every picture size, row by row, against this computer."""

    purpose: Purpose
    device: Device
    memory_there: int
    disk_there: int  # free, where runs are kept and downloads go
    table: tuple[Need, ...]
    sentence: str  # with which settings it fits, or that none does


def here(entry: Entry, home: Path) -> ModelNeeds | None:
    """What a model needs of this computer, what is still to come of its download included; runs are kept in `home`."""
    computer = this_computer(home)
    if entry.on_disk or entry.known is None:
        return model_needs(entry, computer)
    to_fetch = max(entry.known.download_bytes - hub_cache.bytes_here(entry.known.repo), 0)
    room = min(computer.disk, this_computer(hub_cache.root()).disk)  # mostly one disk
    return model_needs(entry, replace(computer, disk=room), to_fetch)


def model_needs(entry: Entry, computer: Computer, to_fetch: int = 0) -> ModelNeeds | None:
    """What this model needs, of whose files so many bytes are still to be downloaded onto the disk.

    None where nothing says how it is built, or its card sets what no run can have.
    """
    anatomy = Anatomy.of_entry(entry)
    try:
        own = resolve(LEAN, entry.defaults).config
    except ConfigProblem:
        return None
    if anatomy is None:
        return None
    sides = [int(own.side_px * times) // GRID_PX * GRID_PX for times in SIDES]
    wanted = own.side_px if entry.trains else entry.drawing.get("side_px", own.side_px)
    rest = replace(computer, disk=computer.disk - to_fetch)
    table = [_need(anatomy, own, precision, side, rest, entry.trains) for precision in BITS for side in sides]
    fitting = [need for need in table if need.fits and need.side_px <= wanted]
    best = max(fitting, key=lambda need: need.side_px, default=None)  # of one size the first, which is the most exact
    return ModelNeeds(
        purpose="training" if entry.trains else "drawing",
        device=computer.device,
        memory_there=computer.memory,
        disk_there=computer.disk,
        table=tuple(replace(need, recommended=need is best) for need in table),
        sentence=_sentence(best) if best else memory.nothing_fits(min(n.memory for n in table) <= computer.memory),
    )


def _sentence(best: Need) -> str:
    words = memory.spoken({"base_precision": best.base_precision, "side_px": best.side_px})
    disk = f", {memory.gib(best.disk)} GiB on the disk" if best.disk else ""
    return f"{words}: about {memory.gib(best.memory)} GiB of memory{disk}."


def _need(
    anatomy: Anatomy, own: TrainConfig, precision: BasePrecision, side: int, computer: Computer, trains: bool
) -> Need:
    needed = _predicted(anatomy, own, precision, side, computer.device, computer.memory, trains)
    fits = memory.fits_memory(needed, computer) and memory.fits_disk(needed, computer)
    return Need(precision, side, needed.memory, needed.disk, fits, recommended=False)


@lru_cache(maxsize=1024)
def _predicted(
    anatomy: Anatomy,
    own: TrainConfig,
    precision: BasePrecision,
    side: int,
    device: Device,
    available: int,
    trains: bool,
) -> memory.Needs:
    """Once for each process: the free disk, which changes, has no part in it."""
    config = replace(own, base_precision=precision, side_px=side, more_sides_px=())
    needed = memory.needs(anatomy, config, Computer(device, available, disk=0), PHOTOS if trains else 0)
    return needed if trains else replace(needed, encoding=0, training=0, disk=0)
