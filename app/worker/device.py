"""A job on the device: alone on a Mac's GPU, awake while it trains, and again with smaller pieces when the GPU fails.

    with on_the_device(work, trains=True):  train_run(work)      before MLX is imported for the first time
    retried(work, error)                                          the outcome QUEUED, twice; then None

The number of GPU failures of a run is kept in its folder, since MLX reads the size of command buffers once, when the
next process loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sqlmodel import select

from app.jobs.states import Kind, State
from app.settings import value_of
from app.tables import Run
from app.worker.outcome import Outcome
from app.worker.work import Work
from core import files
from core.device import backend, conditions, gpu_errors
from core.device.first_test import ensure_tested
from core.device.gpu_lock import gpu_lock
from core.device.identity import this_machine

FAILURES = "gpu_failures"  # a file in the run's folder


@contextmanager
def on_the_device(work: Work, *, trains: bool) -> Iterator[None]:
    """Prepare the device for this job. Raises Stopped when the user or the server stops it while the GPU is in use."""
    with ExitStack() as held:
        held.enter_context(gpu_lock(waiting_for_gpu(work)))
        if trains:
            held.enter_context(conditions.awake())
            _use_smaller_buffers(work)
            for sentence in conditions.sentences():
                work.log(sentence, "warning")
        for sentence in ensure_tested(work.log):
            work.log(sentence, "warning")
        backend.prepare()
        yield


def retried(work: Work, error: Exception) -> Outcome | None:
    """The outcome that lets a run resume by itself after a GPU error, RETRIES times; None for other errors."""
    kind = gpu_errors.kind_of(error)
    folder = _run_folder(work)
    if kind is None or not kind.retries or folder is None:
        return None
    failures = _failures(folder) + 1
    with work.database.read() as session:
        resumes = value_of(session, "resume_automatically")
    if failures > gpu_errors.RETRIES or not resumes:
        return None
    files.write_text(folder / FAILURES, str(failures))
    again = f"The run resumes by itself with smaller pieces of work (try {failures} of {gpu_errors.RETRIES})."
    work.log(" ".join(each for each in (kind.means, saved(work), again) if each), "warning")
    return Outcome(State.QUEUED)


def saved(work: Work) -> str:
    """What of a run is safe, in a sentence; "" for other jobs."""
    folder = _run_folder(work)
    if folder is None:
        return ""
    steps = [int(each.name) for each in (folder / "checkpoints").glob("*") if each.name.isdecimal()]
    return f"Step {max(steps)} is saved." if steps else "Nothing is saved yet; photos and captions stay encoded."


def _use_smaller_buffers(work: Work) -> None:
    """After GPU failures, and on a Mac after deaths of the process, which such failures also cause."""
    folder = _run_folder(work)
    failures = _failures(folder) if folder is not None else 0
    if this_machine().device == "metal":
        failures = max(failures, work.job.deaths)
    if sentence := gpu_errors.use_smaller_buffers(failures):
        work.log(sentence)


def _failures(folder: Path) -> int:
    with suppress(OSError, ValueError):
        return int((folder / FAILURES).read_text())
    return 0


def _run_folder(work: Work) -> Path | None:
    if work.claim.kind != Kind.TRAIN:
        return None
    with work.database.read() as session:
        run = session.exec(select(Run).where(Run.job_id == work.claim.job_id)).one_or_none()
    return work.home.run(int(run.id or 0)) if run is not None else None


def waiting_for_gpu(work: Work) -> Callable[[str], bool]:
    """Reports once that the GPU is in use, and lets a stop end the wait."""
    reported: list[str] = []

    def waiting(sentence: str) -> bool:
        work.raise_if_stopped()
        if not reported:
            reported.append(sentence)
            work.report_phase("waiting for the GPU", 0, 1)
            work.log(sentence)
        return True

    return waiting
