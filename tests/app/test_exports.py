"""Files for other programs, made by jobs: written whole, read back, offered under a good name, gone with their run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from starlette.testclient import TestClient

from app.database import Database
from app.home import Home
from app.jobs import store
from app.jobs.states import Kind
from app.tables import Checkpoint, Project, Run, Version
from core.adapters import file as adapter_file
from core.adapters.lora import Factors
from core.config.resolve import resolve
from core.safetensors_file import read_header
from tests.app.conftest import Studio, problem_of, until

LAYER = "transformer_blocks.1.attn.to_q"


def save_adapter(path: Path, factors: Factors) -> Path:
    tensors = {}
    for layer, pair in factors.items():
        for which, value in zip("AB", pair, strict=True):
            tensors[f"transformer.{layer}.lora_{which}.weight"] = value.astype(mx.bfloat16)
    path.parent.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(path), tensors)
    return path


def run_with_checkpoint(database: Database, factors: Factors, model: str = "tiny") -> int:
    """A run that has one checkpoint, of step 5, as training would have left it; nothing was trained."""
    config = resolve({"model": model}, {}, {"model": (model,)}).as_json()
    with database.write() as session:
        project = Project(name="My can", trigger="sks", class_word="can")
        session.add(project)
        session.flush()
        version = Version(project_id=int(project.id or 0), items=[])
        job = store.stop(session, int(store.enqueue(session, Kind.TRAIN, {}, project_id=project.id).id or 0))
        session.add(version)
        session.flush()
        run = Run(job_id=int(job.id or 0), project_id=int(project.id or 0), version_id=int(version.id or 0), name="Run")
        run.config = config
        session.add(run)
        session.flush()
        run_id = int(run.id or 0)
        folder = database.home.run(run_id) / "checkpoints" / "5"
        save_adapter(folder / "adapter.safetensors", factors)
        session.add(Checkpoint(run_id=run_id, step=5, folder=database.home.relative(folder), bytes=1, sha256="0"))
    return run_id


def export(studio: Studio, run: int, state: str = "succeeded", **more: Any) -> dict[str, Any]:
    """Start an export and wait for its end."""
    job = studio.post("/api/exports", {"run": run, **more})["job_id"]
    ended = until(lambda: (found := studio.get(f"/api/jobs/{job}"))["state"] not in ("queued", "running") and found)
    assert ended["state"] == state, ended
    return ended


def fetched(studio: Studio, job: dict[str, Any], to: Path) -> Path:
    answer = studio.http.get(f"/api/exports/{job['id']}/file")
    assert job["result"]["name"] in answer.headers["content-disposition"]
    assert len(answer.content) == job["result"]["bytes"]
    to.write_bytes(answer.content)
    return to


def test_a_runs_adapter_is_offered_in_every_form(shared_studio: Studio, models_folder: Path, tmp_path: Path) -> None:
    studio = shared_studio
    run = studio.run(studio.project_with_photos(), steps=3, learning_rate=0.05)["id"]
    studio.until_state(run, "succeeded")
    own = studio.http.get(f"/api/runs/{run}/adapter").content
    (tmp_path / "own.safetensors").write_bytes(own)
    factors = adapter_file.read(tmp_path / "own.safetensors", "flux1").factors

    same = export(studio, run, format="diffusers")
    assert same["result"]["name"] == "My-can-Run-1-3-diffusers.safetensors"
    assert fetched(studio, same, tmp_path / "same.safetensors").read_bytes() == own

    kohya = export(studio, run, format="kohya", step=3)
    assert kohya["result"]["name"] == "My-can-Run-1-3-kohya.safetensors"
    file = fetched(studio, kohya, tmp_path / "kohya.safetensors")
    assert all(name.startswith("lora_unet_") for name in read_header(file).tensors)
    found = adapter_file.read(file, "flux1").factors
    assert all(mx.array_equal(found[layer][1] @ found[layer][0], b @ a) for layer, (a, b) in factors.items())

    merged = export(studio, run, format="merged", strength=0.5)
    weights = mx.load(str(fetched(studio, merged, tmp_path / "merged.safetensors")))
    base = mx.load(str(models_folder / "tiny" / "transformer" / "diffusion_pytorch_model.safetensors"))
    a_RI, b_OR = factors[LAYER]
    assert mx.allclose(weights[f"{LAYER}.weight"], base[f"{LAYER}.weight"] + 0.5 * b_OR @ a_RI, atol=1e-6)
    assert (merged["step"], merged["steps"]) == (len(base), len(base))

    again = studio.post("/api/exports", {"run": run, "format": "merged", "strength": 0.5})["job_id"]
    assert again == merged["id"]  # it is there already
    assert studio.post("/api/exports", {"run": run, "format": "merged"})["job_id"] != again

    brought = studio.http.put("/api/adapters/k.safetensors?model=tiny", content=file.read_bytes())
    assert (brought.status_code, brought.json()["rank"]) == (201, 4)
    request = {"model": "tiny", "prompt": "sks can", "seed": 7, "adapters": [{"id": brought.json()["id"]}]}
    job = studio.post("/api/pictures", request)["job_id"]
    until(lambda: studio.get(f"/api/jobs/{job}")["state"] == "succeeded")

    project = studio.get(f"/api/runs/{run}")["project_id"]
    begun = studio.run(project, steps=1, rank=9, start_from=brought.json()["id"])
    assert begun["started_from"] == "k"
    assert (begun["config"]["rank"]["value"], begun["config"]["alpha"]["value"]) == (4, 4)
    studio.until_state(begun["id"], "succeeded")
    assert "Begins with" in studio.log(begun["id"])
    assert "Begun with" in studio.http.get(f"/runs/{begun['id']}").text

    assert studio.http.delete(f"/api/runs/{run}").status_code == 204
    assert studio.http.get(f"/api/exports/{kohya['id']}/file").status_code == 404
    assert list((studio.home / "trash").rglob("exports/*/adapter.safetensors"))


PAIR = (mx.ones((2, 32)), mx.ones((32, 2)))


WORTHLESS: list[tuple[Factors, str]] = [
    ({LAYER: (PAIR[0], mx.zeros((32, 2)))}, "all zeros"),
    ({LAYER: (PAIR[0], mx.full((32, 2), mx.inf))}, "not numbers"),
    ({"blocks.7.to_q": PAIR}, "is not an adapter file in a supported form"),
]


def test_what_would_do_nothing_or_fits_nowhere_is_refused_with_the_reason(shared_studio: Studio) -> None:
    studio = shared_studio
    before = list((studio.home / "exports").rglob("*.safetensors"))
    for factors, words in WORTHLESS:
        one = Database(Home(studio.home))
        run = run_with_checkpoint(one, factors)
        one.close()
        for format_name in ("kohya", "merged"):
            ended = export(studio, run, "failed", format=format_name)
            assert ended["error"]["code"] == "adapter"
            assert words in ended["error"]["message"]
            assert studio.http.get(f"/api/exports/{ended['id']}/file").status_code == 409
    assert list((studio.home / "exports").rglob("*.safetensors")) == before


@pytest.fixture
def run(client: TestClient, models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("LIKENESS_MODELS", str(models_folder))
    return run_with_checkpoint(client.app.state.database, {LAYER: PAIR})  # type: ignore[attr-defined]


def test_every_wrong_field_of_an_export_is_named(client: TestClient, run: int) -> None:
    request = {"run": run, "format": "paper", "strength": 9}
    error = problem_of(client.post("/api/exports", json=request), 422)
    assert [each["field"] for each in error["problems"]] == ["format", "strength"]
    for strength in (0, -9):
        problem_of(client.post("/api/exports", json={"run": run, "format": "merged", "strength": strength}), 422)
    assert "there is 5" in problem_of(client.post("/api/exports", json={"run": run, "step": 4}), 404)["message"]
    problem_of(client.post("/api/exports", json={"run": 99}), 404)


def test_an_export_that_waits_is_not_started_twice(client: TestClient, run: int) -> None:
    first = client.post("/api/exports", json={"run": run, "format": "kohya"})
    assert client.post("/api/exports", json={"run": run, "format": "kohya"}).json() == first.json()
    assert client.post("/api/exports", json={"run": run, "format": "diffusers"}).json() != first.json()
    assert "waiting" in problem_of(client.get(f"/api/exports/{first.json()['job_id']}/file"), 409)["message"]


def test_a_merged_file_that_would_not_fit_is_not_begun(
    client: TestClient, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(client.app.state.database.home.root)  # type: ignore[attr-defined]
    monkeypatch.setattr("app.actions.exports.shutil.disk_usage", lambda _: usage._replace(free=1000))
    error = problem_of(client.post("/api/exports", json={"run": run, "format": "merged"}), 507)
    assert "1.0 kB are free" in error["message"]
    assert client.get("/api/jobs?kind=export").json() == []
    assert client.post("/api/exports", json={"run": run, "format": "kohya"}).status_code == 202


@pytest.mark.parametrize(
    ("start_from", "words"),
    [(99, "there is no such adapter"), ("x", "there is no such"), ("9" * 30, "no such"), (1, "was made for pocket")],
)
def test_a_run_cannot_begin_with_an_adapter_that_is_not_there_or_for_another_model(
    client: TestClient, run: int, start_from: Any, words: str
) -> None:
    pair = {"transformer.x_embedder.lora_A.weight": PAIR[0], "transformer.x_embedder.lora_B.weight": PAIR[1]}
    file = client.app.state.database.home.cache / "a.safetensors"  # type: ignore[attr-defined]
    mx.save_safetensors(str(file), pair)
    assert client.put("/api/adapters/a.safetensors?model=pocket", content=file.read_bytes()).json()["id"] == 1
    project = client.get(f"/api/runs/{run}").json()["project_id"]
    request = {"model": "tiny", "steps": 0, "start_from": start_from}
    error = problem_of(client.post(f"/api/projects/{project}/runs", json=request), 422)
    said = {each["field"]: each["message"] for each in error["problems"]}
    assert said.keys() == {"steps", "start_from", "photos"}
    assert words in said["start_from"]
