"""Tests MLX once for each device, system and MLX version, before this process loads MLX.

    for sentence in ensure_tested(report): ...     then backend.prepare(), which reads the stored results

core/self_test.py runs as a process. A kernel that kills it, or takes longer than TIMEOUT_SECONDS, counts as wrong; the
test then goes on after it, with its fallback in use. Fallbacks that are chosen before MLX is loaded are tested in a
further process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Timer

from core.device import capabilities
from core.device.capabilities import KERNELS, Result
from core.device.identity import this_machine

TIMEOUT_SECONDS = 120.0
ROOT = Path(__file__).resolve().parents[2]
MODULE = "core.self_test"
Run = Callable[[Sequence[str], str], Iterator[str]]
"""Runs the test of some kernels with the fallbacks of others in use; yields the lines that it prints."""


def ensure_tested(report: Callable[[str], object] = lambda sentence: None) -> list[str]:
    """Test this computer unless that was done before; returns what people should know of the results.

    `report` gets a sentence before the test, which takes seconds.
    """
    identity = this_machine()
    results = capabilities.recall(identity)
    if results is None and os.environ.get("LIKENESS_SELFTEST") != "off":
        report("MLX is tested on this computer, once; that takes some seconds.")
        results = run_test()
        if results:
            capabilities.remember(identity, results)
    capabilities.activate(results or ())
    return capabilities.sentences(results or ())


def run_test(run: Run | None = None) -> list[Result]:
    """The results of a test that survives its processes; empty when MLX cannot be loaded at all."""
    run = run or in_a_process
    results: list[Result] = []
    pending: list[str] | None = None
    while pending is None or pending:
        found, names, died = _one_process(run, pending or [], _replaced(results))
        results += found
        if died is None:
            break
        fallback, _, _ = _one_process(run, [died], [*_replaced(results), died])
        right = bool(fallback) and fallback[0].right
        results.append(Result(died, False, None, 0.0, right if died in KERNELS else None))
        pending = names[names.index(died) + 1 :]
    return [_with_fallback(run, each) for each in results]


def in_a_process(kernels: Sequence[str], fallbacks: str) -> Iterator[str]:
    """The lines of `python -m core.self_test`; they end early when the process dies or takes too long."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "LIKENESS_SELFTEST": "off", "LIKENESS_FALLBACKS": fallbacks,
    }  # fmt: skip
    command = [sys.executable, "-P", "-m", MODULE, *kernels]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        timer = Timer(TIMEOUT_SECONDS, process.kill)
        timer.start()
        try:
            yield from process.stdout or ()
        finally:
            timer.cancel()
            process.kill()


def _one_process(
    run: Run, kernels: Sequence[str], fallbacks: Sequence[str]
) -> tuple[list[Result], list[str], str | None]:
    """The results, the names of all kernels that were to be tested, and the one at which the process died."""
    results: list[Result] = []
    names: list[str] = []
    begun: str | None = None
    for line in run(kernels, ",".join(fallbacks)):
        try:
            table = json.loads(line)
        except ValueError:
            continue  # a library's own words
        if "kernels" in table:
            names = list(table["kernels"])
        elif "begins" in table:
            begun = str(table["begins"])
        else:
            results.append(Result.from_json(table))
            begun = None
    return results, names, begun


def _replaced(results: Sequence[Result]) -> list[str]:
    return [each.kernel for each in results if each.kernel in KERNELS and not each.right]


def _with_fallback(run: Run, result: Result) -> Result:
    """A wrong kernel's result, with its fallback tested where a new process must choose that."""
    if result.right or result.fallback_right is not None or result.kernel not in KERNELS:
        return result
    again, _, _ = _one_process(run, [result.kernel], [result.kernel])
    return replace(result, fallback_right=bool(again) and again[0].right)
