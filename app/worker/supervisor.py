"""The server's part in jobs: start a process where a lane is free and something waits, and notice when one is gone.

A process that died without an outcome is counted against its job (`store.lost`). Processes outlive a server that is
killed; the next one finds them by the name in the job's row and goes on watching. When the server is asked to end, the
processes are asked too: they finish their step, save and give their job back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from fastapi.concurrency import run_in_threadpool

import app
from app.database import Database
from app.events import Bell
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Lane
from app.jobs.store import Claim
from app.tables import Job
from app.worker import lanes
from core.errors import DiskProblem

LOOK_SECONDS = 0.5
PAUSE_SECONDS = 0.2
LANE_FULL = 75
CLAIM_LOST = 3
BACK_OFF_SECONDS = (1, 2, 4, 8, 16, 32, 60)
LAST_WORDS = 400  # characters of the log, for a process that could not even start

log = logging.getLogger(__name__)


@dataclass
class Child:
    """A process that this server has started."""

    process: subprocess.Popen[bytes]
    lane: Lane
    words: Path  # where it writes until it has claimed a job


@dataclass
class Patience:
    """How long a lane waits after processes that died at once."""

    deaths: int = 0
    until: float = 0.0

    def died(self) -> None:
        self.until = time.monotonic() + BACK_OFF_SECONDS[min(self.deaths, len(BACK_OFF_SECONDS) - 1)]
        self.deaths += 1

    @property
    def waiting(self) -> bool:
        return time.monotonic() < self.until


@dataclass
class Supervisor:
    database: Database
    bell: Bell
    children: list[Child] = field(default_factory=list)
    patience: dict[Lane, Patience] = field(default_factory=lambda: {lane: Patience() for lane in Lane})
    closing: bool = False
    said: str = ""  # of a full disk, at the terminal

    async def run(self) -> None:
        """Watch until `close`. Nothing that a job does may end this."""
        while not self.closing:
            change = self.bell.next()
            try:
                await run_in_threadpool(self.look)
                self.said = ""
            except DiskProblem as problem:
                if problem.message != self.said:  # once, and not with each look until there is room
                    log.warning("%s", problem)
                self.said = problem.message
            except Exception:
                log.exception("the supervisor stumbled; it goes on")
            await asyncio.sleep(PAUSE_SECONDS)  # a training commits several times a second
            try:
                await asyncio.wait_for(change.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue

    def look(self) -> None:
        """Collect what has ended, find what was lost, start what can run."""
        self._collect()
        self._find_lost()
        if self.closing:
            return
        with self.database.read() as session:
            running = store.running(session)
            waiting = {lane: len(store.waiting(session, lane)) for lane in Lane}
        for lane in Lane:
            self._start(lane, running, waiting[lane])

    async def close(self, patience_seconds: float, hurry: asyncio.Event) -> None:
        """Ask every job process to save and end, and wait until they have; `hurry` ends the wait, not the processes."""
        self.closing = True
        deadline = time.monotonic() + patience_seconds
        asked: set[int] = set()
        while time.monotonic() < deadline:
            names = await run_in_threadpool(self._alive)
            for name in names:
                if name.pid not in asked:
                    asked.add(name.pid)
                    _signal(name.pid)
            if not names or hurry.is_set():
                break
            await asyncio.sleep(0.1)
        await run_in_threadpool(self._collect)
        await run_in_threadpool(self._find_lost)

    def _collect(self) -> None:
        for child in [child for child in self.children if child.process.poll() is not None]:
            code = child.process.returncode
            job = self._claimed_by(child.process.pid)
            if job is not None:
                last = "" if code < 0 else _last_words(child.words)
                store.lost(self.database, _claim_of(job), code, last)
                self.patience[child.lane].died()
            elif code == LANE_FULL:
                self.patience[child.lane].died()  # a process of an earlier server is still at work
            elif code not in (0, CLAIM_LOST) and not self.closing:
                self._could_not_start(child, code)
            else:
                self.patience[child.lane] = Patience()
            self.children.remove(child)

    def _could_not_start(self, child: Child, code: int) -> None:
        """It died before it claimed anything: that counts against the job it would have run."""
        self.patience[child.lane].died()
        claim = store.claim(self.database, child.lane, ProcessName.own())
        if claim is not None:
            store.lost(self.database, claim, code, _last_words(child.words))

    def _find_lost(self) -> None:
        """Jobs whose process is neither ours nor alive: it died while no server was watching, or with the computer."""
        own = {child.process.pid for child in self.children}
        for job in self._running():
            if job.pid not in own and not _name_of(job).alive:
                store.lost(self.database, _claim_of(job), None)

    def _start(self, lane: Lane, running: list[Job], waiting: int) -> None:
        """Start a process for a waiting job, unless the lane is full or one that was started has yet to claim it."""
        own = {child.process.pid for child in self.children if child.lane is lane}
        claimed = {job.pid for job in running if job.lane is lane}
        starting = len(own - claimed)
        if len(own | claimed) < lanes.PLACES[lane] and waiting > starting and not self.patience[lane].waiting:
            self.children.append(self._spawn(lane))

    def _spawn(self, lane: Lane) -> Child:
        root = Path(app.__file__).resolve().parents[1]
        words = self.database.home.logs / f"{lane}.txt"
        command = [sys.executable, "-P", "-m", "app.worker", "--home", str(self.database.home.root), "--lane", lane]
        with words.open("wb") as file:
            process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": str(root)},
                cwd=self.database.home.root,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return Child(process, lane, words)

    def _running(self) -> list[Job]:
        with self.database.read() as session:
            return store.running(session)

    def _claimed_by(self, pid: int) -> Job | None:
        return next((job for job in self._running() if job.pid == pid), None)

    def _alive(self) -> list[ProcessName]:
        ours = [child for child in self.children if child.process.poll() is None]
        own = {child.process.pid for child in ours}
        found = [ProcessName(child.process.pid, 0.0, "") for child in ours]
        return found + [name for job in self._running() if job.pid not in own and (name := _name_of(job)).alive]


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return


def _name_of(job: Job) -> ProcessName:
    return ProcessName(job.pid or 0, job.pid_started_at or 0.0, job.boot_id or "")


def _claim_of(job: Job) -> Claim:
    return Claim(int(job.id or 0), job.attempt, job.kind)


def _last_words(path: Path) -> str:
    try:
        text = path.read_text(errors="replace").strip()
    except OSError:
        return ""
    return " ".join(text[-LAST_WORDS:].split())
