"""Sending an adapter to another program: what is said before, what is written, and what is never overwritten."""

from __future__ import annotations

import json
import os
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.database import Database
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Lane, State
from app.tables import Sample
from app.worker.outcome import Outcome
from app.worker.tasks import TASKS
from app.worker.work import Shutdown, Work
from core.adapters import file as adapter_file
from core.adapters.lora import Factors
from core.errors import Problem
from core.safetensors_file import read_header
from tests import comfy, tiny_klein
from tests.app.conftest import fields, problem_of
from tests.app.test_exports import PAIR, run_with_checkpoint

STEM = "My-can-Run-5"
PROMPT = "sks can on the beach"
ATTENTION = "transformer_blocks.0.attn.{}"
KLEIN: Factors = {ATTENTION.format(name): PAIR for name in ("to_q", "to_k", "to_v", "to_out.0")} | {
    "single_transformer_blocks.0.attn.to_qkv_mlp_proj": (mx.ones((2, 32)), mx.ones((288, 2)))
}


@pytest.fixture
def database(client: TestClient) -> Database:
    one: Database = client.app.state.database  # type: ignore[attr-defined]
    return one


@pytest.fixture
def klein(database: Database) -> int:
    """A run of FLUX.2 klein base, whose model is not here, with a checkpoint and a sample at step 5."""
    run = run_with_checkpoint(database, KLEIN, "flux2-klein-base-4b")
    with_sample(database, run)
    return run


def with_sample(database: Database, run: int) -> None:
    path = database.home.run(run) / "samples" / "5.png"
    path.parent.mkdir(parents=True)
    Image.effect_noise((400, 300), 60).save(path)
    with database.write() as session:
        for step in (0, 5):
            session.add(
                Sample(
                    job_id=1, run_id=run, step=step, prompt=PROMPT if step else "base", seed=1, width=400, height=300,
                    file=database.home.relative(path),
                )
            )  # fmt: skip


class NoShutdown(Shutdown):
    """The job runs in the process of the test, whose signals are its own."""

    def __init__(self) -> None:
        self._requested = threading.Event()


def send(client: TestClient, run: int, monkeypatch: pytest.MonkeyPatch, **body: Any) -> dict[str, Any]:
    """Send, work the job off, and return it."""
    monkeypatch.setenv("LIKENESS_DEVICE", "cpu")
    answer = client.post(f"/api/runs/{run}/send", json=body)
    assert answer.status_code == 202, answer.text
    database: Database = client.app.state.database  # type: ignore[attr-defined]
    claim = store.claim(database, Lane.IO, ProcessName.own())
    assert claim is not None
    with Work(database, claim, NoShutdown()) as work:
        try:
            outcome = TASKS[claim.kind](work)
        except Problem as problem:
            outcome = Outcome(State.FAILED, error={"code": problem.code, "message": problem.message})
    store.end(database, claim, outcome.state, error=outcome.error, result=outcome.result)
    return dict(client.get(f"/api/jobs/{claim.job_id}").json())


def comfyui_folder(path: Path) -> Path:
    for name in ("models/loras", "models/vae", "user/default"):
        (path / name).mkdir(parents=True)
    return path


def same_effect(path: Path, factors: Factors, family: str) -> bool:
    found = adapter_file.read(path, family).factors
    return found.keys() == factors.keys() and all(
        mx.array_equal(found[layer][1] @ found[layer][0], b @ a).item() for layer, (a, b) in factors.items()
    )


