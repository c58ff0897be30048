"""The only writer of `Job.state`; `states.py` draws the life of a job.

    called by                      verbs
    actions of the user            enqueue, requeue, stop, request
    the process of a job (Claim)   claim, heartbeat, take_requests, transaction, append_event, end, release
    the supervisor                 record_death, record_failed_start

Every change of state, and every write by a job process, names the state and the attempt that it expects; user actions
read and write in one write transaction. So a row moves along an arrow of the drawing or not at all, and a left-over
process, whose job was claimed again as a newer attempt, can write nothing: it gets ClaimLost. A move appends its state
event in the same transaction, so the events never disagree with the row. A request to stop, save or sample is a column
of the row and moves nothing. The heartbeat thread reads it every 0.5 s; `states.Stop` says when a stop takes effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from app import wording
from app.database import Database
from app.errors import ClaimLost, Conflict, NotFound
from app.jobs.process import ProcessName, cause_of_death
from app.jobs.states import ENDED, MAX_DEATHS, TRANSITIONS, Kind, Lane, State, Stop
from app.settings import value_of
from app.tables import Checkpoint, Event, Job, Run, now


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write to one job, as long as its attempt is the newest."""

    job_id: int
    attempt: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Requests:
    """What the user requests of a running job."""

    stop: Stop
    save: bool
    sample: bool


class JobProgress(TypedDict, total=False):
    """The columns of a job that its process may set while it runs."""

    phase: str
    step: int
    steps: int
    deaths: int


# ---- called by actions, within their own transaction ---------------------------------------------------------------


def enqueue(
    session: Session,
    kind: Kind,
    params: Mapping[str, Any],
    *,
    project_id: int | None = None,
    steps: int = 0,
    lane: Lane | None = None,
) -> Job:
    """Add a job at the end of its lane. -> QUEUED"""
    lane = lane or kind.lane
    job = Job(kind=kind, lane=lane, position=_last_position(session, lane) + 1, project_id=project_id)
    job.params, job.steps = dict(params), steps
    session.add(job)
    session.flush()
    _append_state(session, int(job.id or 0), job.attempt, State.QUEUED, Stop.NONE)
    return job


def requeue(session: Session, job_id: int, *, steps: int | None = None) -> Job:
    """Queue an ended job again, to go on from where it was; with `steps`, to a new last step. -> QUEUED

    Raises NotFound, Conflict.
    """
    job = get(session, job_id)
    if job.state is State.CANCELLED:
        raise Conflict("This job was removed before it ran, so it cannot be resumed. Start a new one.")
    if job.state not in ENDED:
        raise Conflict(f"Only a job that has ended can be resumed; this one is {wording.STATES[job.state]}.")
    position = _last_position(session, job.lane) + 1
    columns: dict[str, Any] = {"error": None, "deaths": 0, "ended_at": None, "position": position}
    if steps is not None:
        columns["steps"] = steps
    return _move_to(session, job, State.QUEUED, columns)


def stop(session: Session, job_id: int, *, at_once: bool = False) -> Job:
    """Remove a queued job (-> CANCELLED, STOPPED), or set the stop request of a running one.

    `at_once` drops the current step. Raises NotFound, Conflict when the job has ended.
    """
    job = get(session, job_id)
    if job.state is State.QUEUED:
        return _move_to(session, job, State.CANCELLED if job.attempt == 0 else State.STOPPED, {"ended_at": now()})
    if job.state is not State.RUNNING:
        raise Conflict(f"This job has already ended ({wording.STATES[job.state]}).")
    job.stop = Stop.NOW if at_once or job.stop is Stop.NOW else Stop.STOP
    session.add(job)
    _append_state(session, job_id, job.attempt, State.RUNNING, job.stop)
    return job


def request(session: Session, job_id: int, *, save: bool = False, sample: bool = False) -> Job:
    """Request a checkpoint or sample pictures of a running job. Raises NotFound, Conflict."""
    job = get(session, job_id)
    if job.state is not State.RUNNING:
        raise Conflict(f"Only a running job can do that; this one is {wording.STATES[job.state]}.")
    job.save, job.sample = job.save or save, job.sample or sample
    session.add(job)
    return job


