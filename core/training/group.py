"""The processes that train one adapter, as the trainer sees them: a protocol, and the group of one.

core/distributed implements the protocol for several processes; the trainer needs no more than this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import mlx.core as mx

from core.config.train import TrainConfig
from core.errors import TrainingProblem
from core.models.base import Family
from core.training.checkpoint import State
from core.training.encode import Material
from core.training.events import Request
from core.training.optimizers import Tensors


class MachineLost(TrainingProblem):
    """A machine of the run is gone or cannot go on; the message names it."""


@dataclass(frozen=True, slots=True)
class Start:
    """What every rank needs to know before the examples are encoded."""

    config: TrainConfig
    family: Family
    folder: Path  # of the run, with its checkpoints
    state: State | None  # the checkpoint to resume from
    start_from: Path | None  # the adapter file that a new run begins with


class Group(Protocol):
    """The ranks of a run. Rank 0 has the photos, the run folder and the user; every rank takes the same steps."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def share_start(self, start: Start) -> None:
        """On rank 0: send every peer the settings and the files that the run begins with."""

    def share_material(self, material: Material | None) -> None:
        """On rank 0: send every peer the encoded examples; None when the run stops before its first step."""

    def sum(self, loss: mx.array, photo_sigma_and_loss: mx.array, g: Tensors) -> tuple[mx.array, mx.array, Tensors]:
        """The sum of each over all ranks, evaluated. Raises MachineLost."""

    def agree(self, request: Request) -> Request:
        """After a step: rank 0's request, which every rank then follows. Raises MachineLost."""

    def check(self) -> None:
        """Raise MachineLost if a peer is gone; for rank 0 while it scores, draws or encodes and the peers wait."""


class Alone:
    """The group of one process, which costs nothing."""

    rank = 0
    size = 1

    def share_start(self, start: Start) -> None:
        """There is no peer."""

    def share_material(self, material: Material | None) -> None:
        """There is no peer."""

    def sum(self, loss: mx.array, photo_sigma_and_loss: mx.array, g: Tensors) -> tuple[mx.array, mx.array, Tensors]:
        return loss, photo_sigma_and_loss, g

    def agree(self, request: Request) -> Request:
        return request

    def check(self) -> None:
        """There is no peer to lose."""


ALONE = Alone()
