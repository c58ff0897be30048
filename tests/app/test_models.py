"""What the studio offers to train on and to draw with: whole models of a known family, wherever the user keeps them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app.cli import cli
from core.known_models import KNOWN
from tests.app.conftest import picture
from tests.hub import make_repository


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture
def shelf(repository: Path, tmp_path: Path, client: TestClient) -> Path:
    """A folder of models that the settings name: one whole, one not."""
    for name in ("mine", "broken"):
        shutil.copytree(repository, tmp_path / "shelf" / name)
    (tmp_path / "shelf" / "broken" / "vae" / "config.json").unlink()
    assert client.patch("/api/settings", json={"model_folders": f"{tmp_path}/shelf\n"}).status_code == 200
    return tmp_path / "shelf"


def project(client: TestClient) -> int:
    made = client.post("/api/projects", json={"name": "Can", "trigger": "sks", "class_word": "can"}).json()["id"]
    assert client.put(f"/api/projects/{made}/photos/a.png", content=picture()).status_code == 201
    return int(made)


def names(client: TestClient) -> dict[str, bool]:
    return {each["name"]: each["usable"] for each in client.get("/api/models").json()}


def test_the_setting_names_folders_and_refuses_what_is_none(client: TestClient, tmp_path: Path) -> None:
    wrong = client.patch("/api/settings", json={"model_folders": f"{tmp_path}\n/nowhere/at/all"})
    assert wrong.status_code == 422
    assert wrong.json()["error"]["problems"] == [
        {"field": "model_folders", "message": "has '/nowhere/at/all', which is not a folder on this computer; "
         "give its whole path"}
    ]  # fmt: skip
    assert client.patch("/api/settings", json={"model_folders": "models"}).status_code == 422
    right = client.patch("/api/settings", json={"model_folders": f" {tmp_path} \n\n"})
    assert right.json()["model_folders"] == str(tmp_path)


def test_whole_models_are_offered_and_broken_ones_are_not(client: TestClient, shelf: Path) -> None:
    assert (names(client)["mine"], names(client)["broken"]) == (True, False)
    one = project(client)
    page = client.get(f"/projects/{one}/train", headers={"Accept": "text/html"}).text
    assert 'value="mine"' in page
    assert 'value="broken"' not in page
    assert 'value="flux1-dev"' not in page
    run = client.post(f"/api/projects/{one}/runs", json={"model": "mine"})
    assert run.status_code == 201, run.text
    for model in ("broken", "flux1-dev"):
        refused = client.post(f"/api/projects/{one}/runs", json={"model": model})
        assert refused.json()["error"]["problems"][0]["field"] == "model"
        drawn = client.post("/api/pictures", json={"model": model, "prompt": "a can"})
        assert drawn.status_code == 422
    shown = client.get("/models", headers={"Accept": "text/html"}).text
    assert "vae/config.json is not there" in shown


def test_a_distilled_model_is_drawn_with_and_not_trained_on(
    client: TestClient, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KNOWN, "flux1-krea-dev", replace(KNOWN["flux1-krea-dev"], trains=False))
    (shelf / "mine").rename(shelf / "flux1-krea-dev")
    one = project(client)
    assert 'value="flux1-krea-dev"' not in client.get(f"/projects/{one}/train", headers={"Accept": "text/html"}).text
    assert client.post(f"/api/projects/{one}/runs", json={"model": "flux1-krea-dev"}).status_code == 422
    wish = {"model": "flux1-krea-dev", "prompt": "a can"}
    assert client.post("/api/pictures", json=wish).status_code == 202


def test_the_home_has_a_place_for_models_too(client: TestClient, repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository, tmp_path / "home" / "models" / "at-home")
    assert names(client)["at-home"]


def test_the_terminal_says_the_same(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(cli, ["models", "--json"])
    assert result.exit_code == 0, result.stderr
    found = {each["name"]: each for each in json.loads(result.stdout.splitlines()[-1])["models"]}
    assert list(KNOWN) == [name for name in found if name in KNOWN]
    assert found["mine"]["folder"] == str(shelf / "mine")
    assert (found["mine"]["usable"], found["broken"]["usable"], found["flux1-dev"]["usable"]) == (True, False, False)
    assert found["flux1-dev"]["download_bytes"] == KNOWN["flux1-dev"].download_bytes
    for words in ("vae/config.json is not there", "a download of 34 GB", "first accept FLUX.1 [dev]", "non-commercial"):
        assert words in result.stderr


def test_the_terminal_makes_no_home_to_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "none"))
    assert CliRunner().invoke(cli, ["models"]).exit_code == 0
    assert not (tmp_path / "none").exists()
