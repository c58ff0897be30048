"""The built-in captioner in the studio: where it is offered, installing and removing it, and captions by it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.actions import captioner
from app.database import Database
from app.home import Home
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Kind, Lane, State
from core.captioners.environment import VERSION
from core.captioners.platforms import Machine
from core.hub.caption_model import MODEL
from tests.app.conftest import ROOT, picture, problem_of, put
from tests.hub import running_hub
from tests.mlx_vlm import MAC, make_repository, make_wheel, package_index, put_into_cache

HTML = {"Accept": "text/html"}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Mac where it can run, and a cache of the hub of this test's own."""
    monkeypatch.setattr("core.captioners.platforms.this_machine", lambda home: MAC)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def pretend_installed(home: Path) -> None:
    """Its environment, as far as the studio looks at it."""
    python = home / "captioner" / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (home / "captioner" / "installed.json").write_text(f'{{"version": "{VERSION}", "bytes": 1100000000}}')


def card(client: TestClient) -> str:
    page = client.get("/models", headers=HTML).text
    return page.partition('data-model="captioner"')[2].partition("</section>")[0]


def room(client: TestClient, project: int) -> str:
    return client.get(f"/projects/{project}", headers=HTML).text


def test_where_it_cannot_run_the_page_says_why_and_offers_nothing(
    client: TestClient, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Machine("Darwin", "arm64", "13.6", "metal", 2**34)
    monkeypatch.setattr("core.captioners.platforms.this_machine", lambda home: old)
    why = "The built-in captioner needs macOS 14 or newer; this Mac has 13.6."
    assert why in card(client)
    assert "data-install" not in card(client)
    assert problem_of(client.post("/api/captioner/install"), 409)["message"].startswith(why)
    assert put(client, project, "a.png", picture()).status_code == 201
    refused = client.post(f"/api/projects/{project}/captions", json={"backend": "built-in"})
    assert problem_of(refused, 409)["message"].startswith(why)
    assert 'href="/models#captioner"' not in room(client, project)


def test_it_is_offered_installed_by_one_job_and_shown_in_the_queue(client: TestClient, project: int) -> None:
    assert "about 1.1 GB" in card(client)
    assert "a download of about 3.1 GB" in card(client)
    assert "data-install" in card(client)
    assert 'href="/models#captioner"' in room(client, project)
    assert put(client, project, "a.png", picture()).status_code == 201
    refused = client.post(f"/api/projects/{project}/captions", json={"backend": "built-in"})
    assert "Install it on the Models page." in problem_of(refused, 409)["message"]

    job = client.post("/api/captioner/install").json()["job_id"]
    assert client.post("/api/captioner/install").json()["job_id"] == job
    assert f'data-stop="{job}"' in card(client)
    assert "data-install" not in card(client)
    assert "Download: Built-in captioner" in client.get("/queue", headers=HTML).text
    assert client.get(f"/api/jobs/{job}").json()["lane"] == "io"
    client.post(f"/api/jobs/{job}/stop")
    assert "data-install" in card(client)


def test_once_it_is_here_the_room_offers_it_until_it_is_removed(
    client: TestClient, project: int, tmp_path: Path
) -> None:
    assert put(client, project, "a.png", picture()).status_code == 201
    pretend_installed(tmp_path / "home")
    assert 'value="built-in"' not in room(client, project)
    assert "Download its model" in card(client)
    put_into_cache(tmp_path / "hub")
    shown = client.get("/api/captioner").json()
    assert (shown["ready"], shown["installed"], shown["model_here"]) == (True, True, True)
    assert "1.1 GB in an environment of its own" in card(client)
    assert 'value="built-in"' in room(client, project)
    assert problem_of(client.post("/api/captioner/install"), 409)["message"].endswith("already.")

    job = client.post(f"/api/projects/{project}/captions", json={"backend": "built-in"}).json()["job_id"]
    assert client.get(f"/api/jobs/{job}").json()["lane"] == "memory", "never beside a training"
    freed = client.delete("/api/captioner")
    assert (freed.status_code, freed.json()["bytes"] > 0) == (200, True)
    assert not (tmp_path / "home" / "captioner").exists()
    assert list((tmp_path / "home" / "trash").iterdir()) == []
    assert 'value="built-in"' not in room(client, project)
    assert client.delete("/api/captioner").json() == {"bytes": 0}


def test_it_is_not_removed_while_a_job_uses_it(client: TestClient, database: Database, tmp_path: Path) -> None:
    pretend_installed(tmp_path / "home")
    with database.write() as session:
        store.enqueue(session, Kind.CAPTION, {"backend": "built-in"})
    claim = store.claim(database, Lane.MEMORY, ProcessName.own())
    assert claim is not None
    assert "Stop it first" in problem_of(client.delete("/api/captioner"), 409)["message"]
    store.end(database, claim, State.SUCCEEDED)
    assert client.delete("/api/captioner").json()["bytes"] > 0


def test_what_a_killed_installation_left_is_removed_at_the_next_start_and_not_beside_a_running_one(
    database: Database, tmp_path: Path
) -> None:
    pretend_installed(tmp_path / "home")
    captioner.remove_half_made(database)
    assert database.home.captioner.exists(), "a complete one stays"
    (database.home.captioner / "installed.json").unlink()
    with database.write() as session:
        store.enqueue(session, Kind.DOWNLOAD, {"model": MODEL.name})
    claim = store.claim(database, Lane.IO, ProcessName.own())
    assert claim is not None
    captioner.remove_half_made(database)
    assert database.home.captioner.exists()
    store.end(database, claim, State.STOPPED)
    captioner.remove_half_made(database)
    assert not database.home.captioner.exists()


def work(home: Path, lane: Lane) -> None:
    """The process of the next job of a lane, as the supervisor starts it."""
    command = [sys.executable, "-P", "-m", "app.worker", "--home", str(home), "--lane", lane]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=home, check=True, timeout=120)


