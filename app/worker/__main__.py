"""One job, one process: `python -P -m app.worker --home DIR --lane memory`.

    take a place in the lane  ->  claim the next job  ->  beat and work  ->  write the outcome  ->  end

The outcome is the last thing written, and memory comes back with the process. Exit codes: 0 the outcome is written (or
there was nothing to do), 75 the lane is full, 3 the claim was lost; anything else is a death, which the supervisor
counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from app.database import Database
from app.errors import LostJob
from app.home import Home
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Lane, State
from app.jobs.store import Claim
from app.worker import lanes
from app.worker.outcome import Outcome, explained
from app.worker.tasks import TASKS, log_file
from app.worker.work import LEFT_OVER, Leaving, Work, note
from core.errors import DiskProblem, Problem

LANE_FULL = 75
NICENESS = 5  # the browser and the server come first


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m app.worker")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--lane", type=Lane, choices=list(Lane), required=True)
    options = parser.parse_args(arguments)
    leaving = Leaving()
    home = Home(options.home)
    if lanes.take(home.locks, options.lane) is None:
        return LANE_FULL
    database = Database(home)
    claim = None if leaving.asked else store.claim(database, options.lane, ProcessName.own())
    if claim is None:
        return 0
    os.nice(NICENESS)
    try:
        _write_log_to(log_file(database, claim))
        note(f"job {claim.job_id} ({claim.kind}), attempt {claim.attempt}, process {os.getpid()}")
        with Work(database, claim, leaving) as work:
            outcome = _run(work)
        _end(database, claim, outcome)
    except LostJob as lost:
        note(str(lost), "warning")
        return LEFT_OVER
    return 0


def _run(work: Work) -> Outcome:
    """The job's own work; whatever goes wrong becomes a sentence."""
    try:
        return TASKS[work.claim.kind](work)
    except (LostJob, SystemExit, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001  (a bug in a job must end as a sentence and a traceback in its log)
        if not isinstance(error, Problem):
            note(traceback.format_exc(), "error")
        problem = explained(error, work.claim.kind)
        note(str(problem), "error")
        if isinstance(problem, DiskProblem):
            work.home.release_reserve()
        return Outcome(State.FAILED, error=store.error_of(problem))


def _end(database: Database, claim: Claim, outcome: Outcome) -> None:
    if outcome.state is State.QUEUED:
        store.release(database, claim)
    else:
        store.end(database, claim, outcome.state, error=outcome.error, result=outcome.result)
    note(f"ended: {outcome.state}")


def _write_log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


if __name__ == "__main__":
    sys.exit(main())
