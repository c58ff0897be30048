"""A home of one's own for each test, an application over it, and the real studio as a process."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.database import Database
from app.home import Home
from app.main import create_app
from tests.tiny import make_model_folder

ROOT = Path(__file__).resolve().parents[2]
PROJECT = {"name": "My can", "trigger": "sks", "class_word": "can"}
PATIENCE_SECONDS = 60.0  # a busy machine is no failure


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a database without rows; making its tables takes as long as a dozen requests."""
    home = Home(tmp_path_factory.mktemp("empty") / "home")
    Database(home).close()
    return home.database


@pytest.fixture
def empty_home(tmp_path: Path, empty_database: Path) -> Home:
    """A home without rows, as a first start would leave it."""
    one = Home(tmp_path / "home")
    one.root.mkdir(mode=0o700, exist_ok=True)  # a test may have put something there already
    shutil.copy(empty_database, one.database)
    return one


@pytest.fixture
def database(empty_home: Home) -> Iterator[Database]:
    one = Database(empty_home)
    yield one
    one.close()


@pytest.fixture
def client(empty_home: Home) -> Iterator[TestClient]:
    """The application without its supervisor: jobs stay in the queue."""
    application = create_app(empty_home.root, with_jobs=False)
    with TestClient(application, base_url="http://127.0.0.1", raise_server_exceptions=False) as one:
        yield one


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds one tiny random model, called "tiny"."""
    folder = tmp_path_factory.mktemp("models")
    make_model_folder(folder / "tiny", heads=4)  # wide enough to be quantized
    return folder


def problem_of(answer: Any, status: int) -> dict[str, Any]:
    """The error of an answer, in the one shape that every error has."""
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    error = answer.json()["error"]
    assert sorted(error) == ["code", "message", "problems"]
    assert error["code"]
    assert error["message"].endswith((".", "?"))
    assert all(sorted(one) == ["field", "message"] for one in error["problems"])
    return dict(error)


def fields(error: dict[str, Any]) -> list[str]:
    return [one["field"] for one in error["problems"]]


@pytest.fixture
def project(client: TestClient) -> int:
    return int(client.post("/api/projects", json=PROJECT).json()["id"])


def put(client: TestClient, project: int, name: str, content: bytes) -> Any:
    return client.put(f"/api/projects/{project}/photos/{quote(name, safe='')}", content=content)


# ---- errors ----------------------------------------------------------------------------------------------------------


def picture(
    colour: str | tuple[int, ...] = "red", size: tuple[int, int] = (80, 64), form: str = "PNG", **how: Any
) -> bytes:
    """A small picture file."""
    content = io.BytesIO()
    mode = how.pop("mode", "RGB")
    Image.new(mode, size, colour).save(content, form, **how)
    return content.getvalue()


def until(true: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait for a condition; what made it true is returned."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("this did not become true in time")


@dataclass
class Studio:
    """The real thing: a server process, and what a program would ask of it."""

    process: subprocess.Popen[bytes]
    home: Path
    url: str
    http: httpx.Client

    def get(self, path: str) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, status: int = 202) -> Any:
        answer = self.http.post(path, json=body if body is not None else {})
        assert answer.status_code == status, answer.text
        return answer.json()

    def project_with_photos(self, count: int = 2) -> int:
        project = self.post("/api/projects", PROJECT, 201)["id"]
        for number in range(count):
            body = picture((40 * number, 90, 200))
            assert self.http.put(f"/api/projects/{project}/photos/{number}.png", content=body).status_code == 201
        return int(project)

    def run(self, project: int, **knobs: Any) -> Any:
        tiny = {"model": "tiny", "sample_every": 0, "side_px": 64}
        return self.post(f"/api/projects/{project}/runs", tiny | knobs, 201)

    def until_state(self, run: int, *states: str) -> Any:
        def look() -> Any:
            detail = self.get(f"/api/runs/{run}")
            ended = {"failed", "succeeded", "stopped", "cancelled"} - set(states)
            assert detail["state"] not in ended, f"{detail['state']}: {detail['error']}\n{self.log(run)}"
            return detail if detail["state"] in states else None

        return until(look)

    def until_step(self, run: int, step: int) -> Any:
        return until(lambda: (detail := self.get(f"/api/runs/{run}"))["step"] >= step and detail)

    def stop(self, run: int) -> int:
        """Stop a run after its step; returns the step that it saved."""
        self.post(f"/api/runs/{run}/stop")
        return int(self.until_state(run, "stopped")["step"])

    def log(self, run: int) -> str:
        return str(self.http.get(f"/api/runs/{run}/log").text)

    def job_pid(self, job: int) -> int:
        """The process that has claimed the job."""
        one = Database(Home(self.home))
        try:
            from app.jobs import store

            with one.read() as session:
                return int(store.get(session, job).pid or 0)
        finally:
            one.close()

    def end(self, sig: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(sig)
        return self.process.wait(PATIENCE_SECONDS)


def begin_studio(folder: Path, models: Path, before: list[str] | None = None) -> Studio:
    """Start the studio over the home in this folder, and wait until it answers."""
    home = folder / "home"
    environment = {**os.environ, "LIKENESS_MODELS": str(models), "PYTHONPATH": str(ROOT)}
    options = ["--home", str(home), "--port", "0", "--no-browser"]
    command = [*(before or []), sys.executable, "-P", "-m", "app.cli", *options]
    process = subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.PIPE)
    lock = home / "locks" / "studio.lock"

    def answers() -> str | None:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        try:
            told = json.loads(lock.read_text())
            return told["url"] if told["pid"] == process.pid and httpx.get(told["url"] + "/api/jobs") else None
        except (OSError, ValueError, httpx.HTTPError):
            return None

    url = until(answers)
    return Studio(process, home, url, httpx.Client(base_url=url, timeout=30))


def end_studio(studio: Studio) -> None:
    """End what still runs."""
    studio.http.close()
    if studio.process.poll() is None:
        studio.end()
    if studio.process.stderr:
        studio.process.stderr.close()


@pytest.fixture
def start_studio(tmp_path: Path, models_folder: Path) -> Iterator[Callable[..., Studio]]:
    """A function that starts the studio over this test's home; whatever runs at the end of the test is ended."""
    started: list[Studio] = []

    def start(before: list[str] | None = None) -> Studio:
        started.append(begin_studio(tmp_path, models_folder, before))
        return started[-1]

    yield start
    for studio in started:
        end_studio(studio)


@pytest.fixture(scope="module")
def shared_studio(tmp_path_factory: pytest.TempPathFactory, models_folder: Path) -> Iterator[Studio]:
    """One studio for the tests of a file that neither end it nor change its settings."""
    studio = begin_studio(tmp_path_factory.mktemp("shared"), models_folder)
    yield studio
    end_studio(studio)


@pytest.fixture(scope="module")
def shared_project(shared_studio: Studio) -> int:
    """A project with two photos in it, whose review begins and ends with the first test."""
    return shared_studio.project_with_photos()
