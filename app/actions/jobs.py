"""Jobs: listing, stopping, retrying, and changing the order of those that wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select

from app.database import Database
from app.errors import Conflict
from app.jobs import lane_queue, store
from app.jobs.states import Kind, Lane, State, Stop
from app.tables import Job, Project, Run, now

SILENT_AFTER = timedelta(seconds=30)  # without a heartbeat, which comes every second: "not responding"
_DISMISSED = "dismissed"  # among a job's parameters: the attempt whose failure nobody needs to see any more


@dataclass(frozen=True, slots=True)
class JobView:
    """One piece of work."""

    id: int
    kind: Kind
    lane: Lane
    state: State
    stop: Stop  # the user's request: none, stop or now
    place: int | None  # among those that wait in its lane; 0 runs next
    project_id: int | None
    project_name: str | None
    model: str | None  # the one that a download fetches or a picture is drawn with
    run_id: int | None
    run_name: str | None
    phase: str
    step: int
    steps: int
    error: dict[str, Any] | None
    result: dict[str, Any]
    deaths: int
    not_responding: bool  # it runs, but has sent no heartbeat for a while
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


def list_jobs(
    database: Database,
    after: int = 0,
    limit: int = 200,
    *,
    states: Sequence[State] = (),
    kinds: Sequence[Kind] = (),
    project_id: int | None = None,
) -> list[JobView]:
    """Jobs with an id above `after`, oldest first."""
    chosen = select(Job).where(col(Job.id) > after).order_by(col(Job.id)).limit(limit)
    if states:
        chosen = chosen.where(col(Job.state).in_(states))
    if kinds:
        chosen = chosen.where(col(Job.kind).in_(kinds))
    if project_id is not None:
        chosen = chosen.where(Job.project_id == project_id)
    with database.read() as session:
        return views(session, session.exec(chosen).all())


def queue(database: Database) -> list[JobView]:
    """The jobs that run, then those that wait in the order in which they will run."""
    with database.read() as session:
        waiting = [job for lane in Lane for job in lane_queue.queued(session, lane)]
        return views(session, [*lane_queue.running(session), *waiting])


def get_job(database: Database, job_id: int) -> JobView:
    """Raises NotFound."""
    with database.read() as session:
        return views(session, [store.get(session, job_id)])[0]


def stop(database: Database, job_id: int, *, at_once: bool = False) -> JobView:
    """Remove a waiting job; let a running one finish its step and save, or (`at_once`) drop the step.

    Raises NotFound, and Conflict when it has ended.
    """
    with database.write() as session:
        return views(session, [store.stop(session, job_id, at_once=at_once)])[0]


def move(database: Database, job_id: int, place: int) -> JobView:
    """Put a waiting job at `place`; 0 runs next. Raises NotFound, Conflict."""
    with database.write() as session:
        job = lane_queue.move(session, job_id, place)
        session.flush()
        return views(session, [job])[0]


def retry(database: Database, job_id: int) -> JobView:
    """Queue an ended job again; runs are resumed on their own page. Raises NotFound, Conflict."""
    with database.write() as session:
        if store.get(session, job_id).kind is Kind.TRAIN:
            raise Conflict("A training is resumed as a run.")
        job = store.requeue(session, job_id)
        return views(session, [job])[0]


def dismiss(database: Database, job_id: int, dismissed: bool = True) -> JobView:
    """Take the failure of a job off its page, or bring it back. Raises NotFound, Conflict when it has not failed."""
    with database.write() as session:
        job = store.get(session, job_id)
        if job.state is not State.FAILED:
            raise Conflict("Only the failure of a job can be dismissed, and this one has not failed.")
        job.params = job.params | {_DISMISSED: job.attempt if dismissed else 0}
        session.add(job)
        session.flush()
        return views(session, [job])[0]


def failure_shown(job: Job) -> bool:
    """Whether a job has failed, and nobody has dismissed it since."""
    return job.state is State.FAILED and job.params.get(_DISMISSED) != job.attempt


def silent(job: Job) -> bool:
    """Whether a running job has sent no heartbeat for `SILENT_AFTER`."""
    return job.state is State.RUNNING and job.heartbeat_at is not None and now() - job.heartbeat_at > SILENT_AFTER


def views(session: Session, rows: Sequence[Job]) -> list[JobView]:
    places = {job.id: place for lane in Lane for place, job in enumerate(lane_queue.queued(session, lane))}
    ids = [int(row.id or 0) for row in rows]
    runs = {run.job_id: run for run in session.exec(select(Run).where(col(Run.job_id).in_(ids)))}
    names = {project.id: project.name for project in session.exec(select(Project))}
    return [
        JobView(
            id=int(row.id or 0),
            kind=row.kind,
            lane=row.lane,
            state=row.state,
            stop=row.stop,
            place=places.get(row.id),
            project_id=row.project_id,
            project_name=names.get(row.project_id),
            model=row.params.get("model"),
            run_id=run.id if run else None,
            run_name=run.name if run else None,
            phase=row.phase,
            step=row.step,
            steps=row.steps,
            error=row.error,
            result=row.result,
            deaths=row.deaths,
            not_responding=silent(row),
            created_at=row.created_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )
        for row in rows
        for run in [runs.get(int(row.id or 0))]
    ]
