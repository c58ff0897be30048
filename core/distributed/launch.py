"""Starting the others: `mlx.launch` brings up one process on each machine, and this process is the first of them.

    this process --starts--> mlx.launch --ssh--> a stand-in here (rank 0), peers on the other machines
    stand-in  says in one line what mlx.launch told it, and waits; this process takes its place in the group

So whoever starts a run, at a terminal or for the studio, stays the one that trains, and mlx.launch still decides how
the processes find each other, whatever the backend.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points
from pathlib import Path

from core.distributed.hosts import HELD, HERE, NAMES, TOKEN, Hosts
from core.distributed.process_group import ALONE, Group, Invitation, meet
from core.errors import TrainingProblem

STAND_IN_SECONDS = 60.0
ENDING_SECONDS = 10.0
LOOK_SECONDS = 0.2
NODE = re.compile(r"Node with rank (\d+) exited with code (-?\d+)")  # what mlx.launch says of one that failed
SSH_FAILED = "255"  # ssh's own exit code, about which mlx.launch keeps it quiet
PORTS = range(20_000, 32_000)  # below those that systems give out by themselves
INPUT = 2**22  # characters: more than a pipe, ssh and a terminal keep for a process that does not read
LAST_WORDS = 12  # lines of what mlx.launch and the peers said, for a sentence


class Launcher:
    """A running mlx.launch."""

    def __init__(self, hosts: Hosts, count: int, folder: Path, command: Sequence[str], cwd: Path) -> None:
        self._names = hosts.names[:count]
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._said: deque[str] = deque(maxlen=LAST_WORDS)
        self._held = os.open(os.environ[HELD], os.O_WRONLY | os.O_CREAT, 0o600)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        file = folder / "hosts.json"
        file.write_text(json.dumps(hosts.as_launched(count)), encoding="utf-8")
        port = _free_ports(2 * count + 1) + 1  # the one below is the group's own
        options = ["--hostfile", file, "--starting-port", port, "--nccl-port", port, "--cwd", cwd]
        options += ["-n", self._names.count(self._names[0])]  # with nccl: how many cards a host has
        chosen = {each.partition("=")[0] for each in hosts.envs}  # what the hosts file says goes before what holds here
        for name, value in os.environ.items():
            options += ["--env", f"{name}={value}"] if name.startswith("LIKENESS_") and name not in chosen else []
        self._process = subprocess.Popen(
            [*_program(), *map(str, options), "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the run, which then ends the others
        )
        for stream, into in ((self._process.stdout, self._lines.put), (self._process.stderr, self._said.append)):
            threading.Thread(target=lambda s=stream, i=into: [i(line.rstrip()) for line in s], daemon=True).start()

    def told(self) -> dict[str, str]:
        """What mlx.launch told the stand-in. Raises TrainingProblem when it never came to that."""
        deadline = time.monotonic() + STAND_IN_SECONDS
        while time.monotonic() < deadline and not self.trouble():
            with suppress(queue.Empty, ValueError, TypeError, KeyError):
                return dict(json.loads(self._lines.get(timeout=LOOK_SECONDS))["told"])
        words = self.trouble() or f"mlx.launch started nothing within {STAND_IN_SECONDS:.0f} s. {self._last_words()}"
        raise TrainingProblem(words)

    def trouble(self) -> str:
        """A sentence as soon as one of the processes could not be started; empty until then."""
        over = self._process.poll() is not None
        lines = list(self._said)
        failed = {int(rank): code for line in lines for rank, code in NODE.findall(line)}
        if not failed and not over:
            return ""
        time.sleep(LOOK_SECONDS)  # its last words may still be on their way
        rank = next((rank for rank in failed if rank), 0)
        name = self._names[rank]
        who = f"{name} (machine {rank + 1} of {len(self._names)})" if rank else "mlx.launch"
        if failed.get(rank) == SSH_FAILED:
            return f"{who} cannot be reached by ssh; `ssh {name} true` in a terminal must work without a question."
        return f"{who} could not start its part: {self._last_words() or 'it said nothing'}"

    def calm(self) -> None:
        """Keep mlx.launch from spinning, once all have started: it does for as long as one of them could take input.

        So each gets more than it can take, none of which is ever read.
        """
        with suppress(OSError):
            self._process.stdin.write("\n" * INPUT)
            self._process.stdin.flush()

    def end(self) -> None:
        """Let the stand-in go, and mlx.launch with it; the peers end by what the group tells them."""
        os.close(self._held)
        try:
            self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:  # it waits for a process that is asleep
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError):
                stream.close()

    def _last_words(self) -> str:
        words = [re.sub(r"\x1b\[\d+m", "", line).strip() for line in list(self._said)]
        return " ".join(line for line in words if line and "[WARN]" not in line)


@contextmanager
def launched(hosts: Hosts | None, machines: int, command: Sequence[str], cwd: Path) -> Iterator[Group]:
    """A group of the hosts that share a run for so many machines, for as long as the block lasts; once in a process.

    `command` is what every machine runs in `cwd`, where it has one: with `hosts.stands_in` it must be a stand-in, else
    follow. Raises TrainingProblem, naming the machine that could not be started or did not arrive.
    """
    count = hosts.taking_part(machines) if hosts else 1
    if hosts is None or count == 1:
        yield ALONE
        return
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="likeness-") as folder:
        os.environ |= {NAMES: ",".join(hosts.names[:count]), TOKEN: secrets.token_hex(16), HELD: f"{folder}/held"}
        launcher = Launcher(hosts, count, Path(folder), command, cwd)
        try:
            os.environ |= launcher.told()
            invitation = Invitation.from_environment()
            if invitation is None:
                raise TrainingProblem("mlx.launch did not say where the other machines are.")
            group = meet(invitation, launcher.trouble)
            launcher.calm()
            try:
                yield group
            finally:
                group.close()
        finally:
            launcher.end()
            for name in os.environ.keys() - before.keys():
                del os.environ[name]


def _program() -> list[str]:
    """mlx.launch with the Python that runs this, wherever its script lies; an MLX on PYTHONPATH has none on PATH."""
    for entry in entry_points(group="console_scripts", name="mlx.launch"):
        return [sys.executable, "-c", f"from {entry.module} import {entry.attr}; {entry.attr}()"]
    raise TrainingProblem("mlx.launch is not there; it comes with the package mlx. Install that again.")


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on here."""
    while True:
        first = secrets.choice(PORTS)
        with suppress(OSError):
            for port in range(first, first + count):
                socket.create_server((HERE, port)).close()
            return first
