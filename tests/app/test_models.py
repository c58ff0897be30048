"""What the studio offers to train on and to draw with: whole models of a known family, wherever the user keeps them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app.cli import cli
from app.database import Database
from app.tables import Adapter
from core.device.hardware import Computer
from core.device.units import memory_size
from core.hub.analysis_models import ANALYSIS_MODELS
from core.hub.registry import KNOWN
from tests import tiny_klein, tiny_z_image
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
         "give its absolute path"}
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


def test_klein_is_trained_on_its_base_and_drawn_with_distilled(
    client: TestClient, shelf: Path, database: Database
) -> None:
    base, distilled = "flux2-klein-base-4b", "flux2-klein-4b"
    tiny_klein.make_model_folder(shelf / base)
    one = project(client)
    run = client.post(f"/api/projects/{one}/runs", json={"model": base}).json()
    with database.write() as session:
        row = Adapter(name="can", model=base, run_id=run["id"], file="adapters/a.safetensors", sha256="a", rank=4)
        session.add(row)
        session.flush()
        adapter = row.id
    pictures = client.get("/pictures", headers={"Accept": "text/html"}).text
    assert f'data-model="{base}"' in pictures
    page = client.get(f"/runs/{run['id']}", headers={"Accept": "text/html"}).text
    assert page.count("ComfyUI before 0.11") == 1  # where it is downloaded; the dialog says it of each program

    tiny_klein.make_model_folder(shelf / distilled, distilled=True)
    pictures = client.get("/pictures", headers={"Accept": "text/html"}).text
    assert f'data-model="{distilled}"' in pictures
    request = {"model": distilled, "prompt": "a can", "adapters": [{"id": adapter}]}
    assert client.post("/api/pictures", json=request).status_code == 202
    refused = client.post("/api/pictures", json=request | {"model": "pocket"}).json()["error"]["problems"]
    assert refused == [{"field": "adapters.0", "message": f"was made for {base}, not for pocket"}]

    train = client.get(f"/projects/{one}/train", headers={"Accept": "text/html"}).text
    assert f'<option value="{base}"' in train
    assert f'<option value="{distilled}"' not in train
    assert client.post(f"/api/projects/{one}/runs", json={"model": distilled}).status_code == 422


def test_an_adapter_is_taken_in_for_a_model_that_is_still_to_be_downloaded(client: TestClient, tmp_path: Path) -> None:
    layer = "transformer.transformer_blocks.0.attn.to_q"
    sizes = {f"{layer}.lora_A.weight": (4, 64), f"{layer}.lora_B.weight": (64, 4)}
    mx.save_safetensors(str(tmp_path / "a.safetensors"), {name: mx.ones(size) for name, size in sizes.items()})
    content = (tmp_path / "a.safetensors").read_bytes()
    taken = client.put("/api/adapters/a.safetensors?model=flux1-dev", content=content)
    assert (taken.status_code, taken.json().get("rank")) == (201, 4), taken.text
    request = {"model": "flux1-dev", "prompt": "a can", "adapters": [{"id": taken.json()["id"]}]}
    assert client.post("/api/pictures", json=request).json()["error"]["problems"][0]["field"] == "model"


def test_the_home_has_a_place_for_models_too(client: TestClient, repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository, tmp_path / "home" / "models" / "at-home")
    assert names(client)["at-home"]


def test_every_card_shows_predicted_memory_and_disk_though_nothing_is_downloaded(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    small = Computer("metal", memory=24 * 2**30, disk=100 * 2**30)
    monkeypatch.setattr("core.estimate.requirements.this_computer", lambda folder: small)
    told = {each["name"]: each for each in client.get("/api/models").json()}
    page = client.get("/models", headers={"Accept": "text/html"}).text
    cards = {card.partition('"')[0]: card for card in page.split('data-model="')[1:]}
    for name in ("pocket", *KNOWN):
        needs, card = told[name]["needs"], cards[name]
        assert len(needs["table"]) == 12
        assert card.count('data-need="recommended"') == sum(each["recommended"] for each in needs["table"]) == 1
        assert card.count('data-need="too-much"') == sum(not each["fits"] for each in needs["table"])
        shown = re.findall(r"<td data-need=\"[a-z-]+\">([0-9.]+ GB)<span>", card)
        assert shown == [memory_size(each["memory"]) for each in needs["table"]]
        assert needs["sentence"] in card
        assert "There are 24 GB of this Mac&#39;s memory, and 107 GB free on the disk." in card
    dev = {(each["base_precision"], each["side_px"]): each for each in told["flux1-dev"]["needs"]["table"]}
    assert not dev["full", 512]["fits"]
    assert dev["4-bit", 512]["fits"]
    assert told["flux2-klein-4b"]["needs"]["purpose"] == "drawing"
    assert "On the disk" not in cards["flux2-klein-4b"]


@pytest.mark.parametrize(
    ("computer", "name", "words"),
    [
        (Computer("metal", 24 * 2**30, 100 * 10**9), "flux2-klein-base-4b", "of the 24 GB of this Mac&#39;s memory"),
        (Computer("cuda", 80 * 2**30, 100 * 10**9), "flux2-klein-base-4b", "its licence allows commercial use"),
        (Computer("metal", 2 * 2**30, 100 * 10**9), "pocket", "and 2.0 GB are there"),
        (Computer("metal", 24 * 2**30, 5 * 10**9), "pocket", "5.0 GB are free"),
        (Computer("cpu", 64 * 2**30, 100 * 10**9), "pocket", "finds no GPU here"),
    ],
)
def test_one_model_is_recommended_for_this_computer_with_the_reason(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, computer: Computer, name: str, words: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("core.estimate.requirements.this_computer", lambda folder: computer)
    page = client.get("/models", headers={"Accept": "text/html"}).text
    card = page.partition('aria-labelledby="recommended-title"')[2].partition("</section>")[0]
    assert f'data-model="{name}"' in card
    assert words in card
    assert page.count('data-model="') == 1 + len(KNOWN) + len(ANALYSIS_MODELS) + 1  # Pocket, and the captioner


def test_a_free_model_that_is_here_is_recommended_before_one_to_download(
    client: TestClient, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_z_image.make_model_folder(shelf / "z-image")
    shutil.copytree(shelf / "mine", shelf / "flux1-dev")
    computer = Computer("metal", 24 * 2**30, 100 * 10**9)
    monkeypatch.setattr("core.estimate.requirements.this_computer", lambda folder: computer)
    page = client.get("/models", headers={"Accept": "text/html"}).text
    assert page.index('data-model="z-image"') < page.index('data-model="flux1-dev"')
    assert "it is here already, and its licence allows commercial use" in page


def test_the_form_says_what_a_distilled_model_loses_without_its_assistant(client: TestClient, shelf: Path) -> None:
    tiny_z_image.make_model_folder(shelf / "turbo", turbo=True)
    one = project(client)

    def advice() -> str:
        return str(client.get(f"/api/projects/{one}/suggestion?model=turbo").json()["advice"])

    assert advice() == ""
    (shelf / "turbo" / "likeness.json").unlink()
    assert "no training assistant of it is here" in advice()


def test_the_terminal_says_the_same(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(cli, ["models", "--json"])
    assert result.exit_code == 0, result.stderr
    found = {each["name"]: each for each in json.loads(result.stdout.splitlines()[-1])["models"]}
    assert list(KNOWN) == [name for name in found if name in KNOWN]
    assert found["mine"]["folder"] == str(shelf / "mine")
    assert (found["mine"]["usable"], found["broken"]["usable"], found["flux1-dev"]["usable"]) == (True, False, False)
    assert found["flux1-dev"]["download_bytes"] == KNOWN["flux1-dev"].download_bytes
    assert len(found["flux1-dev"]["needs"]["table"]) == 12
    for words in (
        "vae/config.json is not there",
        "training on this computer: ",
        "a download of 34 GB",
        "first accept FLUX.1 [dev]",
        "non-commercial",
    ):
        assert words in " ".join(result.stderr.split())  # lines are wrapped at spaces


def test_the_terminal_makes_no_home_to_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "none"))
    assert CliRunner().invoke(cli, ["models"]).exit_code == 0
    assert not (tmp_path / "none").exists()
