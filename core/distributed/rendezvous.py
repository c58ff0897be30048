"""How the ranks of a group find each other, over plain sockets and before MLX connects them.

    environment   mlx.launch gives each process its rank, the world size and the coordinator address
    rank 0        listens at that address, one port below the one on which MLX's first rank listens
    each peer     connects and says hello: rank, name, token, versions; rank 0 welcomes all when all are there

Source of the environment: mlx.launch and MLX 0.32's backends ring, nccl and jaccl.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.device import backend
from core.distributed.channel import Channel, Gone, connect
from core.distributed.hosts import NAMES, TOKEN
from core.training.group import MachineLost

RENDEZVOUS_SECONDS = 120.0  # for ssh, Python and MLX to start on every machine
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Rank, world size and coordinator address of this process."""

    rank: int
    size: int
    backend: str  # MLX's: ring, nccl or jaccl
    host: str
    port: int

    @staticmethod
    def from_environment() -> Rendezvous | None:
        """What mlx.launch set; None for a process that it did not start, or started alone."""
        env = os.environ
        rank = env.get("MLX_RANK", "")
        if not rank.isdecimal():
            return None
        if "NCCL_HOST_IP" in env:
            size, backend = int(env.get("MLX_WORLD_SIZE") or 0), "nccl"
            host, port = env["NCCL_HOST_IP"], env.get("NCCL_PORT", "")
        elif "MLX_JACCL_COORDINATOR" in env:
            size, backend = len(_read_list(env.get("MLX_IBV_DEVICES", ""))), "jaccl"
            host, _, port = env["MLX_JACCL_COORDINATOR"].rpartition(":")
        else:
            ring = _read_list(env.get("MLX_HOSTFILE", ""))
            size, backend = len(ring), "ring"
            first = (ring[0] if isinstance(ring[0], str) else ring[0][0]) if ring else ":0"
            host, _, port = first.rpartition(":")
        return Rendezvous(int(rank), size, backend, host, int(port or 0) - 1) if size > 1 else None


@dataclass(frozen=True, slots=True)
class Connections:
    """Channels and machine names by rank: on rank 0 those of all peers, on a peer those of rank 0."""

    channels: dict[int, Channel]
    names: dict[int, str]

    def close(self) -> None:
        for channel in self.channels.values():
            channel.close()


def wait_for_peers(rendezvous: Rendezvous, launch_error: Callable[[], str] = str) -> Connections:
    """On rank 0: accept every peer; a caller that is none of them is disconnected.

    `launch_error` is polled meanwhile: a sentence as soon as there is no use in waiting. Raises MachineLost, naming the
    machine that is missing.
    """
    names = dict(enumerate(_host_names()))
    connections = Connections({}, names)
    try:
        _accept_all(rendezvous, connections, launch_error)
    except OSError as error:
        connections.close()
        address = f"{rendezvous.host}:{rendezvous.port}"
        raise MachineLost(
            f"The other machines cannot be waited for at {address}: {error.strerror}. "
            "It must be an address of this machine."
        ) from None
    except MachineLost:
        connections.close()
        raise
    for channel in connections.channels.values():
        channel.send("welcome")
    return connections


def join_coordinator(rendezvous: Rendezvous) -> Connections:
    """On a peer: connect to rank 0 and wait for its welcome. Raises MachineLost."""
    names = _host_names()
    name = names[0] if names else "The first machine"
    try:
        channel = connect(rendezvous.host, rendezvous.port, RENDEZVOUS_SECONDS)
        channel.begin()
        token = os.environ.get(TOKEN, "")
        channel.send("hello", versions=_versions(), rank=rendezvous.rank, name=own_name(), token=token)
        channel.receive("welcome")
    except Gone as gone:
        raise MachineLost(lost_words(name, 0, rendezvous.size, str(gone))) from None
    return Connections({0: channel}, {0: name})


def lost_words(name: str, rank: int, size: int, how: str) -> str:
    """The sentence about a machine that is gone."""
    return f"{name} (machine {rank + 1} of {size}) is gone: {how}."


def own_name() -> str:
    """The host name of this machine."""
    return socket.gethostname()


def _accept_all(rendezvous: Rendezvous, connections: Connections, launch_error: Callable[[], str]) -> None:
    """Raises OSError, MachineLost."""
    deadline = time.monotonic() + RENDEZVOUS_SECONDS
    family = socket.AF_INET6 if ":" in rendezvous.host else socket.AF_INET
    with socket.create_server((rendezvous.host, rendezvous.port), family=family) as server:
        server.settimeout(POLL_SECONDS)
        while missing := [rank for rank in range(1, rendezvous.size) if rank not in connections.channels]:
            if words := launch_error():
                raise MachineLost(words)
            if time.monotonic() > deadline:
                name = connections.names.get(missing[0], "A machine")
                how = f"it did not arrive within {RENDEZVOUS_SECONDS:.0f} s"
                raise MachineLost(lost_words(name, missing[0], rendezvous.size, how))
            with suppress(TimeoutError):
                channel = Channel(server.accept()[0])
                channel.begin()
                _greet(channel, rendezvous, connections)


def _greet(channel: Channel, rendezvous: Rendezvous, connections: Connections) -> None:
    """Add a peer to `connections`, or disconnect it. Raises MachineLost if it has other versions."""
    try:
        hello, _ = channel.receive("hello")
        rank = int(hello["rank"])
        taken = rank in connections.channels
        if hello["token"] != os.environ.get(TOKEN, "") or not 0 < rank < rendezvous.size or taken:
            raise ValueError(hello)
    except (Gone, KeyError, TypeError, ValueError):
        channel.close()
        return
    name = connections.names.setdefault(rank, str(hello["name"]))
    ours = _versions()
    if hello["versions"] != ours:
        different = ", ".join(f"{key} {hello['versions'].get(key)} and not {ours[key]}" for key in ours)
        words = f"{name} (machine {rank + 1} of {rendezvous.size}) has {different}; install the same there."
        raise MachineLost(words)
    connections.channels[rank] = channel


def _host_names() -> list[str]:
    """The names of the machines by rank, from whoever launched this process; empty if unknown."""
    return [name for name in os.environ.get(NAMES, "").split(",") if name]


def _versions() -> dict[str, str]:
    """The versions that must be the same on every machine, since the ranks must compute the same."""
    python = ".".join(str(part) for part in sys.version_info[:2])
    return {"MLX": str(backend.describe()["mlx"]), "Python": python}


def _read_list(path: str) -> list[Any]:
    """The JSON list in one of mlx.launch's files; empty if there is none."""
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8") or "[]") if path else []
    except (OSError, ValueError):
        return []
    return table if isinstance(table, list) else []