def test_comfyui_gets_kohyas_form_with_preview_and_workflow_and_nothing_is_overwritten(
    client: TestClient, klein: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = comfyui_folder(tmp_path / "ComfyUI")
    given = {"program": "comfyui", "folder": str(folder), "strength": 0.8}
    plan = client.get(f"/api/runs/{klein}/send", params=given).json()["plan"]
    assert not list(folder.rglob("*.*"))  # so far it is only said
    loras, workflow = folder / "models" / "loras", folder / "user" / "default" / "workflows" / f"{STEM}.json"
    expected = [loras / f"{STEM}.safetensors", loras / f"{STEM}.preview.png", workflow, loras / f"{STEM}.txt"]
    assert [each["path"] for each in plan["files"]] == [str(path) for path in expected]
    assert f"open {STEM} in its list of workflows" in plan["lines"][0]
    assert "21 January 2026" in plan["why"]

    job = send(client, klein, monkeypatch, **given)
    assert job["state"] == "succeeded", job["error"]
    assert job["result"]["written"] == [str(path) for path in expected]
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(expected)
    adapter, preview, _, about = expected
    header = read_header(adapter)
    assert all(name.startswith("lora_unet_") for name in header.tensors)
    assert same_effect(adapter, KLEIN, "flux2")
    assert header.metadata["modelspec.usage_hint"] == "Write “sks can” in the prompt; strength 0.8."
    assert header.metadata["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")
    graph = json.loads(workflow.read_text())
    values = {node["type"]: node["widgets_values"] for node in graph["nodes"]}
    assert values["LoraLoaderModelOnly"] == [f"{STEM}.safetensors", 0.8]
    assert values["UNETLoader"][0] == "flux-2-klein-4b.safetensors"  # the one that its adapters draw best with
    assert PROMPT in [node["widgets_values"][0] for node in graph["nodes"] if node["type"] == "CLIPTextEncode"]
    with Image.open(preview) as picture:
        assert picture.size == (400, 300)
        assert json.loads(picture.info["workflow"]) == graph
    words = about.read_text()
    assert all(each in words for each in ("sks can", "Strength:   0.8", *plan["lines"], "Apache 2.0"))

    before = adapter.read_bytes()
    again = send(client, klein, monkeypatch, **given)
    assert again["result"]["words"] == f"All 4 files are in {loras} already, with the same bytes."
    adapter.write_bytes(b"somebody else's")
    third = send(client, klein, monkeypatch, **given)
    assert Path(third["result"]["written"][0]).name == f"{STEM}-2.safetensors"
    assert adapter.read_bytes() == b"somebody else's"
    assert (loras / f"{STEM}-2.safetensors").read_bytes() == before
    assert "-2.safetensors" in (workflow.parent / f"{STEM}-2.json").read_text()

    programs = {each["name"]: each["folder"] for each in client.get(f"/api/runs/{klein}/programs").json()["programs"]}
    assert programs["comfyui"] == str(folder)
    problem_of(client.get(f"/api/exports/{job['id']}/file"), 404)
    assert client.delete(f"/api/runs/{klein}").status_code == 204
    assert preview.is_file()  # what was given away is no longer the studio's


def test_the_workflow_names_the_files_of_the_model_that_comfyui_has(
    client: TestClient, klein: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = comfy.make_folder(tmp_path / "ComfyUI", tiny_klein.make_model_folder(tmp_path / "klein"), "flux2")
    models = folder / "models"
    (models / "diffusion_models" / "klein-base.safetensors").write_bytes(b"")  # no model at all
    (models / "text_encoders" / "qwen").mkdir()
    (models / "text_encoders" / "text_encoder-of-it.safetensors").rename(
        models / "text_encoders" / "qwen" / "q.safetensors"
    )
    people = models / "loras" / "people"
    people.mkdir(parents=True)
    job = send(client, klein, monkeypatch, program="comfyui", folder=str(people))
    assert Path(job["result"]["written"][0]).parent == people
    graph = json.loads((people / f"{STEM}.workflow.json").read_text())  # this ComfyUI has no list of workflows
    values = {node["type"]: node["widgets_values"] for node in graph["nodes"]}
    assert values["LoraLoaderModelOnly"][0] == f"people/{STEM}.safetensors"
    assert values["UNETLoader"][0] == "transformer-of-it.safetensors"
    assert values["CLIPLoader"][0] == "qwen/q.safetensors"
    assert values["VAELoader"][0] == "vae-of-it.safetensors"
    transformer = models / "diffusion_models" / "transformer-of-it.safetensors"
    transformer.rename(transformer.with_name("klein-base-of-it.safetensors"))  # of another training, by its name
    job = send(client, klein, monkeypatch, program="comfyui", folder=str(people))
    assert "flux-2-klein-4b.safetensors" in Path(job["result"]["written"][2]).read_text()


def test_forge_gets_a_card_beside_the_adapter(
    client: TestClient, klein: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "forge" / "models" / "Stable-diffusion").mkdir(parents=True)
    given = {"program": "forge", "folder": str(tmp_path / "forge"), "strength": 0.9, "step": 5}
    assert send(client, klein, monkeypatch, **given)["state"] == "succeeded"
    folder = tmp_path / "forge" / "models" / "Lora"
    names = [f"{STEM}{suffix}" for suffix in (".json", ".preview.png", ".safetensors", ".txt")]
    assert sorted(path.name for path in folder.iterdir()) == names
    card = json.loads((folder / names[0]).read_text())
    assert (card["activation text"], card["preferred weight"]) == ("sks can", 0.9)
    assert f"<lora:{STEM}:0.9> {PROMPT}" in (folder / names[3]).read_text()


def test_one_zip_to_share_has_every_form_and_how_each_program_uses_it(
    client: TestClient, klein: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = client.get(f"/api/runs/{klein}/send", params={"program": "share"}).json()["plan"]
    job = send(client, klein, monkeypatch, program="share")
    answer = client.get(f"/api/exports/{job['id']}/file")
    assert f"{STEM}.zip" in answer.headers["content-disposition"]
    (tmp_path / "a.zip").write_bytes(answer.content)
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        assert packed.namelist() == [each["path"] for each in plan["files"]]
        packed.extractall(tmp_path)
    names = [f"{STEM}.safetensors", f"{STEM}.preview.png", f"{STEM}-kohya.safetensors", f"{STEM}.workflow.json"]
    assert [each["path"] for each in plan["files"]] == [*names, "README.txt"]
    for name, prefix in ((names[0], "transformer."), (names[2], "lora_unet_")):
        assert all(each.startswith(prefix) for each in read_header(tmp_path / name).tensors)
        assert same_effect(tmp_path / name, KLEIN, "flux2")
    assert f'"{names[2]}"' in (tmp_path / names[3]).read_text()  # ComfyUI reads klein's in kohya's names
    words = (tmp_path / "README.txt").read_text()
    assert all(f"\n{title}\n" in words for title in ("ComfyUI", "Draw Things", "mflux", "diffusers", "Forge"))
    assert f"--lora-paths {names[0]}" in words
    assert f"<lora:{STEM}-kohya:1>" in words
    assert str(tmp_path) not in words


def test_a_model_of_another_size_is_offered_to_diffusers_alone(
    client: TestClient, database: Database, models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKENESS_MODELS", str(models_folder))
    run = run_with_checkpoint(database, {"transformer_blocks.1.attn.to_q": PAIR})
    offer = client.get(f"/api/runs/{run}/programs").json()
    assert [each["name"] for each in offer["programs"]] == ["diffusers"]
    assert offer["unread"].startswith(
        "ComfyUI, Draw Things, mflux and Forge read adapters of the published models only"
    )
    given = {"program": "comfyui", "strength": 0, "folder": "loras"}
    problem = problem_of(client.post(f"/api/runs/{run}/send", json=given), 422)
    assert fields(problem) == ["program", "strength", "folder"]
    own = client.get(f"/api/runs/{run}/adapter").content
    job = send(client, run, monkeypatch, program="diffusers", folder=str(tmp_path))
    sent = tmp_path / f"{STEM}.safetensors"
    assert job["result"]["written"] == [str(sent), str(tmp_path / f"{STEM}.txt")]
    assert read_header(sent).tensors.keys() == {name for name in mx_names(own, tmp_path)}
    assert f'from_pretrained("{models_folder / "tiny"}"' in (tmp_path / f"{STEM}.txt").read_text()
    given_away = client.get(f"/api/runs/{run}/send", params={"program": "diffusers"}).json()["plan"]
    assert 'from_pretrained("path/to/tiny"' in given_away["lines"][0]
    page = client.get(f"/runs/{run}").text
    assert 'value="diffusers"' in page
    assert 'value="comfyui"' not in page


def mx_names(content: bytes, folder: Path) -> list[str]:
    (folder / "own").write_bytes(content)
    return list(read_header(folder / "own").tensors)


def test_a_folder_that_cannot_be_used_is_named_with_the_reason(
    client: TestClient, klein: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def words(folder: str) -> str:
        given = {"program": "mflux", "folder": folder}
        refused = problem_of(client.post(f"/api/runs/{klein}/send", json=given), 422)
        planned = client.get(f"/api/runs/{klein}/send", params=given).json()
        assert planned == {"plan": None, "problems": refused["problems"]}
        assert fields(refused) == ["folder"]
        return str(refused["problems"][0]["message"])

    (tmp_path / "file").write_text("")
    assert "absolute path" in words("loras")
    assert "is not there" in words(str(tmp_path / "gone"))
    assert "is a file" in words(str(tmp_path / "file"))
    assert "the studio's own" in words(str(tmp_path / "home" / "runs"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root
        assert "read-only" in words(str(tmp_path))
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(tmp_path)
        patch.setattr("app.actions.send_places.shutil.disk_usage", lambda _: usage._replace(free=10))
        assert "has 10 B free" in words(str(tmp_path))
    assert client.get("/api/jobs?kind=export").json() == []
    assert client.get("/api/settings").json()["send_mflux"] == ""


def test_a_name_that_is_taken_meanwhile_leaves_no_half_of_the_files(
    client: TestClient, klein: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / f"{STEM}.txt"
    taken.symlink_to(tmp_path / "gone")  # the last file that is written; it seems free
    job = send(client, klein, monkeypatch, program="draw_things", folder=str(tmp_path))
    assert [Path(path).name for path in job["result"]["written"]] == [
        f"{STEM}-2{suffix}" for suffix in (".safetensors", ".preview.png", ".txt")
    ]
    assert not (tmp_path / f"{STEM}.safetensors").exists()
    assert taken.is_symlink()
    assert "modelspec.thumbnail" not in read_header(tmp_path / f"{STEM}-2.safetensors").metadata  # it shows none


def test_a_job_says_what_is_gone_since_it_was_asked_for(
    client: TestClient, klein: int, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "loras"
    place.mkdir()
    assert client.post(f"/api/runs/{klein}/send", json={"program": "mflux", "folder": str(place)}).status_code == 202
    place.rmdir()
    ended = send(client, klein, monkeypatch, program="share")  # works off the first
    assert ended["error"]["message"] == "The folder cannot be used."
    assert not place.exists()
