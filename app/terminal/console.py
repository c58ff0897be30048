"""Output of the commands: lines for people on stderr, one JSON object for programs on the last line of stdout.

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
    'Close other programs, or use less: a base of fewer bits, and for training "activations": "none" or a smaller '
    "side_px in the file that --config names. A run keeps its last checkpoint: --resume goes on from there."
)


def print_line(text: str) -> None:
    """A line for people."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_json(content: dict[str, Any]) -> None:
    """The one line for programs."""
    sys.stdout.write(strict_json.dumps(content) + "\n")
    sys.stdout.flush()


def print_problem(problem: Problem, as_json: bool) -> int:
    """Print a problem for people, and for programs with `as_json`; returns the exit code."""
    print_line(f"likeness: {problem}")
    if as_json:
        problems = [{"field": each.field, "message": each.message} for each in problem.problems]
        print_json({"error": {"code": problem.code, "message": problem.message, "problems": problems}})
    return WRONG_USE if isinstance(problem, ConfigProblem) else FAILED


class Interrupt:
    """Whether the user pressed Ctrl-C. The second Ctrl-C raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print_line("\nStopping after this step; the state will be saved. (Ctrl-C again drops the step.)")


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Within the block, Ctrl-C and SIGTERM set a flag that the block reads, and raise no exception."""
    interrupt = Interrupt()
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
