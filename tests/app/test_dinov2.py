"""DINOv2 is downloaded on the Models page, and takes part in reviews from then on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from sqlmodel import col, select
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app.actions import check_jobs
from app.cli import cli
from app.database import Database
from app.home import Home
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Lane
from app.tables import Analysis, Review
from app.worker import subjects
from app.worker.subjects import Found, Member
from app.worker.tasks import TASKS
from app.worker.work import Shutdown, Work
from core.hub.analysis_models import DINOV2_SMALL
from core.vision.dinov2 import network_of
from tests.app.conftest import picture, problem_of, put
from tests.app.test_review import scene
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
    card = page.partition(f'data-model="{NAME}"')[2].partition("</tbody>")[0]
    for words in (f'data-download="{NAME}"', "22.1 million", "88 MB to download", "To look at photos"):
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


class NoShutdown(Shutdown):
    """The job runs in the process of the test, whose signals are its own."""

    def __init__(self) -> None:
        self._requested = threading.Event()


def run_next(database: Database) -> None:
    """The next job of the io lane, to its end."""
    claim = store.claim(database, Lane.IO, ProcessName.own())
    assert claim is not None
    with Work(database, claim, NoShutdown()) as work:
        outcome = TASKS[claim.kind](work)
    store.end(database, claim, outcome.state, error=outcome.error, result=outcome.result)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("LIKENESS_DEVICE", "cpu")  # a review sets it for its process
    with running_hub({DINOV2_SMALL.repo: make_model_folder(tmp_path / "repository")}) as one:
        monkeypatch.setenv("HF_ENDPOINT", one.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(constants, "ENDPOINT", one.url)  # both were read from HF_ENDPOINT at import
        address = f"{one.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        yield one


def analyses(database: Database) -> list[tuple[str, bool]]:
    """(the analyser's name, whether there is a print), in order."""
    with database.read() as session:
        rows = session.exec(select(Analysis).order_by(col(Analysis.id))).all()
    return [(row.analyser, bool(row.found["print"])) for row in rows]


@pytest.mark.slow
def test_a_download_has_every_photo_looked_at_again_once(
    client: TestClient, project: int, database: Database, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    review = f"/api/projects/{project}/review"
    ids = [put(client, project, f"{number}.png", scene(number)).json()["id"] for number in range(3)]
    run_next(database)
    assert client.get(review).json()["state"] == "done"
    plain = [False] * 3
    assert [has for _, has in analyses(database)] == plain

    client.post(DOWNLOAD)
    run_next(database)
    assert client.get(review).json()["state"] == "running"
    run_next(database)
    assert client.get(review).json()["state"] == "done"
    found = analyses(database)
    assert [has for _, has in found] == plain + [True] * 3
    assert found[3][0].startswith(f"{found[0][0]}+dinov2-1-")

    put(client, project, "3.png", scene(3))
    client.patch(f"/api/photos/{ids[0]}", json={"aside": True})
    run_next(database)
    assert [has for _, has in analyses(database)] == plain + [True] * 4
    assert len(client.get(f"/api/projects/{project}/pick?count=3").json()["keep"]) == 3

    place = Path(shown(client)["folder"])
    (place / "config.json").write_text(json.dumps(CONFIG | {"hidden_size": 32}))  # its weights have 24
    put(client, project, "4.png", scene(4))
    network_of.cache_clear()  # as another process would read it
    run_next(database)
    assert client.get(review).json()["counts"]["photos"] == 5
    assert [has for _, has in analyses(database)] == plain + [True] * 4 + [False] * 2
    log = capfd.readouterr()
    assert "looked at without DINOv2 small" in log.out + log.err
    assert "does not fit its config.json" in log.out + log.err


def test_a_model_that_comes_while_photos_are_reviewed_takes_part_in_that_review(
    client: TestClient, project: int, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKENESS_DEVICE", "cpu")
    find = subjects.find

    def find_as_it_comes(home: Home, members: dict[int, Member]) -> Found:
        make_model_folder(tmp_path / "home" / "models" / NAME)
        return find(home, members)

    monkeypatch.setattr(subjects, "find", find_as_it_comes)
    put(client, project, "a.png", scene(0))
    run_next(database)
    assert [has for _, has in analyses(database)] == [False, True]
    check_jobs.request_all(database, NAME)
    assert client.get(f"/api/projects/{project}/review").json()["state"] == "done"
