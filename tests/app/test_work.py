"""The heartbeat thread of a job's process."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from app.database import Database
from app.jobs import store
from app.jobs.process import EXIT_DONE, ProcessName
from app.jobs.states import Kind, Lane, State
from app.worker import work
from core.errors import DiskProblem
from tests.app.conftest import until


def test_stop_now_is_tried_again_when_the_outcome_cannot_be_written(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    exits: list[int] = []
    failures: list[Exception] = [
        DiskProblem("database or disk is full."),
        OperationalError("UPDATE", None, Exception("database is locked")),
    ]
    end = store.end

    def failing_twice(*arguments: Any, **named: Any) -> None:
        if failures:
            raise failures.pop()
        end(*arguments, **named)

    monkeypatch.setattr(store, "end", failing_twice)
    monkeypatch.setattr(work.os, "_exit", exits.append)  # the thread goes on
    monkeypatch.setattr(work, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with database.write() as session:
        job_id = int(store.enqueue(session, Kind.EXPORT, {}).id or 0)
    claim = store.claim(database, Lane.IO, ProcessName.own())
    assert claim is not None
    with database.write() as session:
        store.stop(session, job_id, at_once=True)
    with work.Work(database, claim, work.Shutdown()):
        until(lambda: exits, seconds=10)
    with database.read() as session:
        assert store.get(session, job_id).state is State.STOPPED
    assert exits[0] == EXIT_DONE
