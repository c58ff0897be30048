"""When each job that runs or waits will be done: in how many seconds from now, those before it included.

    a training      what its own steps cost (time_left.py); before the first ones, the estimate of the form
    another job     at the rate of its progress events; before them, as long as the last ones of its kind took

Durations, so that the clock and the time zone of whoever asks make no difference. A job that nothing is known of, or
that does not respond, has no forecast, and neither have those that wait behind it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from app.actions import estimate, time_left
from app.actions.jobs import silent
from app.database import Database
from app.errors import NotFound
from app.jobs import lane_queue
from app.jobs.states import Kind, Lane, State
from app.tables import Event, Job, Run
from core.config.resolve import Resolved
from core.errors import ConfigProblem

PHASES_READ, JOBS_READ = 40, 5


@dataclass(frozen=True, slots=True)
class JobForecast:
    """When a job will be done."""

    job_id: int
    seconds_left: float | None  # that the job itself still takes; None: nothing is known
    done_in: float | None  # seconds from now until it is done; None: unknown


def forecasts(database: Database) -> list[JobForecast]:
    """Of every job that runs or waits, in the order in which they end in their lane."""
    found = []
    with database.read() as session:
        running = lane_queue.running(session)
        for lane in Lane:
            until: float | None = 0.0
            for job in (each for each in running if each.lane is lane):
                left = seconds_left(database, session, job)
                found.append(JobForecast(int(job.id or 0), left, left))
                until = _later(until, left)
            for job in lane_queue.queued(session, lane):
                left = seconds_left(database, session, job)
                # Several jobs of the other lane run at a time, so when the next one begins is unknown.
                until = None if until is None or left is None or lane is Lane.IO else until + left
                found.append(JobForecast(int(job.id or 0), left, until))
    return found


def _later(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


def seconds_left(database: Database, session: Session, job: Job) -> float | None:
    """Seconds that a job takes from now, or from its start where it waits; None: nothing is known."""
    if silent(job):
        return None
    if job.kind is Kind.TRAIN:
        return _of_training(database, session, job)
    at_rate = _at_rate(session, job) if job.state is State.RUNNING else None
    return at_rate if at_rate is not None else _as_before(session, job)


def _of_training(database: Database, session: Session, job: Job) -> float | None:
    run = session.exec(select(Run).where(Run.job_id == job.id)).one_or_none()
    if run is None:
        return None
    measured = time_left.of_run(session, run, job)
    if measured is not None:
        return measured
    try:
        whole = estimate.run_seconds(database, Resolved.from_json(run.config).config)
    except (NotFound, ConfigProblem):  # its model is gone, or its settings are of another version
        return None
    return whole * (1 - job.step / job.steps) if job.steps else whole


def _at_rate(session: Session, job: Job) -> float | None:
    """By the newest progress events of one phase: done and of."""
    chosen = select(Event).where(Event.job_id == job.id, Event.attempt == job.attempt, Event.kind == "phase")
    rows = session.exec(chosen.order_by(col(Event.id).desc()).limit(PHASES_READ)).all()[::-1]
    if not rows:
        return None
    newest = rows[-1].payload
    alike = [row for row in rows if row.payload["name"] == newest["name"] and row.payload["of"] == newest["of"]]
    done = newest["done"] - alike[0].payload["done"]
    seconds = (alike[-1].at - alike[0].at).total_seconds()
    if done <= 0 or seconds <= 0:
        return None
    return float(seconds / done * (newest["of"] - newest["done"]))


def _as_before(session: Session, job: Job) -> float | None:
    """As long for each part as the newest jobs of the kind, with the same model where they have one, took."""
    chosen = select(Job).where(Job.kind == job.kind, Job.state == State.SUCCEEDED, Job.attempt == 1)
    rows: Sequence[Job] = session.exec(chosen.order_by(col(Job.id).desc()).limit(4 * JOBS_READ)).all()
    alike = [
        row for row in rows if row.params.get("model") == job.params.get("model") and bool(row.steps) == bool(job.steps)
    ]
    each = [
        (row.ended_at - row.started_at).total_seconds() / max(row.steps, 1)
        for row in alike[:JOBS_READ]
        if row.ended_at is not None and row.started_at is not None
    ]
    return max(statistics.median(each), 0.0) * max(job.steps - job.step, 1) if each else None
