"""The hosts file: the machines that train one adapter together, as `mlx.launch` reads it.

    [{"ssh": "127.0.0.1",  "ips": ["192.168.7.1"]},       this machine, always the first; it keeps the run
     {"ssh": "mini.local", "ips": ["192.168.7.2"]}]       each of the others, as ssh knows it, and where it is reached

or {"backend": "ring", "envs": ["NAME=value"], "hosts": [...]}. Backends: ring (Ethernet, Thunderbolt), jaccl and
jaccl-ring (RDMA over Thunderbolt; each host then has "rdma" as well), nccl (NVIDIA cards). `mlx.distributed_config`
writes such a file.

Standard library only: the web process uses it too.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import strict_json
from core.errors import ConfigProblem, FieldProblem

BACKENDS = ("ring", "jaccl", "jaccl-ring", "nccl")
HERE = "127.0.0.1"  # the one address that mlx.launch starts a process at without ssh
AT_MOST = 64  # machines; also the range of the knob
NAMES, TOKEN = "LIKENESS_CREW", "LIKENESS_CREW_TOKEN"  # environment: the hosts' names with commas, and a shared secret
HELD = "LIKENESS_CREW_HELD"  # and the file that whoever launched them holds locked, for as long as it lives
TOLD = ("MLX_", "NCCL_")  # how the names of what mlx.launch tells a process begin


@dataclass(frozen=True, slots=True)
class Hosts:
    """What a hosts file says."""

    entries: tuple[dict[str, Any], ...]
    backend: str  # empty: mlx.launch chooses
    envs: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The machines as ssh knows them, the first being this one."""
        return tuple(entry["ssh"] for entry in self.entries)

    def taking_part(self, machines: int) -> int:
        """How many of the hosts a run for so many machines is shared by: all can be, or as many as share it evenly."""
        return next(count for count in range(min(machines, len(self.entries)), 0, -1) if machines % count == 0)

    def as_launched(self, count: int) -> dict[str, Any]:
        """The first `count` hosts as a hosts file for mlx.launch, which starts the first one's process here."""
        first, *others = self.entries[:count]
        hosts = [{**first, "ssh": HERE}, *others]
        return {"backend": self.backend, "envs": list(self.envs), "hosts": hosts}


def read(path: Path) -> Hosts:
    """Read and check a hosts file. Raises ConfigProblem, naming everything that is wrong with it."""
    try:
        table = strict_json.loads(path.read_bytes())
    except OSError as error:
        raise _wrong(path, [f"cannot be read: {error.strerror}"]) from None
    except ValueError as error:
        raise _wrong(path, [str(error)]) from None
    table = {"hosts": table} if isinstance(table, list) else table
    entries = table.get("hosts") if isinstance(table, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _wrong(path, ['must hold a list of hosts, such as [{"ssh": "mini.local", "ips": ["192.168.7.2"]}]'])
    backend, envs = str(table.get("backend") or ""), table.get("envs") or []
    troubles = []
    if not 1 <= len(entries) <= AT_MOST:
        troubles.append(f"lists {len(entries)} hosts; it can be 1 to {AT_MOST}")
    if backend and backend not in BACKENDS:
        troubles.append(f"names the backend {backend!r}; it can be {', '.join(BACKENDS)}")
    if not isinstance(envs, list) or not all(isinstance(each, str) and "=" in each for each in envs):
        troubles.append(f'has {envs!r} for "envs"; it must be a list such as ["NAME=value"]')
    for number, entry in enumerate(entries, start=1):
        name, ips = entry.get("ssh"), entry.get("ips")
        if not isinstance(name, str) or not name.strip() or name.startswith("-"):
            troubles.append(f'has {name!r} for "ssh" of host {number}; it must be a name that ssh knows')
        reached = isinstance(ips, list) and ips and all(isinstance(ip, str) and ip for ip in ips)
        if not reached and (number == 1 or backend in ("", "ring")):
            troubles.append(f'has {ips!r} for "ips" of host {number}; it must be a list such as ["192.168.7.{number}"]')
    if troubles:
        raise _wrong(path, troubles)
    return Hosts(tuple(entries), backend, tuple(envs))


def stands_in() -> bool:
    """Whether this process is the first of a group that another process has launched (core/distributed/launch.py)."""
    return os.environ.get("MLX_RANK") == "0" and TOKEN in os.environ


def stand_in() -> None:
    """What the first process does when another takes its place: say what it was told, and wait until that is gone.

    A lock is let go by the system too, so however the other ends, this process ends, and mlx.launch with it.
    """
    told = {name: value for name, value in os.environ.items() if name.startswith(TOLD)}
    sys.stdout.write(json.dumps({"told": told}) + "\n")
    sys.stdout.flush()
    with suppress(OSError), Path(os.environ[HELD]).open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)


def _wrong(path: Path, troubles: list[str]) -> ConfigProblem:
    return ConfigProblem(f"The hosts file {path} cannot be used.", [FieldProblem("hosts", each) for each in troubles])
