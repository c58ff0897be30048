"""Checkpoints on the disk: which may go, how they come back, how many stay, and the mean of several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from app.actions import checkpoint_files
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Kind, Lane, State
from app.tables import Project, Run
from app.worker.reporter import Reporter
from app.worker.tasks import TASKS
from app.worker.work import Work
from core.adapters import average
from core.adapters import file as adapter_file
from core.training.events import Saved
from tests.app.checkpoint_scene import NoShutdown, Scene, add_checkpoint, made
from tests.app.conftest import fields, problem_of


@pytest.fixture
def scene(tmp_path: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("LIKENESS_MODELS", str(models_folder))
    with made(tmp_path / "home", with_model=False) as one:
        yield one


def steps(scene: Scene) -> list[int]:
    listed = [each["step"] for each in scene.client.get(f"/api/runs/{scene.run}/checkpoints").json()]
    on_disk = sorted(int(each.name) for each in (scene.database.home.run(scene.run) / "checkpoints").iterdir())
    assert listed == on_disk
    return listed


def of(scene: Scene, step: int | str = "") -> str:
    return f"/api/runs/{scene.run}/checkpoints/{step}"


def adapters(scene: Scene) -> list[dict[str, Any]]:
    return list(scene.client.get("/api/adapters").json())


def test_a_deleted_checkpoint_comes_back_as_it_was(scene: Scene) -> None:
    before, listed = adapters(scene), scene.client.get(of(scene).rstrip("/")).json()
    content = scene.client.get(f"/api/runs/{scene.run}/adapter?step=4").content
    assert scene.client.delete(of(scene, 4)).json() == {"steps": [4], "bytes": 9_000}
    assert (steps(scene), len(adapters(scene))) == ([2, 6], 2)
    problem_of(scene.client.delete(of(scene, 4)), 404)
    assert scene.client.post(f"{of(scene, 4)}/restore").json() == listed
    assert (steps(scene), adapters(scene)) == ([2, 4, 6], before)
    assert scene.client.get(f"/api/runs/{scene.run}/adapter?step=4").content == content
    problem_of(scene.client.post(f"{of(scene, 4)}/restore"), 409)
    scene.client.delete(of(scene, 4))
    scene.client.delete("/api/trash")
    assert "not in the trash any more" in problem_of(scene.client.post(f"{of(scene, 4)}/restore"), 404)["message"]


def test_what_is_needed_is_not_deleted(scene: Scene) -> None:
    assert "the newest" in problem_of(scene.client.delete(of(scene, 6)), 409)["message"]
    scene.client.patch(of(scene, 4), json={"starred": True})
    assert "your star" in problem_of(scene.client.delete(of(scene, 4)), 409)["message"]
    with scene.database.write() as session:
        start = next(each["id"] for each in adapters(scene) if each["step"] == 2)
        job = int(store.enqueue(session, Kind.TRAIN, {"start_from": {"id": start}}).id or 0)
    assert "begins with step 2" in problem_of(scene.client.delete(of(scene, 2)), 409)["message"]
    scene.client.post(f"/api/jobs/{job}/stop")
    assert scene.client.delete(of(scene, 2)).status_code == 200
    assert steps(scene) == [4, 6]


def test_thinning_keeps_the_star_the_newest_and_an_even_spread(scene: Scene) -> None:
    for step in (8, 10, 12):
        add_checkpoint(scene.database, scene.run, step)
    scene.client.patch(of(scene, 4), json={"starred": True})
    disk = scene.client.get(f"/api/runs/{scene.run}/disk").json()
    assert (disk["checkpoints"], disk["spare_steps"], disk["spare_bytes"]) == (54_000, [2, 6, 8, 10], 36_000)
    assert disk["free"] > 0
    assert fields(problem_of(scene.client.post(f"/api/runs/{scene.run}/thin", json={"keep": 1}), 422)) == ["keep"]
    removed = scene.client.post(f"/api/runs/{scene.run}/thin", json={"keep": 3}).json()
    assert removed == {"steps": [2, 6, 10], "bytes": 27_000}
    assert steps(scene) == [4, 8, 12]
    for step in removed["steps"]:
        assert scene.client.post(f"{of(scene, step)}/restore").status_code == 200
    assert steps(scene) == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(
    ("steps", "always", "keep", "left"),
    [
        ([10, 20, 30, 40, 50], {50}, 3, [20, 40, 50]),
        ([10, 20, 30, 40, 50], {10, 50}, 3, [10, 30, 50]),
        ([10, 20, 30], {10, 20, 30}, 2, [10, 20, 30]),
        ([1, 2, 100], {100}, 2, [2, 100]),
    ],
)
def test_what_lies_closest_goes_first(steps: list[int], always: set[int], keep: int, left: list[int]) -> None:
    assert checkpoint_files.kept_evenly(steps, always, keep) == left


def test_a_run_thins_its_checkpoints_as_the_settings_say(scene: Scene) -> None:
    refused = scene.client.patch("/api/settings", json={"keep_checkpoints": "-1"})
    assert fields(problem_of(refused, 422)) == ["keep_checkpoints"]
    assert scene.client.patch("/api/settings", json={"keep_checkpoints": "2"}).json()["keep_checkpoints"] == 2
    with scene.database.write() as session:
        run, project = session.get_one(Run, scene.run), session.get_one(Project, scene.project)
        job = store.enqueue(session, Kind.TRAIN, {})
        run.job_id = int(job.id or 0)
        session.add(run)
    claim = store.claim(scene.database, Lane.MEMORY, ProcessName.own())
    assert claim is not None
    folder = scene.database.home.run(scene.run) / "checkpoints" / "8"
    folder.mkdir()
    (folder / "adapter.safetensors").write_bytes((folder.parent / "6" / "adapter.safetensors").read_bytes())
    scene.client.patch(of(scene, 2), json={"starred": True})
    with Work(scene.database, claim, NoShutdown()) as work:
        Reporter(work, run, project, "tiny", []).report(Saved(8, folder, 9_000, "0" * 64))
    store.end(scene.database, claim, State.SUCCEEDED)
    assert steps(scene) == [2, 8]
    assert not list(scene.database.home.trash.iterdir()), "for good"
    assert "Deleted the checkpoint of step 4, 6" in str(scene.client.get(f"/runs/{scene.run}").text)


def product(path: Path) -> dict[str, np.ndarray]:
    factors = adapter_file.read(path, "flux1").factors
    return {layer: np.array(b @ a, dtype=np.float64) for layer, (a, b) in factors.items()}


def test_the_mean_of_checkpoints_is_an_adapter_of_the_run(scene: Scene, tmp_path: Path) -> None:
    run = scene.database.home.run(scene.run)
    parts = [product(run / "checkpoints" / str(step) / "adapter.safetensors") for step in (2, 4, 6)]
    address = f"/api/runs/{scene.run}/averages"
    assert scene.client.post(address, json={"steps": [6, 2, 4, 2]}).status_code == 202
    claim = store.claim(scene.database, Lane.IO, ProcessName.own())
    assert claim is not None
    with Work(scene.database, claim, NoShutdown()) as work, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKENESS_DEVICE", "cpu")
        outcome = TASKS[claim.kind](work)
    store.end(scene.database, claim, outcome.state, error=outcome.error, result=outcome.result)
    (found,) = scene.client.get(address).json()
    assert (found["name"], found["step"], found["rank"]) == ("My can, Run 1, mean of 2, 4, 6", None, 6)
    answer = scene.client.get(found["file_url"])
    assert 'filename="My-can-Run-1-mean-of-2-4-6.safetensors"' in answer.headers["content-disposition"]
    (tmp_path / "mean.safetensors").write_bytes(answer.content)
    for layer, mean in product(tmp_path / "mean.safetensors").items():
        expected = sum(each[layer] for each in parts) / 3
        assert np.linalg.norm(mean - expected) < 0.01 * np.linalg.norm(expected)
    grid = scene.grid({"adapter": [found["id"]], "strength": [1]}, run_id=None)
    assert scene.shown(grid)["pictures"][0]["checkpoint"] is None
    assert "mean of 2, 4, 6" in scene.client.get("/pictures").text
    assert scene.client.patch(f"/api/adapters/{found['id']}", json={"name": "Mean"}).json()["name"] == "Mean"
    assert scene.client.delete(f"/api/adapters/{found['id']}").status_code == 204
    assert scene.client.get(address).json() == []


def test_a_mean_is_refused_with_all_of_its_problems(scene: Scene) -> None:
    address = f"/api/runs/{scene.run}/averages"
    error = problem_of(scene.client.post(address, json={"steps": [2, 5, "x"], "name": "a" * 200}), 422)
    assert {one["field"]: one["message"].split(";")[0] for one in error["problems"]} == {
        "steps": "has 5, x",
        "name": f"is '{'a' * 200}'",
    }
    error = problem_of(scene.client.post(address, json={"steps": [2, 2]}), 422)
    assert error["problems"][0]["message"] == "has 1 checkpoints; a mean needs 2 to 16 different ones"


def test_the_mean_is_that_of_the_changes_and_of_no_higher_rank_than_it_needs() -> None:
    rng = np.random.default_rng(3)
    a_RI, b_OR = rng.normal(size=(4, 24)), rng.normal(size=(16, 4))
    turned = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    other = {"x": (mx.array(turned.T @ a_RI), mx.array(b_OR @ turned))}  # the same change by other factors
    one = {"x": (mx.array(a_RI), mx.array(b_OR)), "y": (mx.array(a_RI), mx.array(b_OR))}
    found = average.mean([one, other])
    assert found["x"][0].shape == (4, 24), "not of rank 8"
    for layer, share in (("x", 1.0), ("y", 0.5)):  # a layer that one of them lacks
        a, b = (np.array(each, dtype=np.float64) for each in found[layer])
        assert np.allclose(b @ a, share * b_OR @ a_RI, atol=1e-4)
    factors = np.array(one["x"][1] + other["x"][1]) @ np.array(one["x"][0] + other["x"][0]) / 4
    assert not np.allclose(factors, b_OR @ a_RI, atol=0.1), "which the mean of the factors is not"
