"""The heartbeat thread of a job's process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.database import Database
from app.jobs import store
from app.jobs.process import EXIT_DONE
from app.jobs.states import Kind, State
from tests.app.conftest import ROOT

# A job that is stopped at once while its outcome cannot be written: the first time the disk is full, then the database
# is locked.
STOPPED_AT_ONCE = """
import sys, time
from pathlib import Path
from sqlalchemy.exc import OperationalError
from app.database import Database
from app.home import Home
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Lane
from app.worker.work import Shutdown, Work
from core.errors import DiskProblem

failures = [OperationalError("UPDATE", None, Exception("database is locked")), DiskProblem("The disk is full.")]
end = store.end

def failing_twice(*arguments, **named):
    if failures:
        raise failures.pop()
    end(*arguments, **named)

store.end = failing_twice
database = Database(Home(Path(sys.argv[1])))
claim = store.claim(database, Lane.IO, ProcessName.own())
with database.write() as session:
    store.stop(session, claim.job_id, at_once=True)
with Work(database, claim, Shutdown()):
    time.sleep(20)
sys.exit("the heartbeat thread did not end the process")
"""


@pytest.mark.slow
def test_stop_now_is_tried_again_when_the_outcome_cannot_be_written(database: Database) -> None:
    with database.write() as session:
        job_id = int(store.enqueue(session, Kind.EXPORT, {}).id or 0)
    command = [sys.executable, "-c", STOPPED_AT_ONCE, str(database.home.root)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert process.returncode == EXIT_DONE, process.stderr
    assert process.stderr.count("could not write the outcome; trying again") == 2
    with database.read() as session:
        assert store.get(session, job_id).state is State.STOPPED
