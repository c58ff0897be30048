"""Two programs that take training steps, each in a process of its own, and how long they take against each other.

    rounds     one step of each, and again: whatever slows the machine down slows them all
    ratio      the median of ours / theirs over the rounds, and its 95 % bound from the order of the rounds

A contestant is a command that builds its model, says so with a line of JSON, and then answers every line it gets with
{"seconds": of one step, "peak": bytes that MLX's arrays held at most since the last answer}. One whose program has a
loop of its own, which takes step after step, lets that loop ask `turns` before each.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

MIB = 2**20


class Contestant:
    """A running contestant; the time of a step is the contestant's own measure of it."""

    def __init__(self, command: list[str], python: str = sys.executable) -> None:
        self._process = subprocess.Popen([python, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.says = self._answer()

    def step(self) -> dict[str, float]:
        print(file=self._process.stdin, flush=True)
        return self._answer()

    def leave(self) -> None:
        self._process.communicate()  # ends what it reads, and waits for its end

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self._process.args)} ended with {self._process.wait()}.")
        return json.loads(line)


def serve(says: dict[str, Any], step: Callable[[], object]) -> None:
    """Be a contestant: `step` takes one and has its results evaluated."""
    for _ in turns(says):
        step()


def turns(says: dict[str, Any]) -> Iterator[None]:
    """Be a contestant: what is done between two of these is a step, and has its results evaluated."""
    import mlx.core as mx

    print(json.dumps(says), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "peak": max(mx.get_peak_memory(), mx.get_active_memory())}), flush=True)
        mx.reset_peak_memory()


def rounds(contestants: Sequence[Contestant], count: int, warm: int = 2) -> list[list[dict[str, float]]]:
    """`count` steps of each contestant, taken in turn, after `warm` that do not count."""
    taken = [[each.step() for each in contestants] for _ in range(warm + count)][warm:]
    return [list(steps) for steps in zip(*taken, strict=True)]


def seconds(steps: Sequence[dict[str, float]]) -> list[float]:
    return [each["seconds"] for each in steps]


def peak(steps: Sequence[dict[str, float]]) -> float:
    return max(each["peak"] for each in steps)


def ratio(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """The median of the rounds' ratios, and what it is below with 95 % certainty."""
    each = sorted(one / other for one, other in zip(ours, theirs, strict=True))
    # The k-th smallest of n is above the true median with the probability of fewer than k heads in n throws.
    n, below, k = len(each), 0.0, 0
    while k < n and below < 0.95:
        below += math.comb(n, k) / 2**n
        k += 1
    return statistics.median(each), each[min(k, n - 1)]
