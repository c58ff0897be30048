"""The state machine in a real database file: rows move along arrows or not at all."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from sqlmodel import col, select

from app.database import Database
from app.errors import ClaimLost, Conflict
from app.home import Home
from app.jobs import lane_queue, store
from app.jobs.process import ProcessName
from app.jobs.states import ENDED, TRANSITIONS, Kind, Lane, State, Stop
from app.jobs.store import Claim, Requests
from app.tables import Event, Job
from tests.app.conftest import ROOT

ME = ProcessName.own()
OUTCOMES = (State.SUCCEEDED, State.FAILED, State.STOPPED)


def queued(database: Database, kind: Kind = Kind.TRAIN) -> int:
    with database.write() as session:
        return int(store.enqueue(session, kind, {}).id or 0)


def claimed(database: Database) -> Claim:
    queued(database)
    claim = store.claim(database, Lane.MEMORY, ME)
    assert claim is not None
    return claim


def ended(database: Database, state: State) -> int:
    claim = claimed(database)
    store.end(database, claim, state)
    return claim.job_id


def row(database: Database, job_id: int) -> Job:
    with database.read() as session:
        return store.get(session, job_id)


def states_in_events(database: Database, job_id: int) -> list[str]:
    with database.read() as session:
        rows = select(Event).where(Event.job_id == job_id, Event.kind == "state").order_by(col(Event.id))
        return [event.payload["state"] for event in session.exec(rows)]


def test_every_move_appends_its_event(database: Database) -> None:
    job_id = ended(database, State.STOPPED)
    with database.write() as session:
        store.requeue(session, job_id)
    assert states_in_events(database, job_id) == ["queued", "running", "stopped", "queued"]


@pytest.mark.parametrize("state", OUTCOMES)
def test_an_ended_job_can_be_queued_again(database: Database, state: State) -> None:
    job_id = ended(database, state)
    with database.write() as session:
        store.requeue(session, job_id)
    assert row(database, job_id).state is State.QUEUED


def test_a_cancelled_job_stays_cancelled(database: Database) -> None:
    job_id = queued(database)
    with database.write() as session:
        assert store.stop(session, job_id).state is State.CANCELLED
    with pytest.raises(Conflict, match="removed before it ran"), database.write() as session:
        store.requeue(session, job_id)
    assert store.claim(database, Lane.MEMORY, ME) is None


def test_stopping_a_job_that_waits_to_go_on_keeps_it_resumable(database: Database) -> None:
    job_id = ended(database, State.STOPPED)
    with database.write() as session:
        store.requeue(session, job_id)
        assert store.stop(session, job_id).state is State.STOPPED
        store.requeue(session, job_id)


@pytest.mark.parametrize("state", sorted(ENDED))
def test_a_running_job_ends_along_an_arrow_or_not_at_all(database: Database, state: State) -> None:
    claim = claimed(database)
    if (State.RUNNING, state) in TRANSITIONS:
        store.end(database, claim, state)
    else:
        with pytest.raises(ValueError, match="cannot become"):
            store.end(database, claim, state)


def test_no_verb_leaves_the_arrows(database: Database) -> None:
    """Every verb on a job in every state: what moves, moves along an arrow."""
    verbs = {
        "stop": lambda session, job_id: store.stop(session, job_id),
        "requeue": lambda session, job_id: store.requeue(session, job_id),
        "request": lambda session, job_id: store.request(session, job_id, save=True),
        "move": lambda session, job_id: lane_queue.move(session, job_id, 0),
    }
    makers = {
        State.QUEUED: lambda: queued(database),
        State.RUNNING: lambda: claimed(database).job_id,
        **{state: (lambda state=state: ended(database, state)) for state in OUTCOMES},
    }
    for (before, make), verb in product(makers.items(), verbs.values()):
        for waiting in _waiting(database):  # so that the next claim gets the new one
            with database.write() as session:
                store.stop(session, waiting)
        job_id = make()
        try:
            with database.write() as session:
                verb(session, job_id)
        except Conflict:
            pass
        after = row(database, job_id).state
        assert after is before or (before, after) in TRANSITIONS


@pytest.mark.slow
def test_two_processes_never_claim_the_same_job(database: Database) -> None:
    jobs = [queued(database) for _ in range(30)]
    code = (
        "import sys; from pathlib import Path\n"
        "from app.database import Database; from app.home import Home\n"
        "from app.jobs import store; from app.jobs.states import Lane\n"
        "from app.jobs.process import ProcessName\n"
        "database = Database(Home(Path(sys.argv[1])))\n"
        "while (claim := store.claim(database, Lane.MEMORY, ProcessName.own())): sys.stdout.write(f'{claim.job_id} ')\n"
    )
    command = [sys.executable, "-c", code, str(database.home.root)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    taken = [int(word) for process in both for word in process.communicate(timeout=60)[0].split()]
    assert sorted(taken) == jobs


def test_jobs_are_claimed_in_the_order_of_their_lane(database: Database) -> None:
    first, second, third = (queued(database) for _ in range(3))
    other = queued(database, Kind.EXPORT)
    with database.write() as session:
        lane_queue.move(session, third, 0)
    with database.write() as session:
        lane_queue.move(session, first, 2)
    order = [store.claim(database, Lane.MEMORY, ME) for _ in range(3)]
    assert [claim.job_id for claim in order if claim] == [third, second, first]
    assert (claim := store.claim(database, Lane.IO, ME)) is not None
    assert claim.job_id == other


def test_a_left_over_process_can_write_nothing(database: Database) -> None:
    old = claimed(database)
    assert store.record_death(database, old, -9) is State.QUEUED
    new = store.claim(database, Lane.MEMORY, ME)
    assert new is not None
    assert new.attempt == old.attempt + 1
    before = _events(database)
    with pytest.raises(ClaimLost):
        store.heartbeat(database, old)
    with pytest.raises(ClaimLost), store.transaction(database, old, step=7) as session:
        store.append_event(session, old, "metric", {"loss": 1.0}, 7)
    with pytest.raises(ClaimLost):
        store.end(database, old, State.SUCCEEDED)
    with pytest.raises(ClaimLost):
        store.release(database, old)
    assert store.record_death(database, old, -9) is None
    assert _events(database) == before
    assert row(database, new.job_id).step == 0


def test_a_job_process_cannot_set_its_state(database: Database) -> None:
    claim = claimed(database)
    with pytest.raises(ValueError, match="state"), store.transaction(database, claim, state=State.SUCCEEDED):
        pass
    assert row(database, claim.job_id).state is State.RUNNING


def test_the_third_death_without_a_checkpoint_fails_the_job(database: Database) -> None:
    queued(database)
    outcomes = []
    for _ in range(3):
        claim = store.claim(database, Lane.MEMORY, ME)
        assert claim is not None
        outcomes.append(store.record_death(database, claim, -9))
    assert outcomes == [State.QUEUED, State.QUEUED, State.FAILED]
    error = row(database, claim.job_id).error
    assert error is not None
    assert "memory" in error["message"]


def test_a_checkpoint_clears_the_count_of_deaths(database: Database) -> None:
    queued(database)
    for _ in range(5):
        claim = store.claim(database, Lane.MEMORY, ME)
        assert claim is not None
        with store.transaction(database, claim, deaths=0):
            pass
        assert store.record_death(database, claim, -9) is State.QUEUED


def test_a_process_that_dies_while_stopping_leaves_a_stopped_job(database: Database) -> None:
    claim = claimed(database)
    with database.write() as session:
        store.stop(session, claim.job_id)
    assert store.heartbeat(database, claim).stop is Stop.STOP
    assert store.record_death(database, claim, -15) is State.STOPPED


def test_the_log_says_why_a_stopping_process_died(database: Database) -> None:
    claim = claimed(database)
    with database.write() as session:
        store.stop(session, claim.job_id)
    store.record_death(database, claim, -9)
    with database.read() as session:
        (event,) = session.exec(select(Event).where(Event.job_id == claim.job_id, Event.kind == "log"))
    assert event.payload["level"] == "warning"
    assert "killed by the system" in event.payload["text"]
    assert "checkpoint" not in event.payload["text"], "it has saved none"


def test_a_stop_after_the_last_heartbeat_of_a_server_that_shuts_down_is_kept(database: Database) -> None:
    claim = claimed(database)
    with database.write() as session:
        store.stop(session, claim.job_id)
    assert store.release(database, claim) is State.STOPPED
    assert row(database, claim.job_id).ended_at is not None


def test_a_failed_start_is_recorded_whole_or_not_at_all(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = queued(database)

    def locked(*_: object) -> bool:
        raise OSError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(store, "value_of", locked)
        with pytest.raises(OSError, match="locked"):
            store.record_failed_start(database, Lane.MEMORY, 1, "no such luck")
    assert (row(database, job_id).state, row(database, job_id).deaths) == (State.QUEUED, 0)
    assert store.record_failed_start(database, Lane.MEMORY, 1, "no such luck") is State.QUEUED
    assert row(database, job_id).deaths == 1
    assert store.record_failed_start(database, Lane.IO, 1, "no such luck") is None, "no job is queued there"


def test_no_request_is_lost_while_another_is_taken(database: Database) -> None:
    claim = claimed(database)
    with database.write() as session:
        store.request(session, claim.job_id, save=True)
    assert store.heartbeat(database, claim) == Requests(Stop.NONE, save=True, sample=False)
    with database.write() as session:  # after the heartbeat that read the first, before the job takes it
        store.request(session, claim.job_id, sample=True)
    assert store.take_requests(database, claim) == Requests(Stop.NONE, save=True, sample=True)
    assert store.take_requests(database, claim) == Requests(Stop.NONE, save=False, sample=False)
    with database.write() as session:
        store.request(session, claim.job_id, save=True)
    assert store.heartbeat(database, claim).save


def test_a_request_does_not_outlive_its_attempt(database: Database) -> None:
    claim = claimed(database)
    with database.write() as session:
        store.request(session, claim.job_id, save=True)
        store.stop(session, claim.job_id, at_once=True)
    store.end(database, claim, State.STOPPED)
    with database.write() as session:
        store.requeue(session, claim.job_id)
    again = store.claim(database, Lane.MEMORY, ME)
    assert again is not None
    assert store.heartbeat(database, again) == Requests(Stop.NONE, save=False, sample=False)


def test_a_process_is_known_by_more_than_its_number() -> None:
    assert ME.alive
    assert not ProcessName(ME.pid, ME.started_at - 100, ME.boot_id).alive
    assert not ProcessName(ME.pid, ME.started_at, "another boot").alive
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not ProcessName(child.pid, ME.started_at, ME.boot_id).alive


def test_only_the_store_writes_a_state() -> None:
    """No other module of the application assigns or updates `Job.state`."""
    for path in sorted((ROOT / "app").rglob("*.py")):
        if path.name != "store.py":
            text = path.read_text()
            assert ".state = State." not in text, path
            assert ".values(state=" not in text, path


def _waiting(database: Database) -> list[int]:
    with database.read() as session:
        return [int(job.id or 0) for job in lane_queue.queued(session, Lane.MEMORY)]


def _events(database: Database) -> int:
    with database.read() as session:
        return len(session.exec(select(Event.id)).all())


def test_a_second_opening_finds_what_the_first_wrote(tmp_path: Path) -> None:
    first = Database(Home(tmp_path / "home"))
    job_id = queued(first)
    second = Database(Home(tmp_path / "home"))
    assert row(second, job_id).state is State.QUEUED
    first.close()
    second.close()
