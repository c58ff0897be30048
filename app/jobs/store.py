"""The only writer of `Job.state`.

Every write names the state and the attempt it expects to find, and appends its event in the same transaction: a row
moves along an arrow of `states.py`, or not at all, and the history never disagrees with the row.

    who                     verbs
    actions (a session)     enqueue, stop, requeue, request, move
    a job process (Claim)   claim, beat, take_requests, holding, tell, end, release
    the supervisor          lost, running
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from app.database import Database
from app.errors import Conflict, LostJob, NotFound
from app.jobs.process import ProcessName
from app.jobs.states import ARROWS, DEATHS_ALLOWED, ENDED, Kind, Lane, State, Stop
from app.settings import value_of
from app.tables import Event, Job, now
from core.errors import Problem

KILLED = -9  # SIGKILL
REPORTED = {"phase", "step", "steps", "deaths"}  # what a job process may set while it runs


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write to one job, as long as its attempt is the newest."""

    job_id: int
    attempt: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Requests:
    """What the user wants of a running job."""

    stop: Stop
    save: bool
    sample: bool


# ---- what actions do, inside a transaction of theirs ---------------------------------------------------------------


def enqueue(
    session: Session,
    kind: Kind,
    params: Mapping[str, Any],
    *,
    project_id: int | None = None,
    steps: int = 0,
    lane: Lane | None = None,
) -> Job:
    """A new job at the end of its lane."""
    lane = lane or kind.lane
    job = Job(kind=kind, lane=lane, position=_last(session, lane) + 1, project_id=project_id, params=dict(params))
    job.steps = steps
    session.add(job)
    session.flush()
    _tell_state(session, job)
    return job


def stop(session: Session, job_id: int, *, at_once: bool = False) -> Job:
    """Take a queued job out, or request that a running one ends. Raises NotFound, Conflict when it has ended."""
    job = get(session, job_id)
    if job.state is State.QUEUED:
        _move(session, job, State.CANCELLED if job.attempt == 0 else State.STOPPED, ended_at=now())
    elif job.state is State.RUNNING:
        job.stop = Stop.NOW if at_once or job.stop is Stop.NOW else Stop.STOP
        session.add(job)
        _tell_state(session, job)
    else:
        raise Conflict(f"This job has ended already: it is {job.state}.")
    return job


def request(session: Session, job_id: int, *, save: bool = False, sample: bool = False) -> Job:
    """Ask a running job for a checkpoint or for sample pictures. Raises NotFound, Conflict."""
    job = get(session, job_id)
    if job.state is not State.RUNNING:
        raise Conflict(f"Only a running job can do that; this one is {job.state}.")
    job.save, job.sample = job.save or save, job.sample or sample
    session.add(job)
    return job


def requeue(session: Session, job_id: int, *, steps: int | None = None) -> Job:
    """Put an ended job back at the end of its lane, to go on where it stood. Raises NotFound, Conflict."""
    job = get(session, job_id)
    if job.state not in ENDED or (job.state, State.QUEUED) not in ARROWS:
        raise Conflict(f"Only a job that has ended can be resumed; this one is {job.state}.")
    changes: dict[str, Any] = {"steps": steps} if steps is not None else {}
    position = _last(session, job.lane) + 1
    _move(session, job, State.QUEUED, error=None, deaths=0, ended_at=None, position=position, **changes)
    return job


def move(session: Session, job_id: int, place: int) -> Job:
    """Put a queued job at `place` among the waiting ones of its lane; 0 runs next. Raises NotFound, Conflict."""
    job = get(session, job_id)
    if job.state is not State.QUEUED:
        raise Conflict(f"Only a waiting job can be moved; this one is {job.state}.")
    others = [other for other in waiting(session, job.lane) if other.id != job.id]
    place = min(max(place, 0), len(others))
    before = others[place - 1].position if place else (others[0].position - 2 if others else 0.0)
    after = others[place].position if place < len(others) else before + 2
    job.position = (before + after) / 2
    session.add(job)
    return job


