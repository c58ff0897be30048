"""ComfyUI's folder in the studio: named in the settings, listed, and made into models by jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests import comfy, foreign, tiny, tiny_klein
from tests.app.conftest import fields, problem_of


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.make_model_folder(tmp_path_factory.mktemp("hub") / "model")
    (folder / "likeness.json").unlink()
    return folder


@pytest.fixture(scope="module")
def comfy_folder(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return comfy.make_folder(tmp_path_factory.mktemp("comfy") / "ComfyUI", repository, "flux1")


def name_folder(client: TestClient, folder: Path) -> None:
    answer = client.patch("/api/settings", json={"model_comfyui_folder": str(folder)})
    assert answer.status_code == 200, answer.text


def test_a_folder_that_is_not_comfyuis_is_refused_when_it_is_named(client: TestClient, tmp_path: Path) -> None:
    for given, words in (("ComfyUI", "is not an absolute path"), (str(tmp_path), "has none of ComfyUI's folders")):
        problem = problem_of(client.patch("/api/settings", json={"model_comfyui_folder": given}), 422)
        assert fields(problem) == ["model_comfyui_folder"]
        assert problem["problems"][0]["message"].startswith(f"is {given!r}, which {words}")
    assert client.get("/api/model-files").json()["folder"] is None


def test_the_home_folder_may_be_written_as_a_tilde(
    client: TestClient, comfy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(comfy_folder.parent))
    name_folder(client, Path("~/ComfyUI"))
    assert client.get("/api/model-files").json()["folder"] == str(comfy_folder)


@pytest.mark.parametrize("name", ["flux1-dev-Q4_K_S.gguf", "flux_1_dev_q8p.ckpt", "mflux-4bit.safetensors"])
def test_a_folder_of_models_in_a_form_that_is_not_read_is_refused_when_it_is_named(
    client: TestClient, tmp_path: Path, name: str
) -> None:
    foreign.write(tmp_path / "models", name)
    problem = problem_of(client.patch("/api/settings", json={"model_folders": str(tmp_path / "models")}), 422)
    assert f"{name} {foreign.SENTENCES[name]}" in problem["problems"][0]["message"]


def test_a_quantized_model_is_refused_when_its_folder_is_named(client: TestClient, tmp_path: Path) -> None:
    folder = tiny.make_model_folder(tmp_path / "models" / "mine")
    foreign.quantize_config(folder / "transformer")
    problem = problem_of(client.patch("/api/settings", json={"model_folders": str(tmp_path / "models")}), 422)
    assert "quantized with bitsandbytes (quantization_config)" in problem["problems"][0]["message"]
    tiny.make_model_folder(tmp_path / "models" / "fine")
    assert client.patch("/api/settings", json={"model_folders": str(tmp_path / "models")}).status_code == 200
    shown = {each["name"]: each["trouble"] for each in client.get("/api/models").json()}
    assert "quantized with bitsandbytes" in shown["mine"]
    assert not shown["fine"]


def test_what_is_lacking_and_what_cannot_be_told_is_said(client: TestClient, tmp_path: Path) -> None:
    model = tiny_klein.make_model_folder(tmp_path / "model")
    folder = comfy.make_folder(tmp_path / "ComfyUI", model, "flux2")
    name_folder(client, folder)
    (offer,) = client.get("/api/model-files").json()["offers"]
    klein = [f"flux2-klein-{each}" for each in ("base-4b", "4b", "base-9b", "9b")]
    assert [each["name"] for each in offer["candidates"]] == klein
    assert not offer["exact"]
    problem = problem_of(client.post("/api/model-files", json={"file": offer["file"], "model": "flux1-dev"}), 422)
    assert fields(problem) == ["model"]
    elsewhere = {"file": str(tmp_path / "a.safetensors"), "model": klein[0]}
    assert client.post("/api/model-files", json=elsewhere).status_code == 404

    (folder / "models" / "vae" / "vae-of-it.safetensors").unlink()
    lacks = "a VAE with 4 channels (as flux2-vae.safetensors) in vae"
    page = client.get("/models", headers={"Accept": "text/html"}).text
    assert f"It also needs {lacks}." in page
    assert "data-as=" not in page
    refused = client.post("/api/model-files", json={"file": offer["file"], "model": klein[0]})
    assert lacks in refused.json()["error"]["message"]
