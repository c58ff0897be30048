"""A peer of a distributed run: takes its share of every step of a run that rank 0 leads.

    start, examples  <- rank 0            handoff.py
    for each step:  its own micro-steps; the sum over all ranks; the same update everywhere

A peer walks rank 0's training loop, but writes, draws and scores nothing and has no caller.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

from core.config.train import TrainConfig
from core.device.hardware import this_computer
from core.distributed import handoff
from core.distributed.handoff import Handoff, Messages
from core.errors import ModelProblem
from core.estimate import memory
from core.models.base import Family
from core.training import checkpoint, setup
from core.training.background_writer import Writer
from core.training.group import Group
from core.training.prepare import PreparedRun, batches_of
from core.training.reporter import Events, Reporter
from core.training.trainer import Loop


class PeerGroup(Group, Messages, Protocol):
    """A group whose peers can receive messages of rank 0."""


class NoOutputs:
    """A peer has no run folder: rank 0 scores, saves and samples."""

    def score(self) -> Events:
        yield from ()

    def save(self) -> Events:
        yield from ()

    def save_if_newer(self) -> Events:
        yield from ()

    def sample(self) -> Events:
        yield from ()

    def wait_until_copied(self) -> None:
        """No checkpoint holds tensors here."""


def follow(group: PeerGroup, load: Callable[[TrainConfig], Family]) -> None:
    """Take part in a run until it ends; `load` loads the base model that the settings name.

    Raises MachineLost when rank 0 is gone, and what `load` raises.
    """
    with (
        tempfile.TemporaryDirectory(prefix="likeness-") as scratch,
        ExitStack() as cleanup,
        closing(Writer()) as writer,
    ):
        start = handoff.receive_start(group, Path(scratch))
        family = load(start.config)
        if handoff.base_of(family) != start.base:
            raise ModelProblem(_other_base(family, start))
        run = _prepare(group, family, start, Reporter(family, group, writer), cleanup)
        if run is not None:
            for _ in Loop(run).take_steps():
                pass


def _prepare(
    group: PeerGroup, family: Family, start: Handoff, reporter: Reporter, cleanup: ExitStack
) -> PreparedRun | None:
    """What `prepare.prepare` does on rank 0; None when the run stops before its first step."""
    config, folder = start.config, start.folder
    state = checkpoint.newest(folder)[0] if start.resume else None
    if state is not None:  # the checkpoint has the number that fits into rank 0's memory
        state.kept = memory.kept_blocks(family.architecture, config, this_computer(folder))
    _ = family.transformer  # loads it while rank 0 encodes
    material = handoff.receive_examples(group)
    if material is None:
        return None
    batches = batches_of(material, config, setup.shift_of(family, state))
    attached = setup.attach(family, config, folder, "", state, start.start_from, cleanup)
    return PreparedRun(
        family, config, attached.state, attached.adapter, attached.assistant, batches, group, NoOutputs(), reporter
    )


def _other_base(family: Family, start: Handoff) -> str:
    """How this machine's model differs from rank 0's, in words."""
    name = start.config.model
    if family.hashes["transformer"] == start.base["transformer"]:
        return f"its {name} has another training assistant than the first machine, or none; copy the whole folder"
    return f"its {name} is not the one that the first machine has; copy that one"
