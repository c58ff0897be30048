"""One job, one process: `python -P -m app.worker --home DIR --lane memory`.

    lock a slot of the lane  ->  claim the next job  ->  work, with heartbeats  ->  write the outcome  ->  exit

The outcome is the last thing written, and all memory is freed with the process. `app/jobs/process.py` lists the exit
codes; any other one is a death, which the supervisor counts.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    gc.disable()  # imports leave no garbage, and looking for it takes a tenth of their time

from app.database import Database
from app.errors import ClaimLost
from app.home import Home
from app.jobs import store
from app.jobs.process import EXIT_CLAIM_LOST, EXIT_DONE, EXIT_LANE_FULL, ProcessName
from app.jobs.states import Lane, State
from app.jobs.store import Claim
from app.worker import lanes
from app.worker.device import retried, saved
from app.worker.outcome import Outcome, explained, failure
from app.worker.tasks import TASKS, log_file
from app.worker.work import Shutdown, Stopped, Work, write_log
from core.errors import DiskProblem, Problem

NICENESS = 5  # the browser and the server come first


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the next job of a lane; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.worker")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--lane", type=Lane, choices=list(Lane), required=True)
    options = parser.parse_args(arguments)
    shutdown = Shutdown()
    home = Home(options.home)
    if lanes.take_slot(home.locks, options.lane) is None:
        return EXIT_LANE_FULL
    database = Database(home, for_job=True)
    claim = None if shutdown.requested else store.claim(database, options.lane, ProcessName.own())
    if claim is None:
        return EXIT_DONE
    os.nice(NICENESS)
    try:
        _redirect_output(log_file(database, claim))
        write_log(f"job {claim.job_id} ({claim.kind}), attempt {claim.attempt}, process {os.getpid()}")
        with Work(database, claim, shutdown) as work:
            outcome = _run(work)
        _end(database, claim, outcome)
    except ClaimLost as lost:
        write_log(str(lost), "warning")
        return EXIT_CLAIM_LOST
    return EXIT_DONE


def _run(work: Work) -> Outcome:
    """The job's own work; every exception but ClaimLost becomes an outcome."""
    try:
        return TASKS[work.claim.kind](work)
    except Stopped:
        return Outcome(work.state_after_stop)
    except (ClaimLost, SystemExit, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001  (a bug in a job must end as a sentence and a traceback in its log)
        if not isinstance(error, Problem):
            write_log(traceback.format_exc(), "error")
        if (again := retried(work, error)) is not None:
            return again
        problem = explained(error, work.claim.kind, saved(work))
        write_log(str(problem), "error")
        if isinstance(problem, DiskProblem):
            work.home.release_reserve()
        return failure(problem)


def _end(database: Database, claim: Claim, outcome: Outcome) -> None:
    state = outcome.state
    if state is State.QUEUED:
        state = store.release(database, claim, outcome.position)
    else:
        store.end(database, claim, state, error=outcome.error, result=outcome.result)
    write_log(f"ended: {state}")


def _redirect_output(path: Path) -> None:
    """Append stdout and stderr of this process, the C libraries' included, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(main())
