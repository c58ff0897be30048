"""A command on the device: alone on a Mac's GPU, tested once, and trained again with smaller pieces of work.

MLX reads the size of command buffers when it is loaded, so a training whose GPU failed is resumed by a new program in
the place of this one, twice: `likeness train ... --resume`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from app.resources import ROOT
from app.terminal.console import print_line
from core.device import backend, conditions, gpu_errors
from core.device.first_test import ensure_tested
from core.device.gpu_lock import gpu_lock

FAILURES = "LIKENESS_RETRIES"  # how often the GPU failed in the programs before this one
SHARED = ("--hosts", "join")  # the machines of a shared run are started together, so it is resumed by hand


@contextmanager
def on_the_device(*, trains: bool) -> Iterator[None]:
    """Prepare the device for this command; waits while another process uses the GPU, except as a peer of a shared run.

    Raises GpuProblem for a peer whose GPU is in use.
    """
    rank = os.environ.get("MLX_RANK", "")  # set by mlx.launch
    with ExitStack() as held:
        held.enter_context(gpu_lock(_waiting(patient=rank in ("", "0"))))
        if trains:
            held.enter_context(conditions.awake())
            for sentence in (gpu_errors.use_smaller_buffers(_failures()), *conditions.sentences()):
                if sentence:
                    print_line(sentence)
        for sentence in ensure_tested(print_line):
            print_line(sentence)
        backend.prepare()
        yield


def resume_after(error: Exception) -> None:
    """Resume a training in a new program after a GPU error; returns where that cannot help."""
    kind, failures, words = gpu_errors.kind_of(error), _failures() + 1, sys.argv[1:]
    if kind is None or not kind.retries or failures > gpu_errors.RETRIES or "train" not in words:
        return
    if any(word.split("=")[0] in SHARED for word in words):
        return
    print_line(f"{kind.means} Training resumes with smaller pieces of work (try {failures} of {gpu_errors.RETRIES}).")
    environment = {**os.environ, FAILURES: str(failures), "PYTHONPATH": str(ROOT)}
    again = words if "--resume" in words else [*words, "--resume"]
    os.execve(sys.executable, [sys.executable, "-P", "-m", "app.cli", *again], environment)


def _failures() -> int:
    counted = os.environ.get(FAILURES, "")
    return int(counted) if counted.isdecimal() else 0


def _waiting(*, patient: bool) -> Callable[[str], bool]:
    reported: list[str] = []

    def waiting(sentence: str) -> bool:
        if not reported:
            reported.append(sentence)
            print_line(sentence)
        return patient

    return waiting
