"""What a job's process holds while it works: its claim, the requests of the user, and a way to say how it goes.

A thread beats, so that a long load or drawing still shows life, and reads the requests. Three it acts on itself:

    stop = now      the outcome is written and the process ends in the middle of its step; files are written whole, so
                    at most a temporary one is left, which the next attempt clears away
    any stop, when  likewise: what is on the disk is useful at every moment, and a silent server must not keep anybody
    `ends_anywhere` waiting
    the claim is    the process ends without a word: it is a left-over
    gone
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from app.database import Database
from app.errors import LostJob
from app.jobs import store
from app.jobs.states import State, Stop
from app.jobs.store import Claim, Requests
from app.tables import Job
from core.errors import DiskProblem

BEAT_SECONDS = 0.5
LEFT_OVER = 3  # exit code of a process whose claim is gone


class Leaving:
    """Whether the studio closes: SIGTERM and SIGHUP ask for a proper end, Ctrl-C is the server's business."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGHUP, self._ask)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _ask(self, *_: object) -> None:
        self._asked.set()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()


class Work:
    """One attempt at one job."""

    def __init__(self, database: Database, claim: Claim, leaving: Leaving) -> None:
        self.database, self.claim, self.leaving = database, claim, leaving
        self.home = database.home
        self.requests = Requests(Stop.NONE, save=False, sample=False)
        self.ends_anywhere = False  # whether there is no step to finish: a stop, or the studio closing, ends it at once
        self._over = threading.Event()
        self._writing = threading.Lock()
        self._beats = threading.Thread(target=self._beat, name="beats", daemon=True)

    def __enter__(self) -> Work:
        self._beats.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._beats.join()

    @property
    def job(self) -> Job:
        """The row as it is now."""
        with self.database.read() as session:
            return store.get(session, self.claim.job_id)

    @property
    def should_stop(self) -> bool:
        """Whether to finish what is in hand, save and end."""
        return self.leaving.asked or self.requests.stop is not Stop.NONE

    def take_requests(self) -> Requests:
        """The requests for a checkpoint and for samples, which the caller grants; new ones count from now."""
        with self._writing:
            found = store.take_requests(self.database, self.claim)
            self.requests = Requests(found.stop, save=False, sample=False)
        return found

    @contextmanager
    def telling(self, **columns: Any) -> Iterator[Session]:
        """A transaction in which rows and events are added, as long as the claim holds. Raises LostJob."""
        with self._writing, store.holding(self.database, self.claim, **columns) as session:
            yield session

    def tell(self, kind: str, payload: Mapping[str, Any], step: int | None = None, **columns: Any) -> None:
        """One event, and columns of the job with it. Raises LostJob."""
        with self.telling(**columns) as session:
            store.tell(session, self.claim, kind, payload, step)

    def phase(self, name: str, done: int, of: int) -> None:
        """What is being done, other than steps."""
        self.tell("phase", {"name": name, "done": done, "of": of}, phase=name)

    def log(self, text: str, level: str = "info") -> None:
        """A sentence for the user's log and for the log file."""
        note(text, level)
        self.tell("log", {"level": level, "text": text})

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                with self._writing:  # or what was read before they were taken would be requested again
                    self.requests = store.beat(self.database, self.claim)
            except LostJob:
                note("another attempt has taken over; this one ends", "warning")
                os._exit(LEFT_OVER)
            except (OperationalError, DiskProblem) as error:  # a full disk is told by what the job itself writes
                note(f"no beat: {error}", "warning")
                continue
            if self.requests.stop is Stop.NOW or (self.ends_anywhere and self.should_stop):
                self._end_now()

    def _end_now(self) -> None:
        with self._writing:
            if self._over.is_set():
                return
            try:
                if self.requests.stop is Stop.NONE:
                    note("given back, because the studio closes")
                    store.release(self.database, self.claim)
                else:
                    note("stopped at once by the user")
                    store.end(self.database, self.claim, State.STOPPED)
            except LostJob:
                os._exit(LEFT_OVER)
            os._exit(0)


def note(text: str, level: str = "info") -> None:
    """A line of the log file; on a full disk there is none, and the job's outcome says why."""
    with suppress(OSError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {level:<8}{text}\n")
        sys.stderr.flush()
