"""The event stream of a real server: live, resumable, and no obstacle when the studio closes."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

import app.events
from app.database import Database
from app.home import Home
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Kind, Lane, State
from app.jobs.store import Claim
from app.main import create_app
from tests.app.conftest import until


class Server:
    """The application on a free port in a thread, without its supervisor."""

    def __init__(self, home: Path) -> None:
        self.application = create_app(home, with_jobs=False)
        config = uvicorn.Config(self.application, port=0, log_level="error", timeout_graceful_shutdown=5, ws="none")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        until(lambda: self.server.started)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def close(self) -> float:
        """End it as a signal would; returns the seconds that it took."""
        began = time.monotonic()
        self.server.should_exit = True
        self.application.state.changes.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()
        return time.monotonic() - began


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path / "home")
    yield one
    if one.thread.is_alive():
        one.close()


@pytest.fixture
def worker(server: Server, tmp_path: Path) -> Iterator[Database]:
    """The database as a job's process has it: connections of its own."""
    with closing(Database(Home(tmp_path / "home"))) as database:
        yield database


def claimed(database: Database) -> Claim:
    with database.write() as session:
        store.enqueue(session, Kind.TRAIN, {})
    claim = store.claim(database, Lane.MEMORY, ProcessName.own())
    assert claim is not None
    return claim


def report_step(database: Database, claim: Claim, step: int) -> None:
    with store.transaction(database, claim, step=step) as session:
        store.append_event(session, claim, "metric", {"loss": 1 / step}, step)


def events(url: str, count: int, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The first `count` events of a stream; each has its id and its data."""
    found: list[dict[str, Any]] = []
    with httpx.stream("GET", url, headers=headers, timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        one: dict[str, Any] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name in ("event", "id", "data"):
                one[name] = value
            elif not line and "data" in one:
                found.append({**json.loads(one["data"]), "sse_id": int(one["id"]), "sse_event": one["event"]})
                one = {}
                if len(found) == count:
                    break
    return found


def test_a_late_reader_gets_the_whole_history(server: Server, worker: Database) -> None:
    claim = claimed(worker)
    for step in range(1, 4):
        report_step(worker, claim, step)
    found = events(f"{server.url}/api/events?job={claim.job_id}", 5)
    assert [one["kind"] for one in found] == ["state", "state", "metric", "metric", "metric"]
    assert all(one["sse_id"] == one["id"] and one["sse_event"] == one["kind"] for one in found)
    assert found[-1]["payload"] == {"loss": 1 / 3}


def test_a_reader_that_comes_back_loses_and_repeats_nothing(server: Server, worker: Database) -> None:
    claim = claimed(worker)
    report_step(worker, claim, 1)
    url = f"{server.url}/api/events?job={claim.job_id}"
    first = events(url, 3)
    report_step(worker, claim, 2)
    report_step(worker, claim, 3)
    rest = events(url + "&after=0", 2, {"Last-Event-ID": str(first[-1]["id"])})
    assert [one["step"] for one in rest] == [2, 3]
    assert events(f"{url}&after={rest[0]['id']}", 1)[0]["step"] == 3
    assert events(url, 1, {"Last-Event-ID": "nonsense"})[0]["id"] == first[0]["id"]


def test_an_event_arrives_within_half_a_second_of_its_commit(server: Server, worker: Database) -> None:
    claim = claimed(worker)
    late: list[float] = []

    def work() -> None:
        for step in range(1, 11):
            time.sleep(0.13)
            report_step(worker, claim, step)

    with httpx.stream("GET", f"{server.url}/api/events?job={claim.job_id}&after=2", timeout=20) as answer:
        thread = threading.Thread(target=work)
        thread.start()
        for line in answer.iter_lines():
            if line.startswith("data: "):
                row = json.loads(line[6:])
                from datetime import UTC, datetime

                late.append((datetime.now(UTC) - datetime.fromisoformat(row["at"])).total_seconds())
                if len(late) == 10:
                    break
        thread.join()
    assert sorted(late)[len(late) // 2] < 0.5, late


def test_streams_of_other_jobs_stay_quiet(server: Server, worker: Database) -> None:
    first, second = claimed(worker), claimed(worker)
    report_step(worker, second, 1)
    report_step(worker, first, 7)
    found = events(f"{server.url}/api/events?job={first.job_id}", 3)
    assert {one["job_id"] for one in found} == {first.job_id}


def test_a_silent_stream_is_kept_open(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.events, "KEEP_ALIVE_SECONDS", 0.1)
    with httpx.stream("GET", f"{server.url}/api/events", timeout=20) as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert [next(lines) for _ in range(4)] == [": open", "retry: 1000", ": quiet", ": quiet"]


def test_the_server_ends_at_once_with_a_stream_open(server: Server, worker: Database) -> None:
    claim = claimed(worker)
    ended = threading.Event()

    def read() -> None:
        with httpx.stream("GET", f"{server.url}/api/events?job={claim.job_id}", timeout=20) as answer:
            for _ in answer.iter_lines():
                pass
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.3)
    assert server.close() < 4
    assert ended.wait(5)
    reader.join()


def test_a_reader_that_leaves_in_the_middle_of_an_event_is_no_error(
    server: Server, worker: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """It is sent more than the socket buffers hold, reads none of it, and disconnects."""
    claim = claimed(worker)
    with store.transaction(worker, claim) as session:
        for number in range(64):
            store.append_event(session, claim, "log", {"text": 2**16 * "x"}, number)
    place = httpx.URL(server.url)
    for _ in range(3):
        with socket.create_connection((place.host, place.port or 0), timeout=20) as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.sendall(f"GET /api/events?job={claim.job_id} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert reader.recv(15) == b"HTTP/1.1 200 OK"
            time.sleep(0.3)
    assert len(events(f"{server.url}/api/events?job={claim.job_id}", 66)) == 66
    assert not [each.message for each in caplog.records if each.name.startswith("uvicorn")]


def test_what_came_after_a_rewind_point_is_dropped_from_the_curves(server: Server, worker: Database) -> None:
    with httpx.Client(base_url=server.url) as http:
        project = http.post("/api/projects", json={"name": "a", "trigger": "b", "class_word": "c"}).json()["id"]
        from tests.app.conftest import picture

        http.put(f"/api/projects/{project}/photos/a.png", content=picture())
        run = http.post(f"/api/projects/{project}/runs", json={"steps": 9}).json()["id"]
        claim = store.claim(worker, Lane.MEMORY, ProcessName.own())
        assert claim is not None
        for step in range(1, 6):
            report_step(worker, claim, step)
        assert store.record_death(worker, claim, -9) is State.QUEUED
        again = store.claim(worker, Lane.MEMORY, ProcessName.own())
        assert again is not None
        with store.transaction(worker, again, step=3) as session:
            store.append_event(session, again, "rewind", {"to_step": 3}, 3)
        report_step(worker, again, 4)
        curves = http.get(f"/api/runs/{run}/metrics?names=loss").json()
        assert [step for step, _ in curves["series"]["loss"]] == [1, 2, 3, 4]
        detail = http.get(f"/api/runs/{run}").json()
        assert detail["last_event_id"] == curves["last_event_id"]


def test_a_thinned_curve_keeps_its_lows_and_highs() -> None:
    from app.actions.progress import thinned

    series = [(step, float(step % 7)) for step in range(5000)]
    series[2500] = (2500, 99.0)
    small = thinned(series, 100)
    assert len(small) <= 100
    assert (2500, 99.0) in small
    assert small[0] == series[0]
    assert small[-1] == series[-1]
    assert small == sorted(small)
