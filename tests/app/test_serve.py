"""Starting and ending the studio as a program."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app import main
from app.database import Database
from app.errors import HomeProblem
from app.events import ChangeWatcher
from app.home import Home
from app.jobs import store
from app.jobs.process import EXIT_CLAIM_LOST, EXIT_LANE_FULL
from app.jobs.states import Kind, Lane, State
from app.main import serve
from app.tables import Job
from app.worker import lanes, supervisor
from core.errors import DiskProblem
from tests.app.conftest import ROOT, Studio, until

Start = Callable[..., Studio]


def test_a_second_start_opens_the_one_that_runs(
    shared_studio: Studio, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    studio = shared_studio
    opened: list[str] = []
    monkeypatch.setattr(main.webbrowser, "open", opened.append)
    assert serve(studio.home, 0, open_browser=True) == 0
    assert opened == [studio.url]
    assert f"already runs at {studio.url}" in capsys.readouterr().err


def test_a_taken_port_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(HomeProblem, match=f"Port {port} is taken by another program"):
            serve(tmp_path / "home", port, open_browser=False)


def test_the_studio_listens_on_this_computer_only(shared_studio: Studio) -> None:
    studio = shared_studio
    assert studio.url.startswith("http://127.0.0.1:")
    port = int(studio.url.rpartition(":")[2])
    other = socket.socket()
    other.settimeout(2)
    outside = socket.gethostbyname(socket.gethostname())
    if not outside.startswith("127."):
        with pytest.raises(OSError, match="refused"):
            other.connect((outside, port))
    other.close()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_way_of_ending_it_is_a_good_end(start_studio: Start, sig: signal.Signals) -> None:
    studio = start_studio()
    assert studio.end(sig) == 0
    assert studio.process.stderr is not None
    said = studio.process.stderr.read().decode()
    assert "Traceback" not in said
    assert "Closing." in said


def test_a_job_whose_process_cannot_even_start_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tries, then the job fails with the last output of its process."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(supervisor.sys, "executable", str(broken))
    monkeypatch.setattr(supervisor, "BACK_OFF_SECONDS", (0,))
    database = Database(Home(tmp_path / "home"))
    with database.write() as session:
        job_id = int(store.enqueue(session, Kind.EXPORT, {}).id or 0)
    watch = supervisor.Supervisor(database, ChangeWatcher(database.home.database))

    def failed() -> Job | None:
        watch.check()
        with database.read() as session:
            job = store.get(session, job_id)
        return job if job.state is State.FAILED else None

    error = until(failed).error
    assert error is not None
    assert "no such luck" in error["message"]
    assert "died 3 times" in error["message"]
    database.close()


def test_no_two_processes_write_to_the_same_output_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o700)
    monkeypatch.setattr(supervisor.sys, "executable", str(slow))
    database = Database(Home(tmp_path / "home"))
    with database.write() as session:
        for _ in range(2):
            store.enqueue(session, Kind.EXPORT, {})
    watch = supervisor.Supervisor(database, ChangeWatcher(database.home.database))
    try:
        watch.check()
        watch.check()
        assert len({child.output for child in watch.children}) == 2
    finally:
        for child in watch.children:
            child.process.kill()
            child.process.wait()
    database.close()


def test_a_process_that_lost_its_claim_is_no_death_of_the_next_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_over = tmp_path / "python"
    left_over.write_text(f"#!/bin/sh\nexit {EXIT_CLAIM_LOST}\n")
    left_over.chmod(0o700)
    monkeypatch.setattr(supervisor.sys, "executable", str(left_over))
    database = Database(Home(tmp_path / "home"))
    with database.write() as session:
        job_id = int(store.enqueue(session, Kind.EXPORT, {}).id or 0)
    watch = supervisor.Supervisor(database, ChangeWatcher(database.home.database))
    watch.check()
    (child,) = watch.children
    child.process.wait()
    watch.check()
    with database.read() as session:
        job = store.get(session, job_id)
    assert (job.state, job.attempt, job.deaths) == (State.QUEUED, 0, 0)
    for child in watch.children:
        child.process.wait()
    database.close()


@pytest.mark.slow
def test_a_full_disk_is_reported_once_at_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(Home(tmp_path / "home"))
    watch = supervisor.Supervisor(database, ChangeWatcher(database.home.database))
    checks = iter(range(3))

    def check() -> None:
        if next(checks) == 2:
            watch.closing = True
        raise DiskProblem("likeness.db could not be written: database or disk is full.")

    monkeypatch.setattr(watch, "check", check)
    monkeypatch.setattr(supervisor, "CHECK_SECONDS", 0.01)
    asyncio.run(watch.run())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    database.close()


def test_jobs_are_asked_to_save_however_much_of_a_hurry_the_user_is_in(tmp_path: Path) -> None:
    """A second Ctrl-C before any process was asked must not leave a training running for hours."""
    database = Database(Home(tmp_path / "home"))
    watch = supervisor.Supervisor(database, ChangeWatcher(database.home.database))
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    watch.children.append(supervisor.Child(process, Lane.MEMORY, tmp_path / "output"))
    hurry = asyncio.Event()
    hurry.set()
    try:
        asyncio.run(watch.close(60.0, hurry))
        assert process.wait(60) == -signal.SIGTERM
    finally:
        process.stdin.close()  # ends it, if it was not asked to
        process.wait()
    database.close()


def test_a_foreign_core_in_the_current_folder_is_not_imported(start_studio: Start, tmp_path: Path) -> None:
    for name in ("app", "core"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')")
    studio = start_studio()  # starts in tmp_path
    project = studio.project_with_photos()
    job = studio.post(f"/api/projects/{project}/captions", {"backend": "template"})["job_id"]
    until(lambda: studio.get(f"/api/jobs/{job}")["state"] == "succeeded")
    captions = {photo["caption"] for photo in studio.get(f"/api/projects/{project}/photos")}
    assert captions == {"a photo of sks can"}


@pytest.mark.slow
def test_a_worker_finds_a_full_lane_and_leaves(tmp_path: Path) -> None:
    database = Database(Home(tmp_path / "home"))
    held = lanes.take_slot(database.home.locks, Lane.MEMORY)
    assert held is not None
    command = [sys.executable, "-P", "-m", "app.worker", "--home", str(database.home.root), "--lane", "memory"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=environment, check=False).returncode == EXIT_LANE_FULL
    os.close(held)
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    database.close()
