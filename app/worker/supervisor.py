"""The server's part in jobs: start a process where a lane has a free slot and a queued job, and notice when one dies.

A death without an outcome is counted against the job (`store.record_death`). Processes outlive a server that is killed;
the next server finds them by the identity in the job's row and watches them. When the server shuts down, it asks the
processes to end too: they finish their step, save and release their job.
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
from itertools import count
from pathlib import Path

from fastapi.concurrency import run_in_threadpool

import app
from app.database import Database
from app.errors import Busy
from app.events import ChangeWatcher
from app.jobs import lane_queue, store
from app.jobs.process import EXIT_CLAIM_LOST, EXIT_DONE, EXIT_LANE_FULL, ProcessName
from app.jobs.states import Lane
from app.jobs.store import Claim
from app.tables import Job
from app.worker import lanes
from core.errors import DiskProblem

CHECK_SECONDS = 0.5  # longest wait for a database change, after PAUSE_SECONDS
PAUSE_SECONDS = 0.2  # between two checks, at least: a training commits several times a second
BACK_OFF_SECONDS = (1, 2, 4, 8, 16, 32, 60)
LAST_OUTPUT = 400  # characters of the output of a process that died before it opened its log

log = logging.getLogger(__name__)


@dataclass
class Child:
    """A process that this server has started."""

    process: subprocess.Popen[bytes]
    lane: Lane
    output: Path  # where it writes until it has claimed a job and opened its log; no other live child writes there


@dataclass
class Backoff:
    """How long a lane waits after failed starts and deaths; longer after each."""

    failures: int = 0
    until: float = 0.0

    def increase(self) -> None:
        self.until = time.monotonic() + BACK_OFF_SECONDS[min(self.failures, len(BACK_OFF_SECONDS) - 1)]
        self.failures += 1

    @property
    def waiting(self) -> bool:
        return time.monotonic() < self.until


@dataclass
class Supervisor:
    """Starts the job processes of one server and records their deaths."""

    database: Database
    changes: ChangeWatcher
    children: list[Child] = field(default_factory=list)
    backoff: dict[Lane, Backoff] = field(default_factory=lambda: {lane: Backoff() for lane in Lane})
    closing: bool = False
    _disk_problem: str = ""  # the last one that was logged

    async def run(self) -> None:
        """Check until `close`. No exception ends this."""
        while not self.closing:
            change = self.changes.next()
            try:
                await run_in_threadpool(self.check)
                self._disk_problem = ""
            except (Busy, DiskProblem) as problem:
                if problem.message != self._disk_problem:  # once, not with each check until there is room
                    log.warning("%s", problem)
                self._disk_problem = problem.message
            except Exception:
                log.exception("the supervisor failed, and goes on")
            await asyncio.sleep(PAUSE_SECONDS)
            try:
                await asyncio.wait_for(change.wait(), CHECK_SECONDS)
            except TimeoutError:
                continue

    def check(self) -> None:
        """Collect children that have ended, record other deaths, start processes for queued jobs."""
        self._collect_children()
        self._record_unseen_deaths()
        if self.closing:
            return
        with self.database.read() as session:
            running = lane_queue.running(session)
            queued = {lane: len(lane_queue.queued(session, lane)) for lane in Lane}
        for lane in Lane:
            self._start(lane, running, queued[lane])

    async def close(self, timeout_seconds: float, hurry: asyncio.Event) -> None:
        """Ask every job process to save and end, and wait for them; `hurry` ends the wait, not the processes.

        Set `closing` and await `run` before: a `check` in parallel could start a process after this has returned.
        """
        self.closing = True
        deadline = time.monotonic() + timeout_seconds
        signalled: set[int] = set()
        while time.monotonic() < deadline:
            processes = await run_in_threadpool(self._live_processes)
            for process in processes:
                if process.pid not in signalled:
                    signalled.add(process.pid)
                    _terminate(process.pid)
            if not processes or hurry.is_set():
                break
            await asyncio.sleep(0.1)
        await run_in_threadpool(self._collect_children)
        await run_in_threadpool(self._record_unseen_deaths)

    def _collect_children(self) -> None:
        for child in [child for child in self.children if child.process.poll() is not None]:
            code = child.process.returncode
            job = self._claimed_by(child.process.pid)
            if job is not None:
                # the output is empty if the child had opened its log already
                store.record_death(self.database, _claim_of(job), code, _last_output(child.output))
                self.backoff[child.lane].increase()
            elif code == EXIT_LANE_FULL:
                self.backoff[child.lane].increase()  # a process of an earlier server still runs
            elif code not in (EXIT_DONE, EXIT_CLAIM_LOST) and not self.closing:
                store.record_failed_start(self.database, child.lane, code, _last_output(child.output))
                self.backoff[child.lane].increase()
            else:
                self.backoff[child.lane] = Backoff()
            self.children.remove(child)

    def _record_unseen_deaths(self) -> None:
        """Jobs whose process is neither a child nor alive: it died while no server ran, or with the computer."""
        own = {child.process.pid for child in self.children}
        for job in self._running():
            if job.pid not in own and not _process_of(job).alive:
                store.record_death(self.database, _claim_of(job), None)

    def _start(self, lane: Lane, running: list[Job], queued: int) -> None:
        """Start a process for a queued job, unless the lane is full or a started process has yet to claim it."""
        own = {child.process.pid for child in self.children if child.lane is lane}
        claimed = {job.pid for job in running if job.lane is lane}
        starting = len(own - claimed)
        if len(own | claimed) < lanes.MAX_JOBS[lane] and queued > starting and not self.backoff[lane].waiting:
            self.children.append(self._spawn(lane))

    def _spawn(self, lane: Lane) -> Child:
        root = Path(app.__file__).resolve().parents[1]
        in_use = {child.output for child in self.children}
        files = (self.database.home.logs / f"{lane}-{number}.txt" for number in count())
        output = next(file for file in files if file not in in_use)  # opening it truncates it
        command = [sys.executable, "-P", "-m", "app.worker", "--home", str(self.database.home.root), "--lane", lane]
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": str(root)},
                cwd=self.database.home.root,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return Child(process, lane, output)

    def _running(self) -> list[Job]:
        with self.database.read() as session:
            return lane_queue.running(session)

    def _claimed_by(self, pid: int) -> Job | None:
        return next((job for job in self._running() if job.pid == pid), None)

    def _live_processes(self) -> list[ProcessName]:
        """Every job process that runs, whichever server started it."""
        children = [child for child in self.children if child.process.poll() is None]
        own = {child.process.pid for child in children}
        found = [ProcessName(child.process.pid, 0.0, "") for child in children]
        return found + [name for job in self._running() if job.pid not in own and (name := _process_of(job)).alive]


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return


def _process_of(job: Job) -> ProcessName:
    return ProcessName(job.pid or 0, job.pid_started_at or 0.0, job.boot_id or "")


def _claim_of(job: Job) -> Claim:
    return Claim(int(job.id or 0), job.attempt, job.kind)


def _last_output(path: Path) -> str:
    try:
        text = path.read_text(errors="replace").strip()
    except OSError:
        return ""
    return " ".join(text[-LAST_OUTPUT:].split())
