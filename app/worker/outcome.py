"""How a job ends, and what is said when it ends badly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.jobs.states import State
from core.errors import DiskProblem, Problem, disk_trouble_as_sentence


class OutOfMemory(Problem):
    """The computer has too little memory for this."""

    code = "memory"


class Bug(Problem):
    """Something that nobody foresaw; the log file has the traceback."""

    code = "bug"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`state` QUEUED gives the job back, because the studio closes."""

    state: State
    error: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None


def explained(error: Exception) -> Problem:
    """Any exception as a problem with a sentence."""
    if isinstance(error, Problem):
        return error
    words = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in words or "malloc" in words or "unable to allocate" in words:
        return OutOfMemory(
            "There was not enough memory for this. Choose a smaller picture size or batch, close other programs, "
            "then resume."
        )
    if isinstance(error, OSError):
        try:
            with disk_trouble_as_sentence(error.filename or "A file"):
                raise error
        except DiskProblem as problem:
            return problem
        except OSError:
            pass
    first_line = (str(error).splitlines() or [""])[0][:300]
    return Bug(f"Something unexpected went wrong: {type(error).__name__}: {first_line}. The log has the details.")
