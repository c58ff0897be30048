"""How a job ends, and the sentence about a failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.jobs.states import Kind, State
from core.device import gpu_errors
from core.errors import DiskProblem, OutOfMemory, Problem, disk_errors_as_problem, is_out_of_memory

LESS_MEMORY = {
    Kind.TRAIN: (
        "Close other programs, then resume; or resume with changes: gradient checkpointing that keeps no activations "
        "needs the least memory. A smaller picture size or batch needs a new run."
    ),
    Kind.SAMPLE: "Close other programs, or draw a smaller picture or with a base of fewer bits.",
}
OTHERS_LESS_MEMORY = "Close other programs, then start it again."


class Bug(Problem):
    """An unexpected exception; the log file has the traceback."""

    code = "bug"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state in which a job ends. QUEUED releases it, because the server shuts down or a run goes first."""

    state: State
    error: Mapping[str, str] | None = None
    result: Mapping[str, Any] | None = None
    position: float | None = None  # with QUEUED: where it waits, to let a run go first


def failure(problem: Problem) -> Outcome:
    """FAILED, with the problem's code and sentences."""
    return Outcome(State.FAILED, error={"code": problem.code, "message": str(problem)})


def explained(error: Exception, kind: Kind, saved: str = "") -> Problem:
    """The exception that ended a job of this kind, as a problem with a sentence; `saved` says what of it is safe."""
    if isinstance(error, Problem):
        return error
    if is_out_of_memory(error):
        return OutOfMemory(f"There was not enough memory for this. {LESS_MEMORY.get(kind, OTHERS_LESS_MEMORY)}")
    if (gpu := gpu_errors.explained(error, saved)) is not None:
        return gpu
    if isinstance(error, OSError):
        try:
            with disk_errors_as_problem(Path(str(error.filename or "A file"))):
                raise error
        except DiskProblem as problem:
            return problem
        except OSError:
            pass
    first_line = (str(error).splitlines() or [""])[0][:300]
    return Bug(f"Something unexpected went wrong: {type(error).__name__}: {first_line}. The log has the details.")