def get(session: Session, job_id: int) -> Job:
    """Raises NotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def waiting(session: Session, lane: Lane) -> list[Job]:
    """The queued jobs of a lane, the next one first."""
    rows = select(Job).where(Job.lane == lane, Job.state == State.QUEUED).order_by(col(Job.position), col(Job.id))
    return list(session.exec(rows))


def running(session: Session) -> list[Job]:
    """The jobs that some process has claimed."""
    return list(session.exec(select(Job).where(Job.state == State.RUNNING)))


# ---- what a job process does ---------------------------------------------------------------------------------------


def claim(database: Database, lane: Lane, process: ProcessName) -> Claim | None:
    """Take the next waiting job of the lane, or None. Two processes never get the same one."""
    next_one = (
        select(Job.id)
        .where(Job.lane == lane, Job.state == State.QUEUED)
        .order_by(col(Job.position), col(Job.id))
        .limit(1)
        .scalar_subquery()
    )
    with database.write() as session:
        taken = session.execute(
            update(Job)
            .where(col(Job.id) == next_one, col(Job.state) == State.QUEUED)
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
        if taken is None:
            return None
        job_id, attempt, kind = taken
        session.add(_state_event(job_id, attempt, State.RUNNING, None))
        return Claim(job_id, attempt, kind)


def beat(database: Database, claim: Claim) -> Requests:
    """Say that the process lives, and read the requests. Raises LostJob."""
    with database.write() as session:
        row = session.execute(
            _mine(claim).values(heartbeat_at=now()).returning(col(Job.stop), col(Job.save), col(Job.sample))
        ).one_or_none()
    if row is None:
        raise _gone(claim)
    return Requests(*row)


def take_requests(database: Database, claim: Claim) -> Requests:
    """The requests as they are now; those for a checkpoint and for samples are granted herewith, later ones are new.

    Raises LostJob.
    """
    with database.write() as session:
        _hold(session, claim, {})
        job = get(session, claim.job_id)
        found = Requests(job.stop, job.save, job.sample)
        job.save = job.sample = False
        session.add(job)
    return found


@contextmanager
def holding(database: Database, claim: Claim, **columns: Any) -> Iterator[Session]:
    """A transaction of a job process: sets columns of the job (never its state), and is void when the claim is gone.

    Raises LostJob.
    """
    if not columns.keys() <= REPORTED:
        raise ValueError(f"a job process cannot set {sorted(columns.keys() - REPORTED)}")
    with database.write() as session:
        _hold(session, claim, columns)
        yield session


def tell(session: Session, claim: Claim, kind: str, payload: Mapping[str, Any], step: int | None = None) -> None:
    """Append one event: kinds and payloads as in the design ("metric", "phase", "sample" ...)."""
    row = Event(job_id=claim.job_id, attempt=claim.attempt, kind=kind, step=step, payload=dict(payload))
    session.add(row)


def end(
    database: Database,
    claim: Claim,
    state: State,
    *,
    error: Mapping[str, str] | None = None,
    result: Mapping[str, Any] | None = None,
) -> None:
    """The outcome: the last thing that a job process writes. Raises LostJob."""
    columns: dict[str, Any] = {"ended_at": now(), "error": dict(error) if error else None, "phase": ""}
    if result is not None:
        columns["result"] = dict(result)
    _leave(database, claim, state, columns)


def release(database: Database, claim: Claim) -> State:
    """Give the job back because the studio closes: it waits, or is stopped where resuming by itself is off."""
    with database.read() as session:
        by_itself = value_of(session, "resume_automatically")
    state = State.QUEUED if by_itself else State.STOPPED
    _leave(database, claim, state, {"phase": "", "ended_at": None if by_itself else now()})
    return state


# ---- what the supervisor does --------------------------------------------------------------------------------------


def lost(database: Database, claim: Claim, exit_code: int | None, last_words: str = "") -> State | None:
    """The claim's process is gone without an outcome: count the death, and queue the job again or fail it.

    `exit_code` is negative for a signal, None when nobody saw the process end. Returns the new state, or None when the
    row had moved on by itself.
    """
    with database.write() as session:
        job = session.exec(
            select(Job).where(Job.id == claim.job_id, Job.attempt == claim.attempt, Job.state == State.RUNNING)
        ).one_or_none()
        if job is None:
            return None
        deaths = job.deaths + 1
        how = how_it_died(exit_code, last_words)
        if job.stop is not Stop.NONE:
            _move(session, job, State.STOPPED, deaths=deaths, phase="", ended_at=now())
        elif deaths >= DEATHS_ALLOWED:
            message = f"{how} This happened {deaths} times without getting further."
            _fail(session, job, deaths, message)
        elif not value_of(session, "resume_automatically"):
            _fail(session, job, deaths, f"{how} Resume it when you are ready.")
        else:
            session.add(
                Event(job_id=job.id, attempt=job.attempt, kind="log", payload={"level": "warning", "text": how})
            )
            _move(session, job, State.QUEUED, deaths=deaths, phase="")
        return job.state


def how_it_died(exit_code: int | None, last_words: str = "") -> str:
    """A sentence about the end of a process."""
    if exit_code == KILLED:
        return "The job's process was killed by the system, most likely because memory ran out."
    if exit_code is None:
        return "The job's process ended while the studio was closed, or the computer was switched off."
    if exit_code < 0:
        return f"The job's process was ended by signal {-exit_code}."
    tail = f" Its last words: {last_words}" if last_words else " Its log has the details."
    return f"The job's process ended unexpectedly (exit code {exit_code}).{tail}"


# ---- the machinery -------------------------------------------------------------------------------------------------


def _move(session: Session, job: Job, to: State, **columns: Any) -> None:
    """Along one arrow, with its event; the row must still be as `job` says."""
    if (job.state, to) not in ARROWS:
        raise Conflict(f"This job is {job.state}; it cannot become {to}.")
    moved = session.execute(
        update(Job)
        .where(col(Job.id) == job.id, col(Job.state) == job.state, col(Job.attempt) == job.attempt)
        .values(state=to, stop=Stop.NONE, **columns)
    )
    if moved.rowcount != 1:
        raise Conflict("This job has just changed; look again.")
    session.refresh(job)
    _tell_state(session, job)


def _fail(session: Session, job: Job, deaths: int, message: str) -> None:
    error = {"code": "died", "message": message}
    _move(session, job, State.FAILED, deaths=deaths, phase="", ended_at=now(), error=error)


def _leave(database: Database, claim: Claim, to: State, columns: Mapping[str, Any]) -> None:
    if (State.RUNNING, to) not in ARROWS:
        raise ValueError(f"a running job cannot become {to}")
    with database.write() as session:
        _hold(session, claim, {"state": to, "stop": Stop.NONE, "save": False, "sample": False, **columns})
        session.add(_state_event(claim.job_id, claim.attempt, to, columns.get("error")))


def _hold(session: Session, claim: Claim, columns: Mapping[str, Any]) -> None:
    held = session.execute(_mine(claim).values(heartbeat_at=now(), **columns))
    if held.rowcount != 1:
        raise _gone(claim)


def _gone(claim: Claim) -> LostJob:
    return LostJob(f"job {claim.job_id} is no longer running as attempt {claim.attempt}")


def _mine(claim: Claim) -> Any:
    return update(Job).where(
        col(Job.id) == claim.job_id, col(Job.attempt) == claim.attempt, col(Job.state) == State.RUNNING
    )


def _tell_state(session: Session, job: Job) -> None:
    session.add(_state_event(int(job.id or 0), job.attempt, job.state, job.error, job.stop))


def _state_event(
    job_id: int, attempt: int, state: State, error: Mapping[str, Any] | None, requested: Stop = Stop.NONE
) -> Event:
    payload = {"state": state.value, "error": dict(error) if error else None, "stop": requested.value}
    return Event(job_id=job_id, attempt=attempt, kind="state", payload=payload)


def _last(session: Session, lane: Lane) -> float:
    return session.exec(select(func.max(Job.position)).where(Job.lane == lane)).one() or 0.0


def error_of(problem: Problem) -> dict[str, Any]:
    """How a problem is kept in `Job.error`: its code and its sentences."""
    return {"code": problem.code, "message": str(problem)}
