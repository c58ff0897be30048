"""Several processes, on one machine or on many, that take each step of a run together.

    g = sum over ranks of g_rank / micro-steps        one all_sum over one float32 buffer, losses included

Each holds the whole adapter and takes its share of a step's micro-steps; the sum has the same bits everywhere, and so
do the weights after it. The first, rank 0, leads: it alone has photos, run folder and user, writes checkpoints, draws
samples, and tells the others what the user requests, so that all take the same steps. The others follow (peer.py).

They meet over plain sockets (channel.py) before MLX connects them, at the port below the one that MLX's first rank
listens on, and go on beating there. MLX's ring raises when a peer's process ends, and waits for ever for one that
sleeps; so the sum is made in a thread of its own, and whoever waits for it hears of a lost machine whatever MLX does.
While it connects, MLX holds Python's lock, and no thread runs at all; there a signal of the system ends its waiting.

Source of the environment: mlx.launch and MLX 0.32's backends ring, nccl and jaccl.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn, Protocol

import mlx.core as mx

from core.distributed.channel import DONE, SILENCE_SECONDS, Channel, Gone, connect
from core.distributed.hosts import NAMES, TOKEN
from core.errors import TrainingProblem
from core.training.events import Request
from core.training.optimizers import Tensors

MEET_SECONDS = 120.0  # for ssh, Python and MLX to start on every machine
CONNECT_SECONDS = 10.0  # for MLX's ring, between machines that are all here
TELLING_SECONDS = 5.0  # after MLX lost a peer, until our own connection says whose it was
ENDING_SECONDS = 20  # for a process that lost a machine to say so and end
LOOK_SECONDS = 0.2


class MachineLost(TrainingProblem):
    """A machine of the run is gone, or cannot go on; the message names it."""


class Group(Protocol):
    """Who takes the steps of a run."""

    rank: int
    size: int

    def sum(self, loss: mx.array, draws: mx.array, g: Tensors) -> tuple[mx.array, mx.array, Tensors]:
        """The sum of each over all ranks, evaluated. Raises MachineLost."""

    def agree(self, request: Request) -> Request:
        """What the first machine's user requests, after a step; all answer the same. Raises MachineLost."""

    def check(self) -> None:
        """For who works alone for long, while the others wait. Raises MachineLost."""

    def hand_out(self, kind: str, body: bytes = b"", **header: Any) -> None:
        """Send a message to every peer."""

    def receive(self, kind: str) -> tuple[dict[str, Any], bytes]:
        """The next message of the first machine. Raises MachineLost."""


class Alone:
    """A group of one, which costs nothing."""

    rank, size = 0, 1

    def sum(self, loss: mx.array, draws: mx.array, g: Tensors) -> tuple[mx.array, mx.array, Tensors]:
        return loss, draws, g

    def agree(self, request: Request) -> Request:
        return request

    def check(self) -> None:
        """There is nobody to lose."""

    def hand_out(self, kind: str, body: bytes = b"", **header: Any) -> None:
        """There is nobody to send it to."""

    def receive(self, kind: str) -> tuple[dict[str, Any], bytes]:
        raise MachineLost(f"There is no machine that could send {kind!r}.")


ALONE = Alone()


@dataclass(frozen=True, slots=True)
class Invitation:
    """What mlx.launch told this process: its place among the others, and where the first one is to be found."""

    rank: int
    size: int
    backend: str
    host: str
    port: int

    @staticmethod
    def from_environment() -> Invitation | None:
        """None for a process that mlx.launch did not start, or started alone."""
        told = os.environ
        rank = told.get("MLX_RANK", "")
        if not rank.isdecimal():
            return None
        if "NCCL_HOST_IP" in told:
            size, backend, host, port = told.get("MLX_WORLD_SIZE"), "nccl", told["NCCL_HOST_IP"], told.get("NCCL_PORT")
        elif "MLX_JACCL_COORDINATOR" in told:
            size, backend = len(_table(told.get("MLX_IBV_DEVICES", ""))), "jaccl"
            host, _, port = told["MLX_JACCL_COORDINATOR"].rpartition(":")
        else:
            ring = _table(told.get("MLX_HOSTFILE", ""))
            size, backend = len(ring), "ring"
            first = (ring[0] if isinstance(ring[0], str) else ring[0][0]) if ring else ":0"
            host, _, port = first.rpartition(":")
        return Invitation(int(rank), int(size or 0), backend, host, int(port or 0) - 1) if int(size or 0) > 1 else None