@pytest.mark.slow
def test_jobs_install_it_and_write_captions_with_it(
    client: TestClient, project: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    make_wheel(tmp_path / "index")
    with running_hub({MODEL.repo: make_repository(tmp_path / "repository")}) as hub, package_index(tmp_path / "index"):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        job = client.post("/api/captioner/install").json()["job_id"]
        work(home.root, Lane.IO)
    ended = client.get(f"/api/jobs/{job}").json()
    assert ended["state"] == "succeeded", ended["error"]
    assert phases(home, job)[:3] == [f"mlx-vlm {VERSION}: {each}" for each in (
        "making its environment", "finding mlx-vlm", "unpacking 1 package")]  # fmt: skip
    assert client.get("/api/captioner").json()["ready"]

    for colour in ("red", "blue"):
        assert put(client, project, f"{colour}.png", picture(colour)).status_code == 201
    body: dict[str, Any] = {"backend": "built-in", "preview": True, "overwrite": True}
    job = client.post(f"/api/projects/{project}/captions", json=body).json()["job_id"]
    work(home.root, Lane.MEMORY)
    ended = client.get(f"/api/jobs/{job}").json()
    assert ended["state"] == "succeeded", ended["error"]
    texts = [each["text"] for each in ended["result"]["captions"]]
    assert texts == ["A photo of sks can, 80 by 64, seen offline."] * 2
    assert phases(home, job)[0] == "loading the captioner"
    assert [each["caption"] for each in client.get(f"/api/projects/{project}/photos").json()] == [None, None]


def phases(home: Home, job: int) -> list[str]:
    with closing(sqlite3.connect(home.database)) as connection:
        query = "SELECT json_extract(payload, '$.name') FROM event WHERE job_id = ? AND kind = 'phase' ORDER BY id"
        return [name for (name,) in connection.execute(query, (job,))]
