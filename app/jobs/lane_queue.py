"""The queued and running jobs, and the order in which a lane claims them."""

from __future__ import annotations

from sqlmodel import Session, col, select

from app import wording
from app.errors import Conflict
from app.jobs import store
from app.jobs.states import Kind, Lane, State
from app.tables import Job


def queued(session: Session, lane: Lane) -> list[Job]:
    """The queued jobs of a lane, the next one first."""
    rows = select(Job).where(Job.lane == lane, Job.state == State.QUEUED).order_by(col(Job.position), col(Job.id))
    return list(session.exec(rows))


def running(session: Session) -> list[Job]:
    """The jobs that a process has claimed."""
    return list(session.exec(select(Job).where(Job.state == State.RUNNING)))


def behind_runs(session: Session, lane: Lane) -> float | None:
    """A position behind the last run that waits in the lane, before whatever waits behind that; None without a run."""
    waiting = queued(session, lane)
    runs = [job.position for job in waiting if job.kind is Kind.TRAIN]
    if not runs:
        return None
    after = [job.position for job in waiting if job.position > runs[-1]]
    return (runs[-1] + (after[0] if after else runs[-1] + 2)) / 2


def move(session: Session, job_id: int, index: int) -> Job:
    """Put a queued job at `index` in the queue of its lane; 0 runs next. Raises NotFound, Conflict."""
    job = store.get(session, job_id)
    if job.state is not State.QUEUED:
        raise Conflict(f"Only a waiting job can be moved; this one is {wording.STATES[job.state]}.")
    others = [other for other in queued(session, job.lane) if other.id != job.id]
    index = min(max(index, 0), len(others))
    before = others[index - 1].position if index else (others[0].position - 2 if others else 0.0)
    after = others[index].position if index < len(others) else before + 2
    job.position = (before + after) / 2
    session.add(job)
    return job
