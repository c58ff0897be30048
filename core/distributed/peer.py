"""A machine that follows: it takes its share of every step of a run that another machine leads.

    charge, examples  <- the first machine            handoff.py
    for each step:  its own micro-steps; the sum over all machines; the same update everywhere

It walks the same loop as the first machine, but writes nothing that stays, draws nothing and is asked nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

from core.config.train import TrainConfig
from core.device.hardware import this_computer
from core.distributed import handoff
from core.distributed.handoff import Handoff
from core.distributed.process_group import Group
from core.errors import ModelProblem
from core.estimate import memory
from core.models.base import Family
from core.training import checkpoint
from core.training.encode import Material
from core.training.events import Progress, Request
from core.training.preview import Previews
from core.training.trainer import Run


def follow(group: Group, load: Callable[[TrainConfig], Family]) -> None:
    """Take part in a run until it ends; `load` gives the base model that it names.

    Raises MachineLost when the first machine is gone, and what `load` raises.
    """
    with tempfile.TemporaryDirectory(prefix="likeness-") as scratch:
        told = handoff.take(group, Path(scratch))
        family = load(told.config)
        if handoff.base_of(family) != told.base:
            raise ModelProblem(_other_base(family, told))
        run = Peer(family, told, group)
        try:
            for _ in run.go(told.resume):
                pass
        finally:
            run.end()


class Peer(Run):
    """A run as one that follows sees it."""

    def __init__(self, family: Family, told: Handoff, group: Group) -> None:
        super().__init__(family, (), told.config, told.folder, "", "", told.folder, told.start_from, "", group)

    def found(self, resume: bool) -> Generator[Progress, Request | None, checkpoint.State | None]:
        yield from ()
        state = checkpoint.newest(self.folder)[0] if resume else None
        if state is not None:  # the checkpoint says what the first machine has memory for
            state.kept = memory.kept_blocks(self.family.architecture, self.config, this_computer(self.folder))
        return state

    def encoded(self) -> Generator[Progress, Request | None, Material | None]:
        yield from ()
        _ = self.family.transformer  # read while the first machine encodes
        return handoff.take_examples(self.group)

    def score(self) -> Generator[Progress, Request | None, None]:
        yield from ()

    def save(self) -> Generator[Progress, Request | None, None]:
        yield from ()

    def sample(self, previews: Previews) -> Generator[Progress, Request | None, None]:
        yield from ()


def _other_base(family: Family, told: Handoff) -> str:
    """How this machine's model differs from the first one's, in words."""
    name = told.config.model
    if family.hashes["transformer"] == told.base["transformer"]:
        return f"its {name} has another training assistant than the first machine, or none; copy the whole folder"
    return f"its {name} is not the one that the first machine has; copy that one"
