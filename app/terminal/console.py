"""How verbs talk: people read stderr, programs read one JSON object on the last line of stdout.

exit codes    0 done     1 failed     2 wrong use     130 stopped by the user, and saved
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from core import strict_json
from core.errors import ConfigProblem, Problem

DONE, FAILED, WRONG_USE, STOPPED = 0, 1, 2, 130
LESS_MEMORY = (
    'Close other programs, or ask for less: a base of fewer bits, and for training "activations": "none" or a smaller '
    "side_px in the file that --config names. A run keeps its last checkpoint: --resume goes on from there."
)


def say(text: str) -> None:
    """A line for people."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def answer(content: dict[str, Any]) -> None:
    """The one line for programs."""
    sys.stdout.write(strict_json.dumps(content) + "\n")
    sys.stdout.flush()


def report(problem: Problem, as_json: bool) -> int:
    """Say what went wrong, in both ways where both are wanted; returns the exit code."""
    say(f"likeness: {problem}")
    if as_json:
        problems = [{"field": each.field, "message": each.message} for each in problem.problems]
        answer({"error": {"code": problem.code, "message": problem.message, "problems": problems}})
    return WRONG_USE if isinstance(problem, ConfigProblem) else FAILED


class Interrupt:
    """Whether the user pressed Ctrl-C; a second time ends the program at once."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        say("\nStopping after this step; the state will be saved. (Ctrl-C again: drop it.)")


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Within the block, Ctrl-C and SIGTERM are a request that the block reads, not an exception."""
    interrupt = Interrupt()
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
