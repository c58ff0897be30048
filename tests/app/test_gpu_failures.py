"""A run whose GPU failed resumes by itself with smaller command buffers, twice; then it ends with a sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlmodel import col, select

from app.database import Database
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Kind, Lane, State, Stop
from app.tables import Event, Project, Run, Setting, Version
from app.terminal import device as terminal_device
from app.worker import device as worker_device
from app.worker.outcome import explained
from app.worker.work import Stopped, Work
from core.device import first_test
from core.device.capabilities import Result

WATCHDOG = RuntimeError(
    "[METAL] Command buffer execution failed: Impacting Interactivity "
    "(0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)."
)


@pytest.fixture
def work(database: Database) -> Work:
    """A training job that this process has claimed."""
    with database.write() as session:
        project = Project(name="A", trigger="sks", class_word="can")
        session.add(project)
        session.flush()
        version = Version(project_id=int(project.id or 0), items=[])
        job = store.enqueue(session, Kind.TRAIN, {})
        session.add(version)
        session.flush()
        session.add(Run(project_id=project.id, version_id=version.id, job_id=job.id))
    claim = store.claim(database, Lane.MEMORY, ProcessName.own())
    assert claim is not None
    running: Any = SimpleNamespace(requested=False)  # no signal handlers in this process
    return Work(database, claim, running)


def log_of(work: Work) -> list[str]:
    with work.database.read() as session:
        rows = session.exec(select(Event).where(Event.kind == "log").order_by(col(Event.id)))
        return [row.payload["text"] for row in rows]


def test_it_resumes_twice_with_smaller_pieces_and_then_stops(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_SELFTEST", "off")
    for name in ("MLX_MAX_OPS_PER_BUFFER", "MLX_MAX_MB_PER_BUFFER"):
        monkeypatch.setenv(name, "")  # restored after the test
    (work.home.run(1) / "checkpoints" / "40").mkdir(parents=True)
    operations = []
    for _ in range(2):
        outcome = worker_device.retried(work, WATCHDOG)
        assert outcome is not None
        assert outcome.state is State.QUEUED
        with worker_device.on_the_device(work, trains=True):
            operations.append(int(os.environ["MLX_MAX_OPS_PER_BUFFER"]))
    assert operations == [10, 4]
    assert worker_device.retried(work, WATCHDOG) is None
    problem = explained(WATCHDOG, Kind.TRAIN, worker_device.saved(work))
    assert (problem.code, "Step 40 is saved." in problem.message) == ("gpu", True)
    said = log_of(work)
    assert "Step 40 is saved. The run resumes by itself with smaller pieces of work (try 1 of 2)." in said[0]
    assert "10 operations or 20 MB" in said[1]


def test_only_errors_of_the_gpu_and_only_where_runs_may_resume_by_themselves(work: Work) -> None:
    assert worker_device.retried(work, RuntimeError("[METAL] Insufficient Memory")) is None
    assert worker_device.retried(work, ValueError("a bug")) is None
    with work.database.write() as session:
        session.add(Setting(key="resume_automatically", value=False))
    assert worker_device.retried(work, WATCHDOG) is None


def test_what_the_self_test_found_is_in_the_log(work: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    monkeypatch.delenv("LIKENESS_SELFTEST", raising=False)
    monkeypatch.setattr(first_test, "run_test", lambda: [Result("norm", False, 0.5, 0.001, fallback_right=True)])
    with worker_device.on_the_device(work, trains=False):
        pass
    first_test.capabilities.activate([])
    said = log_of(work)
    assert "is tested on this computer, once" in said[0]
    assert "It is replaced by plain operations." in said[1]


def test_a_stop_ends_the_wait_for_the_gpu(work: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    waiting = worker_device.waiting_for_gpu(work)
    assert waiting("Another process uses the GPU.")
    assert waiting("Another process uses the GPU.")
    assert log_of(work) == ["Another process uses the GPU."]
    work.requests = store.Requests(Stop.STOP, save=False, sample=False)
    with pytest.raises(Stopped):
        waiting("Another process uses the GPU.")


@pytest.mark.parametrize(
    ("words", "failures", "resumed"),
    [
        (["train", "photos", "--out", "o"], "", ["train", "photos", "--out", "o", "--resume"]),
        (["train", "photos", "--out", "o", "--resume"], "1", ["train", "photos", "--out", "o", "--resume"]),
        (["train", "photos", "--out", "o"], "2", None),
        (["sample", "--prompt", "x"], "", None),
        (["train", "photos", "--hosts", "h.json"], "", None),
    ],
)
def test_the_command_line_resumes_in_a_new_program(
    words: list[str], failures: str, resumed: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], str]] = []
    monkeypatch.setattr(sys, "argv", ["likeness", *words])
    monkeypatch.setenv("LIKENESS_RETRIES", failures)
    monkeypatch.setattr(
        os, "execve", lambda program, command, env: started.append((command[4:], env["LIKENESS_RETRIES"]))
    )
    terminal_device.resume_after(WATCHDOG)
    assert started == ([(resumed, str(int(failures or 0) + 1))] if resumed is not None else [])
