"""The hosts file: the machines that train one adapter together, in the format of `mlx.launch`.

    [{"ssh": "127.0.0.1",  "ips": ["192.168.7.1"]},       this machine, always the first: rank 0
     {"ssh": "mini.local", "ips": ["192.168.7.2"]}]       each of the others: its ssh name and addresses

or {"backend": "ring", "envs": ["NAME=value"], "hosts": [...]}. Backends: ring (Ethernet, Thunderbolt), jaccl and
jaccl-ring (RDMA over Thunderbolt; each host then has "rdma" as well), nccl (NVIDIA GPUs). `mlx.distributed_config`
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
# Environment variables that the launching process sets:
NAMES = "LIKENESS_GROUP"  # the hosts' names, with commas
TOKEN = "LIKENESS_GROUP_TOKEN"  # a shared secret
LOCK = "LIKENESS_GROUP_LOCK"  # the file that the launching process keeps locked as long as it lives
PREFIXES = ("MLX_", "NCCL_")  # of the variables that mlx.launch sets


@dataclass(frozen=True, slots=True)
class Hosts:
    """The contents of a hosts file."""

    entries: tuple[dict[str, Any], ...]
    backend: str  # if empty, mlx.launch chooses
    envs: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The ssh names of the machines; the first is this one."""
        return tuple(entry["ssh"] for entry in self.entries)

    def taking_part(self, machines: int) -> int:
        """How many of the hosts train a run for `machines`: as many as share it evenly."""
        return next(count for count in range(min(machines, len(self.entries)), 0, -1) if machines % count == 0)

    def as_launched(self, count: int) -> dict[str, Any]:
        """The first `count` hosts as a hosts file for mlx.launch; the first one's process starts here, without ssh."""
        first, *others = self.entries[:count]
        hosts = [{**first, "ssh": HERE}, *others]
        return {"backend": self.backend, "envs": list(self.envs), "hosts": hosts}


def read(path: Path) -> Hosts:
    """Read and check a hosts file. Raises ConfigProblem, naming every problem in it."""
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
    problems = []
    if not 1 <= len(entries) <= AT_MOST:
        problems.append(f"lists {len(entries)} hosts; it can be 1 to {AT_MOST}")
    if backend and backend not in BACKENDS:
        problems.append(f"names the backend {backend!r}; it can be {', '.join(BACKENDS)}")
    if not isinstance(envs, list) or not all(isinstance(each, str) and "=" in each for each in envs):
        problems.append(f'has {envs!r} for "envs"; it must be a list such as ["NAME=value"]')
    for number, entry in enumerate(entries, start=1):
        name, ips = entry.get("ssh"), entry.get("ips")
        if not isinstance(name, str) or not name.strip() or name.startswith("-"):
            problems.append(f'has {name!r} for "ssh" of host {number}; it must be a name that ssh knows')
        reached = isinstance(ips, list) and ips and all(isinstance(ip, str) and ip for ip in ips)
        if not reached and (number == 1 or backend in ("", "ring")):
            problems.append(f'has {ips!r} for "ips" of host {number}; it must be a list such as ["192.168.7.{number}"]')
    if problems:
        raise _wrong(path, problems)
    return Hosts(tuple(entries), backend, tuple(envs))


def stands_in() -> bool:
    """Whether this process is the stand-in for rank 0 (core/distributed/launch.py)."""
    return os.environ.get("MLX_RANK") == "0" and TOKEN in os.environ


def stand_in() -> None:
    """Print the environment that mlx.launch set for rank 0, and wait until the process that uses it has ended.

    The system releases that process's lock however it ends. Then this process ends, and mlx.launch with it.
    """
    environment = {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)}
    sys.stdout.write(json.dumps({"environment": environment}) + "\n")
    sys.stdout.flush()
    with suppress(OSError), Path(os.environ[LOCK]).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)


def _wrong(path: Path, problems: list[str]) -> ConfigProblem:
    return ConfigProblem(f"The hosts file {path} cannot be used.", [FieldProblem("hosts", each) for each in problems])
