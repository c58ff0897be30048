"""Compares programs that take training steps, each in a process of its own.

    rounds     one step of each program in turn, so that whatever slows the machine down slows them all
    ratio      the median of ours / theirs over the rounds, and its upper bound at 95% confidence (order statistics)

A contestant is a command that builds its model and prints its description as a line of JSON. It then takes one step for
each line on its standard input and answers {"seconds": of that step, "peak": peak bytes of MLX's arrays in it}. A
program with a training loop of its own takes a turn from `turns` before each step.
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


class Contestant:
    """A running contestant; it times its steps itself."""

    def __init__(self, command: list[str], python: str = sys.executable) -> None:
        self._process = subprocess.Popen([python, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.description = self._answer()

    def step(self) -> dict[str, float]:
        print(file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        self._process.communicate()  # closes its standard input and waits for its exit

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self._process.args)} ended with {self._process.wait()}.")
        return json.loads(line)


def serve(description: dict[str, Any], step: Callable[[], object]) -> None:
    """Be a contestant: `step` takes one step and evaluates its results."""
    for _ in turns(description):
        step()


def turns(description: dict[str, Any]) -> Iterator[None]:
    """Be a contestant with a loop of its own: the work between two turns is one step, evaluated."""
    import mlx.core as mx

    print(json.dumps(description), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "peak": max(mx.get_peak_memory(), mx.get_active_memory())}), flush=True)
        mx.reset_peak_memory()


def rounds(contestants: Sequence[Contestant], count: int, warm: int = 2) -> list[list[dict[str, float]]]:
    """`count` steps of each contestant, taken in turn, after `warm` that are not counted."""
    taken = [[each.step() for each in contestants] for _ in range(warm + count)][warm:]
    return [list(steps) for steps in zip(*taken, strict=True)]


def seconds(steps: Sequence[dict[str, float]]) -> list[float]:
    return [each["seconds"] for each in steps]


def peak(steps: Sequence[dict[str, float]]) -> float:
    return max(each["peak"] for each in steps)


def ratio(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """The median of the rounds' ratios, and its upper bound at 95% confidence."""
    ratios = sorted(one / other for one, other in zip(ours, theirs, strict=True))
    # The k-th smallest of n exceeds the true median with the probability of fewer than k heads in n throws.
    n, below, k = len(ratios), 0.0, 0
    while k < n and below < 0.95:
        below += math.comb(n, k) / 2**n
        k += 1
    return statistics.median(ratios), ratios[min(k, n - 1)]
