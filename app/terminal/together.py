"""`likeness join`: this machine's part in a run that another machine leads. mlx.launch starts it; nobody types it."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.resources import JOIN, ROOT
from app.terminal.console import DONE, FAILED, say
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


def machines_here(hosts: Hosts | None) -> int:
    """On how many machines a run goes that is started now, by mlx.launch or with a hosts file."""
    rendezvous = Rendezvous.from_environment()
    return rendezvous.size if rendezvous else len(hosts.entries) if hosts else 1


@contextmanager
def group_of(hosts: Hosts | None, machines: int) -> Iterator[Group]:
    """The group of a run: those that mlx.launch started with us, or those of the hosts file. Raises TrainingProblem."""
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
    """Whether mlx.launch started this process to follow another."""
    rendezvous = Rendezvous.from_environment()
    return rendezvous is not None and rendezvous.rank > 0


def join(folders: Sequence[Path]) -> int:
    """Follow until the run ends. What this machine cannot do is told at the first one."""

    def load(config: TrainConfig) -> Family:
        return load_family(catalog.find(config.model, folders).folder, quantize=config.base_bits)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the machine that leads; it ends the others
    rendezvous = Rendezvous.from_environment()
    if rendezvous is None:
        raise Problem("mlx.launch starts this, for `likeness train --hosts FILE`.")
    group = init_process_group(rendezvous)
    try:
        follow(group, load)
    except Problem as problem:
        group.close(problem=str(problem))
        say(f"{own_name()}: {problem}")
        return FAILED
    group.close()
    return DONE