class ProcessGroup:
    """A group of several processes."""

    def __init__(self, invitation: Invitation, channels: dict[int, Channel], names: dict[int, str]) -> None:
        self.rank, self.size, self.backend = invitation.rank, invitation.size, invitation.backend
        self._channels, self._names = channels, names  # by rank: the leader's to all, a peer's to the leader
        self._asked: queue.SimpleQueue[mx.array] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[mx.array | Exception] = queue.SimpleQueue()
        self._summing = False
        self._closed = False
        self._group = self._connected()
        threading.Thread(target=self._answer, daemon=True).start()

    def sum(self, loss: mx.array, draws: mx.array, g: Tensors) -> tuple[mx.array, mx.array, Tensors]:
        parts = [loss, draws, *g.values()]
        flat = mx.concatenate([each.astype(mx.float32).reshape(-1) for each in parts])
        mx.eval(flat)
        self._summing = True
        self._asked.put(flat)
        ends = list(accumulate(each.size for each in parts))
        found = mx.split(self._wait(), ends[:-1])
        loss, draws, *summed = (total.reshape(each.shape) for total, each in zip(found, parts, strict=True))
        mx.eval(loss, draws, summed)
        return loss, draws, dict(zip(g, summed, strict=True))

    def agree(self, request: Request) -> Request:
        if self.rank:
            return Request(self.receive("request")[0]["request"])
        self.check()
        self.hand_out("request", request=(request & Request.STOP).value)
        return request

    def hand_out(self, kind: str, body: bytes = b"", **header: Any) -> None:
        for channel in self._channels.values():
            channel.send(kind, body, **header)

    def receive(self, kind: str) -> tuple[dict[str, Any], bytes]:
        try:
            return self._channels[0].receive(kind)
        except Gone as gone:
            raise MachineLost(self._sentence(0, str(gone))) from None

    def check(self) -> None:
        for rank, channel in self._channels.items():
            if channel.lost:
                raise MachineLost(self._sentence(rank, channel.lost))

    def close(self, problem: str = "") -> None:
        """Leave. A peer that cannot go on says why; a leader that goes early ends the peers with it."""
        if self._closed:
            return
        self._closed = True
        if self.rank:
            self.hand_out("problem", message=problem) if problem else self.hand_out(DONE)
        for channel in self._channels.values():
            channel.close()
        if self._summing:  # for ever: inside MLX, which must not keep this process from ending
            faulthandler.dump_traceback_later(ENDING_SECONDS, exit=True, file=sys.__stderr__)

    def _connected(self) -> mx.distributed.Group:
        """Have MLX connect the machines. Raises MachineLost when it cannot."""
        seconds = CONNECT_SECONDS if self.backend == "ring" else MEET_SECONDS
        for channel in self._channels.values():
            channel.be_patient(seconds)  # none of them can beat
        try:
            with _interrupted_after(CONNECT_SECONDS if self.backend == "ring" else None):
                return mx.distributed.init(strict=True, backend=self.backend)
        except RuntimeError as error:
            try:
                self._blame(f"MLX could not connect the machines within {seconds:.0f} s: {error}.", SILENCE_SECONDS)
            except MachineLost as lost:
                self.close(lost.message)
                raise
        finally:
            for channel in self._channels.values():
                channel.be_patient(0)

    def _answer(self) -> None:
        """Sum what is asked for. MLX's NCCL works on the card, its other backends on the CPU."""
        stream = mx.new_stream(mx.gpu if self.backend == "nccl" else mx.cpu)
        while True:
            try:
                total = mx.distributed.all_sum(self._asked.get(), group=self._group, stream=stream)
                mx.eval(total)
                self._answered.put(total)
            except (RuntimeError, ValueError) as error:
                self._answered.put(error)

    def _wait(self) -> mx.array:
        """The sum, as soon as it is there. Raises MachineLost as soon as it can never be."""
        while True:
            with suppress(queue.Empty):
                answer = self._answered.get(timeout=LOOK_SECONDS)
                self._summing = False
                if isinstance(answer, mx.array):
                    return answer
                self._blame(f"The connection to the other machines broke: {answer}.", TELLING_SECONDS)
            self.check()

    def _blame(self, words: str, seconds: float) -> NoReturn:
        """Raise MachineLost, about the machine that turns out to be gone, else with these words."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            time.sleep(LOOK_SECONDS)
        raise MachineLost(words)

    def _sentence(self, rank: int, how: str) -> str:
        return lost_words(self._names[rank], rank, self.size, how)


def meet(invitation: Invitation, trouble: Callable[[], str] = str) -> ProcessGroup:
    """Wait until everybody is here, then let MLX connect them.

    The leader asks `trouble` meanwhile, which answers with a sentence when there is no use in waiting any longer.

    Raises MachineLost, naming who is missing.
    """
    channels, names = _receive(invitation, trouble) if invitation.rank == 0 else _arrive(invitation)
    return ProcessGroup(invitation, channels, names)


@contextmanager
def _interrupted_after(seconds: float | None) -> Iterator[None]:
    """For a call that waits where no Python runs: after so long an alarm has its system calls fail, and then it too.

    Where that is of no avail, or not requested for, the process ends after MEET_SECONDS. Only a main thread has alarms.
    """
    faulthandler.dump_traceback_later(MEET_SECONDS, exit=True, file=sys.__stderr__)
    alarms = seconds is not None and threading.current_thread() is threading.main_thread()
    if alarms:
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        if alarms:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
        faulthandler.cancel_dump_traceback_later()


def lost_words(name: str, rank: int, size: int, how: str) -> str:
    """The sentence about a machine that is gone."""
    return f"{name} (machine {rank + 1} of {size}) is gone: {how}."


def own_name() -> str:
    """What this machine calls itself."""
    return socket.gethostname()


def _receive(invitation: Invitation, trouble: Callable[[], str]) -> tuple[dict[int, Channel], dict[int, str]]:
    """Let every peer in. A caller who is none of them is sent away."""
    told = dict(enumerate(filter(None, os.environ.get(NAMES, "").split(","))))
    channels: dict[int, Channel] = {}
    names = dict(told)
    deadline = time.monotonic() + MEET_SECONDS
    family = socket.AF_INET6 if ":" in invitation.host else socket.AF_INET
    try:
        with socket.create_server((invitation.host, invitation.port), family=family) as door:
            door.settimeout(LOOK_SECONDS)
            while missing := [rank for rank in range(1, invitation.size) if rank not in channels]:
                if words := trouble():
                    raise MachineLost(words)
                if time.monotonic() > deadline:
                    name = names.get(missing[0], "A machine")
                    raise MachineLost(
                        lost_words(name, missing[0], invitation.size, f"it did not arrive within {MEET_SECONDS:.0f} s")
                    )
                with suppress(TimeoutError):
                    channel = Channel(door.accept()[0])
                    channel.begin()
                    _greet(channel, invitation, channels, names)
    except OSError as error:
        for channel in channels.values():
            channel.close()
        words = f"The other machines cannot be waited for at {invitation.host}:{invitation.port}: {error.strerror}."
        raise MachineLost(f"{words} It must be an address of this machine.") from None
    except MachineLost:
        for channel in channels.values():
            channel.close()
        raise
    for channel in channels.values():
        channel.send("welcome")
    return channels, names


def _greet(channel: Channel, invitation: Invitation, channels: dict[int, Channel], names: dict[int, str]) -> None:
    try:
        hello, _ = channel.receive("hello")
        rank = int(hello["rank"])
        if hello["token"] != os.environ.get(TOKEN, "") or not 0 < rank < invitation.size or rank in channels:
            raise ValueError(hello)
    except (Gone, KeyError, TypeError, ValueError):
        channel.close()
        return
    names.setdefault(rank, str(hello["name"]))
    ours = _versions()
    if hello["versions"] != ours:
        different = ", ".join(f"{key} {hello['versions'].get(key)} and not {ours[key]}" for key in ours)
        words = f"{names[rank]} (machine {rank + 1} of {invitation.size}) has {different}; install the same there."
        raise MachineLost(words)
    channels[rank] = channel


def _arrive(invitation: Invitation) -> tuple[dict[int, Channel], dict[int, str]]:
    told = list(filter(None, os.environ.get(NAMES, "").split(",")))
    name = told[0] if told else "The first machine"
    try:
        channel = connect(invitation.host, invitation.port, MEET_SECONDS)
        channel.begin()
        hello = {"rank": invitation.rank, "name": own_name(), "token": os.environ.get(TOKEN, "")}
        channel.send("hello", versions=_versions(), **hello)
        channel.receive("welcome")
    except Gone as gone:
        raise MachineLost(lost_words(name, 0, invitation.size, str(gone))) from None
    return {0: channel}, {0: name}


def _versions() -> dict[str, str]:
    """What must be the same on every machine, or the ranks would compute different things."""
    return {"MLX": mx.__version__, "Python": ".".join(str(part) for part in sys.version_info[:2])}


def _table(path: str) -> Any:
    """The JSON in one of mlx.launch's files; an empty list for an empty file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8") or "[]") if path else []
    except (OSError, ValueError):
        return []
