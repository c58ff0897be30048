"""What the process of a job holds while it works: its claim, the user's requests, and the ways to report progress.

A thread sends a heartbeat every 0.5 s, so that a long load or drawing still shows life, and reads the requests with it
into `Work.requests`. The job itself looks at `should_stop` between two steps and ends properly. The thread ends the
process in three cases:

    stop = "now"              writes the outcome and exits in the middle of a step; files are renamed into place when
                              complete, so at most a temporary one is left, which the next attempt removes
    `interruptible` is set    the same, or release. Used by downloads: a partial file can be continued, and a silent
    and the user or the       server would block a clean stop
    server asks to stop
    the claim is lost         exits without writing: this attempt no longer owns the job
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Unpack

from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from app.database import Database
from app.errors import Busy, ClaimLost
from app.jobs import store
from app.jobs.process import EXIT_CLAIM_LOST, EXIT_DONE
from app.jobs.states import State, Stop
from app.jobs.store import Claim, JobProgress, Requests
from app.tables import Job
from core.errors import DiskProblem

HEARTBEAT_SECONDS = 0.5


class Stopped(Exception):
    """The job ends early, between two steps; its state is `Work.state_after_stop`."""


class Shutdown:
    """Whether the server shuts down: SIGTERM and SIGHUP request it. Ctrl-C goes to the server, and is ignored here."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        signal.signal(signal.SIGTERM, self._request)
        signal.signal(signal.SIGHUP, self._request)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _request(self, *_: object) -> None:
        self._requested.set()

    @property
    def requested(self) -> bool:
        return self._requested.is_set()


class Work:
    """One attempt at one job."""

    def __init__(self, database: Database, claim: Claim, shutdown: Shutdown) -> None:
        self.database, self.claim, self.shutdown = database, claim, shutdown
        self.home = database.home
        self.requests = Requests(Stop.NONE, save=False, sample=False)
        self.interruptible = False  # there is no step to finish: a stop or a shutdown ends the process at once
        self._finished = threading.Event()
        self._write_lock = threading.Lock()
        self._heartbeats = threading.Thread(target=self._send_heartbeats, name="heartbeats", daemon=True)

    def __enter__(self) -> Work:
        self._heartbeats.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self._heartbeats.join()

    @property
    def job(self) -> Job:
        """The row as it is now."""
        with self.database.read() as session:
            return store.get(session, self.claim.job_id)

    @property
    def should_stop(self) -> bool:
        """Whether to finish the current step, save and end: the user or the server asks for it."""
        return self.shutdown.requested or self.requests.stop is not Stop.NONE

    @property
    def state_after_stop(self) -> State:
        """The state of a job that ends early: STOPPED by the user; QUEUED when only the server shuts down.

        QUEUED means `store.release`, which makes it STOPPED when automatic resume is off.
        """
        return State.QUEUED if self.requests.stop is Stop.NONE else State.STOPPED

    def raise_if_stopped(self) -> None:
        """Raises Stopped where `should_stop`."""
        if self.should_stop:
            raise Stopped

    def take_requests(self) -> Requests:
        """Read and clear the pending save and sample requests. Raises ClaimLost."""
        with self._write_lock:
            pending = store.take_requests(self.database, self.claim)
            self.requests = Requests(pending.stop, save=False, sample=False)
        return pending

    @contextmanager
    def transaction(self, **columns: Unpack[JobProgress]) -> Iterator[Session]:
        """A transaction that sets columns of the job; the caller adds rows and events. Raises ClaimLost."""
        with self._write_lock, store.transaction(self.database, self.claim, **columns) as session:
            yield session

    def report_phase(self, name: str, done: int, of: int) -> None:
        """Report work other than training steps: "encoding photos", 3 of 12. Raises ClaimLost."""
        with self.transaction(phase=name) as session:
            store.append_event(session, self.claim, "phase", {"name": name, "done": done, "of": of})

    def log(self, text: str, level: str = "info") -> None:
        """Write a sentence to the user's log and to the log file. Raises ClaimLost."""
        write_log(text, level)
        with self.transaction() as session:
            store.append_event(session, self.claim, "log", {"level": level, "text": text})

    def _send_heartbeats(self) -> None:
        while not self._finished.wait(HEARTBEAT_SECONDS):
            try:
                # Without the lock, an older heartbeat result could overwrite the requests that take_requests has just
                # cleared.
                with self._write_lock:
                    self.requests = store.heartbeat(self.database, self.claim)
            except ClaimLost:
                write_log("this attempt no longer owns the job; the process ends", "warning")
                os._exit(EXIT_CLAIM_LOST)
            except (OperationalError, Busy, DiskProblem) as error:  # the job's own writes report a full disk
                write_log(f"no heartbeat: {error}", "warning")
                continue
            if self.requests.stop is Stop.NOW or (self.interruptible and self.should_stop):
                self._exit_now()

    def _exit_now(self) -> None:
        """Write the outcome and end the process. If the database cannot be written, the next heartbeat tries again."""
        with self._write_lock:
            if self._finished.is_set():
                return
            try:
                if self.requests.stop is Stop.NONE:
                    write_log("released, because the server shuts down")
                    store.release(self.database, self.claim)
                else:
                    write_log("stopped at once by the user")
                    store.end(self.database, self.claim, State.STOPPED)
            except ClaimLost:
                os._exit(EXIT_CLAIM_LOST)
            except (OperationalError, Busy, DiskProblem) as error:
                write_log(f"could not write the outcome; trying again: {error}", "warning")
                return
            os._exit(EXIT_DONE)


def write_log(text: str, level: str = "info") -> None:
    """Write a line to the log file. On a full disk it is dropped; the job's outcome reports the disk."""
    with suppress(OSError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {level:<8}{text}\n")
        sys.stderr.flush()
