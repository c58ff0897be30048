"""Training on several machines from the command line, and `likeness join`, which mlx.launch starts on the others."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.resources import JOIN, ROOT
from app.terminal.console import DONE, FAILED, print_line
from core.config.train import TrainConfig
from core.distributed.hosts import Hosts
from core.distributed.launch import launched
from core.distributed.peer import follow
from core.distributed.process_group import init_process_group
from core.distributed.rendezvous import Rendezvous, own_name
from core.errors import Problem
from core.hub import catalog
from core.models.base import Family
from core.models.load import load_family
from core.training.group import Group


def machine_count(hosts: Hosts | None) -> int:
    """How many machines share a run that starts now: those of mlx.launch, else those of the hosts file, else 1."""
    rendezvous = Rendezvous.from_environment()
    return rendezvous.size if rendezvous else len(hosts.entries) if hosts else 1


@contextmanager
def group_of(hosts: Hosts | None, machines: int) -> Iterator[Group]:
    """The process group of a run: started by mlx.launch with this process, or on the hosts. Raises TrainingProblem."""
    rendezvous = Rendezvous.from_environment()
    if rendezvous is None:
        with launched(hosts, machines, JOIN, ROOT) as group:
            yield group
        return
    group = init_process_group(rendezvous)
    try:
        yield group
    finally:
        group.close()


def is_peer() -> bool:
    """Whether mlx.launch started this process as a rank above 0."""
    rendezvous = Rendezvous.from_environment()
    return rendezvous is not None and rendezvous.rank > 0


def join(folders: Sequence[Path]) -> int:
    """Take part until the run ends. Rank 0 reports what this machine cannot do."""

    def load(config: TrainConfig) -> Family:
        return load_family(catalog.find(config.model, folders).path, quantize=config.base_bits)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for rank 0, which ends the others
    rendezvous = Rendezvous.from_environment()
    if rendezvous is None:
        raise Problem("mlx.launch starts this, for `likeness train --hosts FILE`.")
    group = init_process_group(rendezvous)
    try:
        follow(group, load)
    except Problem as problem:
        group.close(problem=str(problem))
        print_line(f"{own_name()}: {problem}")
        return FAILED
    group.close()
    return DONE