def get(session: Session, job_id: int) -> Job:
    """Raises NotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


# ---- called by the process of a job --------------------------------------------------------------------------------


def claim(database: Database, lane: Lane, process: ProcessName) -> Claim | None:
    """Take the next job of the lane, or None: QUEUED -> RUNNING. Two processes never get the same one."""
    with database.write() as session:
        return _claim_next(session, lane, process)


def _claim_next(session: Session, lane: Lane, process: ProcessName) -> Claim | None:
    next_id = (
        select(Job.id)
        .where(Job.lane == lane, Job.state == State.QUEUED)
        .order_by(col(Job.position), col(Job.id))
        .limit(1)
        .scalar_subquery()
    )
    row = session.exec(
        update(Job)
        .where(col(Job.id) == next_id, col(Job.state) == State.QUEUED)
        .values(
            state=State.RUNNING,
            attempt=Job.attempt + 1,
            pid=process.pid,
            pid_started_at=process.started_at,
            boot_id=process.boot_id,
            heartbeat_at=now(),
            started_at=func.coalesce(Job.started_at, now()),
            ended_at=None,
            stop=Stop.NONE,
            save=False,
            sample=False,
            phase="starting",
            error=None,
        )
        .returning(col(Job.id), col(Job.attempt), col(Job.kind))
    ).one_or_none()
    if row is None:
        return None
    job_id, attempt, kind = row
    _append_state(session, job_id, attempt, State.RUNNING, Stop.NONE)
    return Claim(job_id, attempt, kind)


def heartbeat(database: Database, claim: Claim) -> Requests:
    """Show that the process lives, and read the requests. Raises ClaimLost."""
    with database.write() as session:
        return _update_claimed(session, claim, {})


def take_requests(database: Database, claim: Claim) -> Requests:
    """Read and clear the pending save and sample requests; later ones are new. Raises ClaimLost."""
    with database.write() as session:
        pending = _update_claimed(session, claim, {})
        _update_claimed(session, claim, {"save": False, "sample": False})
    return pending


@contextmanager
def transaction(database: Database, claim: Claim, **columns: Unpack[JobProgress]) -> Iterator[Session]:
    """A transaction that sets columns of the job, never its state; the caller adds rows and events.

    Raises ClaimLost, and nothing is written then.
    """
    if not columns.keys() <= JobProgress.__annotations__.keys():
        raise ValueError(f"a job process cannot set {sorted(columns.keys() - JobProgress.__annotations__.keys())}")
    with database.write() as session:
        _update_claimed(session, claim, columns)
        yield session


def append_event(
    session: Session, claim: Claim, kind: str, payload: Mapping[str, Any], step: int | None = None
) -> None:
    """Append one event. Kinds and payloads are those of the HTTP API: "metric", "phase", "sample" ..."""
    session.add(Event(job_id=claim.job_id, attempt=claim.attempt, kind=kind, step=step, payload=dict(payload)))


def end(
    database: Database,
    claim: Claim,
    state: State,
    *,
    error: Mapping[str, str] | None = None,
    result: Mapping[str, Any] | None = None,
) -> None:
    """Write the outcome, as the last act of the process: RUNNING -> SUCCEEDED, FAILED, STOPPED. Raises ClaimLost."""
    columns: dict[str, Any] = {"ended_at": now(), "phase": "", "error": dict(error) if error else None}
    columns |= {} if result is None else {"result": dict(result)}
    with database.write() as session:
        _transition_claimed(session, claim, state, columns)


def release(database: Database, claim: Claim, position: float | None = None) -> State:
    """Give the job back, because the server shuts down, or to wait at a `position`: RUNNING -> QUEUED, STOPPED.

    STOPPED if a stop is pending, which the last heartbeat may not have read, or if the server shuts down and automatic
    resume is off. Returns the new state. Raises ClaimLost.
    """
    moved = {} if position is None else {"position": position}
    with database.write() as session:
        stop_pending = _update_claimed(session, claim, {}).stop is not Stop.NONE
        resumes = not stop_pending and (bool(moved) or value_of(session, "resume_automatically"))
        state = State.QUEUED if resumes else State.STOPPED
        _transition_claimed(session, claim, state, {"phase": "", "ended_at": None if resumes else now()} | moved)
    return state


# ---- called by the supervisor --------------------------------------------------------------------------------------


def record_death(database: Database, claim: Claim, exit_code: int | None, last_output: str = "") -> State | None:
    """The process of the claim ended without an outcome: RUNNING -> QUEUED, FAILED, STOPPED.

    `exit_code` is negative for a signal, None when no server saw the process end. Returns the new state, or None when
    the claim was not the newest any more.
    """
    with database.write() as session:
        return _record_death(session, claim, cause_of_death(exit_code, last_output))


def record_failed_start(database: Database, lane: Lane, exit_code: int, last_output: str) -> State | None:
    """A process died before it claimed a job: a death of the job that it would have claimed, or None without one.

    Claim and death are one transaction, so the job never stays RUNNING under the server's own pid.
    """
    with database.write() as session:
        claim = _claim_next(session, lane, ProcessName.own())
        return _record_death(session, claim, cause_of_death(exit_code, last_output)) if claim else None


def _record_death(session: Session, claim: Claim, cause: str) -> State | None:
    job = session.exec(
        select(Job).where(Job.id == claim.job_id, Job.attempt == claim.attempt, Job.state == State.RUNNING)
    ).one_or_none()
    if job is None:
        return None
    deaths = job.deaths + 1
    columns: dict[str, Any] = {"deaths": deaths, "phase": ""}
    if job.stop is not Stop.NONE:
        saved = select(Checkpoint.id).join(Run, col(Run.id) == Checkpoint.run_id).where(Run.job_id == claim.job_id)
        if session.exec(saved).first() is not None:
            cause = f"{cause} The run stopped at its last checkpoint."
        append_event(session, claim, "log", {"level": "warning", "text": cause})
        return _move_to(session, job, State.STOPPED, columns | {"ended_at": now()}).state
    if deaths < MAX_DEATHS and value_of(session, "resume_automatically"):
        append_event(session, claim, "log", {"level": "warning", "text": cause})
        return _move_to(session, job, State.QUEUED, columns).state
    repeated = f" The process has died {deaths} times since the last checkpoint." if deaths > 1 else ""
    advice = "Press Resume to try again." if claim.kind is Kind.TRAIN else "Start it again."
    error = {"code": "died", "message": f"{cause}{repeated} {advice}"}
    return _move_to(session, job, State.FAILED, columns | {"ended_at": now(), "error": error}).state


# ---- the writes themselves -----------------------------------------------------------------------------------------


def _transition(
    session: Session, job_id: int, attempt: int, before: State, after: State, columns: Mapping[str, Any]
) -> bool:
    """Move a row along one arrow and append its event; clears its stop, save and sample requests.

    False when it is not in state `before` of this attempt.
    """
    if (before, after) not in TRANSITIONS:
        raise ValueError(f"a {before} job cannot become {after}")
    moved = session.exec(
        update(Job)
        .where(col(Job.id) == job_id, col(Job.attempt) == attempt, col(Job.state) == before)
        .values(state=after, stop=Stop.NONE, save=False, sample=False, **columns)
    )
    if moved.rowcount != 1:
        return False
    _append_state(session, job_id, attempt, after, Stop.NONE, columns.get("error"))
    return True


def _move_to(session: Session, job: Job, after: State, columns: Mapping[str, Any]) -> Job:
    """`_transition` of a row that this session has read."""
    if not _transition(session, int(job.id or 0), job.attempt, job.state, after, columns):
        raise Conflict("This job has just changed; look again.")
    session.refresh(job)
    return job


def _transition_claimed(session: Session, claim: Claim, after: State, columns: Mapping[str, Any]) -> None:
    """`_transition` of a job by its own process. Raises ClaimLost."""
    if not _transition(session, claim.job_id, claim.attempt, State.RUNNING, after, columns):
        raise _claim_lost(claim)


def _update_claimed(session: Session, claim: Claim, columns: Mapping[str, Any]) -> Requests:
    """Set columns of a running job, its heartbeat with them, and return its requests as they are afterwards."""
    row = session.exec(
        update(Job)
        .where(col(Job.id) == claim.job_id, col(Job.attempt) == claim.attempt, col(Job.state) == State.RUNNING)
        .values(heartbeat_at=now(), **columns)
        .returning(col(Job.stop), col(Job.save), col(Job.sample))
    ).one_or_none()
    if row is None:
        raise _claim_lost(claim)
    return Requests(*row)


def _claim_lost(claim: Claim) -> ClaimLost:
    return ClaimLost(f"job {claim.job_id} is no longer running as attempt {claim.attempt}")


def _append_state(
    session: Session, job_id: int, attempt: int, state: State, stop: Stop, error: Mapping[str, Any] | None = None
) -> None:
    payload = {"state": state.value, "error": dict(error) if error else None, "stop": stop.value}
    session.add(Event(job_id=job_id, attempt=attempt, kind="state", payload=payload))


def _last_position(session: Session, lane: Lane) -> float:
    return session.exec(select(func.max(Job.position)).where(Job.lane == lane)).one() or 0.0
