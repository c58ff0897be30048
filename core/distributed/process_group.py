"""A group of several processes, on one machine or on many, that take each step of a run together.

    g = sum over ranks of g_rank / micro-steps        one all_sum over one float32 buffer, losses included

Each rank holds the whole adapter and takes its share of a step's micro-steps. The sum has the same bits on every rank,
and so have the weights after it. Rank 0 leads: it alone has photos, run folder and user, writes checkpoints, draws
samples, and sends the user's stop request to the peers (peer.py), so that all take the same steps.

The ranks find each other over plain sockets (rendezvous.py), whose heartbeats continue while MLX works (channel.py).
MLX's ring raises when a peer's process ends, but waits forever for one that sleeps. So the sum is made in a thread of
its own, and the waiting thread notices a lost machine whatever MLX does. While MLX connects, it holds Python's lock and
no thread runs; a signal ends that wait.
"""

from __future__ import annotations

import faulthandler
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import accumulate
from typing import Any, NoReturn

import mlx.core as mx

from core.distributed import handoff
from core.distributed.channel import DONE, SILENCE_SECONDS, Gone
from core.distributed.rendezvous import (
    POLL_SECONDS,
    RENDEZVOUS_SECONDS,
    Connections,
    Rendezvous,
    join_coordinator,
    lost_words,
    wait_for_peers,
)
from core.training.encode import Material
from core.training.events import Request
from core.training.group import MachineLost, Start
from core.training.optimizers import Tensors

CONNECT_SECONDS = 10.0  # for MLX's ring, between machines that have all arrived
BLAME_SECONDS = 5.0  # after MLX lost a peer, until our own connection shows which
EXIT_SECONDS = 20  # for a process that lost a machine to report it and end
STDERR = 2  # the file descriptor


class ProcessGroup:
    """One rank's view of its group; see `Group` in core/training/group.py and `Messages` in handoff.py."""

    def __init__(self, rendezvous: Rendezvous, connections: Connections) -> None:
        self.rank, self.size, self.backend = rendezvous.rank, rendezvous.size, rendezvous.backend
        self._channels, self._names = connections.channels, connections.names
        self._inputs: queue.SimpleQueue[mx.array] = queue.SimpleQueue()
        self._sums: queue.SimpleQueue[mx.array | Exception] = queue.SimpleQueue()
        self._summing = False
        self._closed = False
        self._group = self._connect_mlx()
        threading.Thread(target=self._sum_inputs, daemon=True).start()

    def share_start(self, start: Start) -> None:
        handoff.send_start(self, start)

    def share_material(self, material: Material | None) -> None:
        handoff.send_examples(self, material)

    def sum(self, loss: mx.array, photo_sigma_and_loss: mx.array, g: Tensors) -> tuple[mx.array, mx.array, Tensors]:
        parts = [loss, photo_sigma_and_loss, *g.values()]
        flat = mx.concatenate([each.astype(mx.float32).reshape(-1) for each in parts])
        mx.eval(flat)
        self._summing = True
        self._inputs.put(flat)
        ends = list(accumulate(each.size for each in parts))
        sums = mx.split(self._wait_for_sum(), ends[:-1])
        loss, photo_sigma_and_loss, *summed = (
            total.reshape(each.shape) for total, each in zip(sums, parts, strict=True)
        )
        mx.eval(loss, photo_sigma_and_loss, summed)
        return loss, photo_sigma_and_loss, dict(zip(g, summed, strict=True))

    def agree(self, request: Request) -> Request:
        if self.rank:
            return Request(self.receive("request")[0]["request"])
        self.check()
        self.send_to_peers("request", request=(request & Request.STOP).value)
        return request

    def send_to_peers(self, kind: str, body: bytes = b"", **header: Any) -> None:
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
        """Leave the group. A peer that cannot continue sends its problem; rank 0 ends the peers by leaving."""
        if self._closed:
            return
        self._closed = True
        if self.rank:
            channel = self._channels[0]
            channel.send("problem", message=problem) if problem else channel.send(DONE)
        for channel in self._channels.values():
            channel.close()
        if self._summing:  # the thread is stuck inside MLX, which must not keep this process from ending
            faulthandler.dump_traceback_later(EXIT_SECONDS, exit=True, file=STDERR)

    def _connect_mlx(self) -> mx.distributed.Group:
        """Have MLX connect the machines. Raises MachineLost if it cannot."""
        seconds = CONNECT_SECONDS if self.backend == "ring" else RENDEZVOUS_SECONDS
        for channel in self._channels.values():
            channel.be_patient(seconds)  # no rank can send heartbeats
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

    def _sum_inputs(self) -> None:
        """The thread that sums. MLX's NCCL works on the GPU, its other backends on the CPU."""
        stream = mx.new_stream(mx.gpu if self.backend == "nccl" else mx.cpu)
        while True:
            try:
                total = mx.distributed.all_sum(self._inputs.get(), group=self._group, stream=stream)
                mx.eval(total)
                self._sums.put(total)
            except (RuntimeError, ValueError) as error:
                self._sums.put(error)

    def _wait_for_sum(self) -> mx.array:
        """Raises MachineLost as soon as a machine is gone."""
        while True:
            with suppress(queue.Empty):
                total = self._sums.get(timeout=POLL_SECONDS)
                self._summing = False
                if isinstance(total, mx.array):
                    return total
                self._blame(f"The connection to the other machines broke: {total}.", BLAME_SECONDS)
            self.check()

    def _blame(self, words: str, seconds: float) -> NoReturn:
        """Raise MachineLost, naming the machine that turns out to be gone within `seconds`, else with these words."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            time.sleep(POLL_SECONDS)
        raise MachineLost(words)

    def _sentence(self, rank: int, how: str) -> str:
        return lost_words(self._names[rank], rank, self.size, how)


def init_process_group(rendezvous: Rendezvous, launch_error: Callable[[], str] = str) -> ProcessGroup:
    """Wait until every rank is there, then let MLX connect them.

    Rank 0 polls `launch_error` meanwhile: a sentence as soon as there is no use in waiting. Raises MachineLost, naming
    the machine that is missing.
    """
    if rendezvous.rank == 0:
        return ProcessGroup(rendezvous, wait_for_peers(rendezvous, launch_error))
    return ProcessGroup(rendezvous, join_coordinator(rendezvous))


@contextmanager
def _interrupted_after(seconds: float | None) -> Iterator[None]:
    """For a call that blocks without running Python: after `seconds`, an alarm makes its system calls fail.

    If that does not end it, or `seconds` is None, the process exits after RENDEZVOUS_SECONDS. Only the main thread can
    set alarms.
    """
    with ExitStack() as undo:
        faulthandler.dump_traceback_later(RENDEZVOUS_SECONDS, exit=True, file=STDERR)
        undo.callback(faulthandler.cancel_dump_traceback_later)
        if seconds is not None and threading.current_thread() is threading.main_thread():
            before = signal.signal(signal.SIGALRM, lambda *_: None)
            undo.callback(signal.signal, signal.SIGALRM, before or signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
            undo.callback(signal.setitimer, signal.ITIMER_REAL, 0)
        yield
