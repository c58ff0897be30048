"""Starts the peers: `mlx.launch` starts one process on each machine, and this process is rank 0.

    this process --starts--> mlx.launch --ssh--> a stand-in here (rank 0), peers on the other machines
    stand-in  prints the environment that mlx.launch gave it, and waits; this process uses it and is rank 0

So the process that starts a run, at a terminal or for the studio, is also the one that trains, and mlx.launch still
decides how the processes find each other, with every backend.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO

from core.distributed.hosts import HERE, LOCK, NAMES, TOKEN, Hosts
from core.distributed.process_group import init_process_group
from core.distributed.rendezvous import POLL_SECONDS, Rendezvous
from core.errors import TrainingProblem
from core.training.group import ALONE, Group

STAND_IN_SECONDS = 60.0
ENDING_SECONDS = 10.0
NODE = re.compile(r"Node with rank (\d+) exited with code (-?\d+)")  # mlx.launch about a process that failed
SSH_FAILED = "255"  # ssh's own exit code; mlx.launch does not report its message
PORTS = range(20_000, 32_000)  # below the ephemeral ports
INPUT = 2**22  # characters: more than the buffers of a pipe, ssh and a terminal hold
LAST_LINES = 12  # of the output of mlx.launch and the peers, for an error message


class Launcher:
    """A running mlx.launch."""

    def __init__(self, hosts: Hosts, count: int, folder: Path, command: Sequence[str], cwd: Path) -> None:
        self._names = hosts.names[:count]
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._errors: deque[str] = deque(maxlen=LAST_LINES)
        self._lock = os.open(os.environ[LOCK], os.O_WRONLY | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        file = folder / "hosts.json"
        file.write_text(json.dumps(hosts.as_launched(count)), encoding="utf-8")
        port = _free_ports(2 * count + 1) + 1  # the one below is for the rendezvous
        options = ["--hostfile", file, "--starting-port", port, "--nccl-port", port, "--cwd", cwd]
        options += ["-n", self._names.count(self._names[0])]  # with nccl: how many GPUs a host has
        chosen = {each.partition("=")[0] for each in hosts.envs}  # the hosts file overrides this environment
        for name, value in os.environ.items():
            options += ["--env", f"{name}={value}"] if name.startswith("LIKENESS_") and name not in chosen else []
        self._process = subprocess.Popen(
            [*_program(), *map(str, options), "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for this process, which then ends the peers
        )
        for stream, into in ((self._process.stdout, self._lines.put), (self._process.stderr, self._errors.append)):
            threading.Thread(target=_collect_lines, args=(stream, into), daemon=True).start()

    def environment(self) -> dict[str, str]:
        """The environment that mlx.launch gave the stand-in. Raises TrainingProblem if it did not start."""
        deadline = time.monotonic() + STAND_IN_SECONDS
        while time.monotonic() < deadline and not self.error():
            with suppress(queue.Empty, ValueError, TypeError, KeyError):
                return dict(json.loads(self._lines.get(timeout=POLL_SECONDS))["environment"])
        words = self.error() or f"mlx.launch started nothing within {STAND_IN_SECONDS:.0f} s. {self._last_words()}"
        raise TrainingProblem(words)

    def error(self) -> str:
        """A sentence as soon as one of the processes could not be started; empty until then."""
        ended = self._process.poll() is not None
        lines = list(self._errors)
        failed = {int(rank): code for line in lines for rank, code in NODE.findall(line)}
        if not failed and not ended:
            return ""
        time.sleep(POLL_SECONDS)  # its last lines may not have arrived
        rank = next((rank for rank in failed if rank), 0)
        name = self._names[rank]
        who = f"{name} (machine {rank + 1} of {len(self._names)})" if rank else "mlx.launch"
        if failed.get(rank) == SSH_FAILED:
            return f"{who} cannot be reached by ssh; `ssh {name} true` in a terminal must work without a question."
        return f"{who} could not start its part: {self._last_words() or 'it said nothing'}"

    def fill_input(self) -> None:
        """Keep mlx.launch from busy-waiting, which it does while one of its processes can take input.

        The input fills their buffers and is never read.
        """
        stdin = self._process.stdin
        if stdin is not None:
            with suppress(OSError):
                stdin.write("\n" * INPUT)
                stdin.flush()

    def end(self) -> None:
        """End the stand-in, and mlx.launch with it; the peers end when the group is closed."""
        os.close(self._lock)
        try:
            self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:  # it waits for a process that is suspended
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError):
                if stream is not None:
                    stream.close()

    def _last_words(self) -> str:
        words = [re.sub(r"\x1b\[\d+m", "", line).strip() for line in list(self._errors)]
        return " ".join(line for line in words if line and "[WARN]" not in line)


@contextmanager
def launched(hosts: Hosts | None, machines: int, command: Sequence[str], cwd: Path) -> Iterator[Group]:
    """The group of the hosts that share a run for so many machines, for the duration of the block; once in a process.

    Every machine runs `command` in `cwd`: it calls `hosts.stand_in` where `hosts.stands_in` is true, else
    `peer.follow`. Raises TrainingProblem, naming the machine that could not be started or did not arrive.
    """
    count = hosts.taking_part(machines) if hosts else 1
    if hosts is None or count == 1:
        yield ALONE
        return
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="likeness-") as folder:
        os.environ |= {NAMES: ",".join(hosts.names[:count]), TOKEN: secrets.token_hex(16), LOCK: f"{folder}/lock"}
        launcher = Launcher(hosts, count, Path(folder), command, cwd)
        try:
            os.environ |= launcher.environment()
            rendezvous = Rendezvous.from_environment()
            if rendezvous is None:
                raise TrainingProblem("mlx.launch did not say where the other machines are.")
            group = init_process_group(rendezvous, launcher.error)
            launcher.fill_input()
            try:
                yield group
            finally:
                group.close()
        finally:
            launcher.end()
            for name in os.environ.keys() - before.keys():
                del os.environ[name]


def _collect_lines(stream: IO[str] | None, into: Callable[[str], None]) -> None:
    for line in stream or ():
        into(line.rstrip())


def _program() -> list[str]:
    """mlx.launch, run by this Python: an MLX on PYTHONPATH has no script on PATH."""
    for entry in entry_points(group="console_scripts", name="mlx.launch"):
        return [sys.executable, "-c", f"from {entry.module} import {entry.attr}; {entry.attr}()"]
    raise TrainingProblem("mlx.launch is not there; it comes with the package mlx. Install that again.")


def _free_ports(count: int) -> int:
    """The first of so many consecutive ports that are free on this machine."""
    while True:
        first = secrets.choice(PORTS)
        with suppress(OSError):
            for port in range(first, first + count):
                socket.create_server((HERE, port)).close()
            return first
