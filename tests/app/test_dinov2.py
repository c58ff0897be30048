"""DINOv2 is downloaded on the Models page, and takes part in reviews from then on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app.actions import check_jobs
from app.cli import cli
from app.database import Database
from app.tables import Review
from core.hub.analysis_models import DINOV2_SMALL
from tests.app.conftest import PROJECT, Studio, picture, problem_of, put, until
from tests.app.test_review import reviewed, scene, upload
from tests.hub import Hub, running_hub
from tests.tiny_dinov2 import CONFIG, make_model_folder

NAME = DINOV2_SMALL.name
DOWNLOAD = f"/api/models/{NAME}/download"
HTML = {"Accept": "text/html"}


def shown(client: TestClient) -> dict[str, Any]:
    (found,) = client.get("/api/analysis-models").json()
    return dict(found)


def test_the_card_offers_the_download_and_no_run_or_picture_can_start_from_it(
    client: TestClient, project: int, tmp_path: Path
) -> None:
    before = shown(client)
    assert (before["name"], before["on_disk"], before["licence"], before["folder"]) == (NAME, False, "Apache 2.0", None)
    page = client.get("/models", headers=HTML).text
    card = page.partition(f'data-model="{NAME}"')[2].partition("</li>")[0]
    for words in (f'data-download="{NAME}"', "22.1 million parameters", "88 MB, and as much room", "not here yet"):
        assert words in card
    job = client.post(DOWNLOAD).json()["job_id"]
    assert client.post(DOWNLOAD).json()["job_id"] == job, "one download of a model at a time"
    assert f'data-stop="{job}"' in client.get("/models", headers=HTML).text
    assert "Download: DINOv2 small" in client.get("/queue", headers=HTML).text

    folder = make_model_folder(tmp_path / "home" / "models" / NAME)
    now = shown(client)
    assert (now["on_disk"], now["folder"], now["trouble"]) == (True, str(folder), "")
    assert "on this computer already" in problem_of(client.post(DOWNLOAD), 409)["message"]
    page = client.get("/models", headers=HTML).text
    assert f'data-download="{NAME}"' not in page
    assert str(folder) in page
    put(client, project, "a.png", picture())
    assert NAME not in {each["name"] for each in client.get("/api/models").json()}
    for path in (f"/projects/{project}/train", "/pictures"):
        assert NAME not in client.get(path, headers=HTML).text
    problem_of(client.post(f"/api/projects/{project}/runs", json={"model": NAME}), 422)
    problem_of(client.post("/api/pictures", json={"model": NAME, "prompt": "a can"}), 422)

    (folder / "model.safetensors").unlink()
    assert shown(client)["trouble"] == f"{folder} is incomplete: model.safetensors is not there."
    assert "model.safetensors is not there" in client.get("/models", headers=HTML).text


def test_the_terminal_lists_it_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path))
    make_model_folder(tmp_path / "models" / NAME)
    result = CliRunner().invoke(cli, ["models", "--json"])
    listed = json.loads(result.stdout.splitlines()[-1])
    assert [(each["name"], each["on_disk"]) for each in listed["analysis_models"]] == [(NAME, True)]
    assert NAME not in {each["name"] for each in listed["models"]}
    assert f"on disk: {tmp_path / 'models' / NAME}" in result.stderr


def test_a_verdict_without_the_model_is_out_of_date_once_it_is_here(
    client: TestClient, project: int, database: Database
) -> None:
    """And so never twice."""
    put(client, project, "a.png", picture())
    job = client.get(f"/api/projects/{project}/review").json()["job_id"]
    client.post(f"/api/jobs/{job}/stop")

    def judge(model: str) -> None:
        with database.write() as session:
            state = check_jobs.judged(check_jobs.set_state(session, project), model)
            session.merge(Review(project_id=project, state=state))

    def waiting(model: str) -> bool:
        check_jobs.request_all(database, model)
        found = client.get(f"/api/projects/{project}/review").json()
        client.post(f"/api/jobs/{found['job_id']}/stop")
        return bool(found["job_id"])

    judge("")
    assert not waiting("")
    assert waiting(NAME)
    judge(NAME)
    assert not waiting(NAME)
    assert not waiting(""), "a verdict with it stays, though the model is gone"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub({DINOV2_SMALL.repo: make_model_folder(tmp_path / "repository")}) as one:
        monkeypatch.setenv("HF_ENDPOINT", one.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield one


def analyses(studio: Studio) -> list[tuple[str, bool]]:
    """(the analyser's name, whether there is a print), in order."""
    with closing(sqlite3.connect(studio.home / "likeness.db")) as connection:
        query = "SELECT analyser, json_extract(found, '$.print') != '' FROM analysis ORDER BY id"
        return [(name, bool(has)) for name, has in connection.execute(query)]


def test_a_download_has_every_photo_looked_at_again_once(start_studio: Callable[..., Studio], hub: Hub) -> None:
    studio = start_studio()
    project = studio.post("/api/projects", PROJECT, 201)["id"]
    ids = [upload(studio, project, f"{number}.png", scene(number)) for number in range(5)]
    reviewed(studio, project)
    assert [has for _, has in analyses(studio)] == [False] * 5
    job = studio.post(DOWNLOAD)["job_id"]
    ended = until(lambda: (now := studio.get(f"/api/jobs/{job}"))["ended_at"] and now)
    assert ended["state"] == "succeeded", ended["error"]
    reviewed(studio, project)
    found = analyses(studio)
    assert [has for _, has in found] == [False] * 5 + [True] * 5
    assert found[5][0].startswith(f"{found[0][0]}+dinov2-1-")

    upload(studio, project, "5.png", scene(5))
    studio.http.patch(f"/api/photos/{ids[0]}", json={"aside": True})
    reviewed(studio, project)
    assert [has for _, has in analyses(studio)] == [False] * 5 + [True] * 6
    assert len(studio.get(f"/api/projects/{project}/pick?count=5")["keep"]) == 5

    place = Path(studio.get("/api/analysis-models")[0]["folder"])
    (place / "config.json").write_text(json.dumps(CONFIG | {"hidden_size": 32}))  # its weights have 24
    upload(studio, project, "6.png", scene(6))
    assert reviewed(studio, project)["counts"]["photos"] == 7
    assert [has for _, has in analyses(studio)] == [False] * 5 + [True] * 6 + [False] * 2
    log = (studio.home / "logs" / f"review-{project}.txt").read_text()
    assert "looked at without DINOv2 small" in log
    assert "does not fit its config.json" in log
