"""The darkroom's requests: combinations, favourites, deleting and taking back, recipes, and what was drawn."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlmodel import select
from starlette.testclient import TestClient

from app.actions.picture_plan import plan
from app.database import Database
from app.main import create_app
from app.tables import Job, Sample
from tests import darkroom_states
from tests.app.conftest import ROOT, problem_of
from tests.app.test_adapter_import import lora, put

MOST = 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("darkroom") / "home"
    darkroom_states.make(folder, drawings=2)
    return folder


@pytest.fixture(scope="module")
def studio(made: Path) -> Any:
    with TestClient(create_app(made, with_jobs=False), base_url="http://127.0.0.1") as one:
        yield one


def database_of(studio: TestClient) -> Database:
    database: Database = studio.app.state.database  # type: ignore[attr-defined]
    return database


def params_of(client: TestClient, **request: Any) -> dict[str, Any]:
    job = client.post("/api/pictures", json={"prompt": "a can", "seed": 5} | request).json()["job_id"]
    with database_of(client).read() as session:
        return dict(session.get_one(Job, job).params)


def newest_picture(studio: TestClient) -> dict[str, Any]:
    return next(each["pictures"][-1] for each in studio.get("/api/drawings").json() if each["pictures"])


def test_every_combination_of_strengths_is_drawn_with_every_seed(client: TestClient, tmp_path: Path) -> None:
    one, other = (put(client, lora(tmp_path / name), name=f"{name}.safetensors").json()["id"] for name in ("a", "bb"))
    assert one == other, "the same bytes"
    other = put(client, lora(tmp_path / "c", scale=0.5), name="c.safetensors").json()["id"]
    stack = [{"id": one, "strengths": [0.6, 1, 0.6]}, {"id": other, "strength": 0.5}]
    params = params_of(client, adapters=stack, count=2, without=True)
    assert [(each.seed, each.label) for each in plan(params)] == [
        (5, "0.6 + 0.5"), (5, "1 + 0.5"), (5, "without"), (6, "0.6 + 0.5"), (6, "1 + 0.5"), (6, "without"),
    ]  # fmt: skip
    assert [each.label for each in plan(params_of(client))] == ["base"]
    assert [each.label for each in plan(params_of(client, without=True))] == ["base"], "nothing to compare with"
    only_without = params_of(client, adapters=[{"id": one, "strengths": []}], without=True)
    assert [each.label for each in plan(only_without)] == ["base"]


def test_too_many_pictures_and_strengths_that_are_none_are_refused_in_words(client: TestClient, tmp_path: Path) -> None:
    adapter = put(client, lora(tmp_path / "a")).json()["id"]

    def words(**request: Any) -> str:
        error = problem_of(client.post("/api/pictures", json={"prompt": "a can"} | request), 422)
        (problem,) = error["problems"]
        return f"{problem['field']} {problem['message']}"

    many = [{"id": adapter, "strengths": [0.1 * each for each in range(1, 10)]}]
    assert words(adapters=many, count=8) == f"count and the strengths make 72 pictures; {MOST} can be drawn at once"
    assert words(adapters=[{"id": adapter, "strengths": []}]) == "adapters.0 has no strength; choose one or more"
    assert words(adapters=[{"id": adapter, "strengths": [1, "9", "x"]}]) == (
        "adapters.0 has the strength 9; it can be -4 to 4; and 'x'; it must be a number -4 to 4"
    )
    assert words(adapters=[{"id": adapter, "strengths": 1}]) == "adapters.0 has the strengths 1; they must be a list"


def test_a_drawing_of_an_earlier_version_is_planned_as_it_was_drawn() -> None:
    params = {"adapters": [{"id": 1, "strength": 0.8}], "seed": 2**31 - 1, "count": 2, "without": True}
    assert [(each.place, each.seed, each.strengths) for each in plan(params)] == [
        (0, 2**31 - 1, (0.8,)), (1, 2**31 - 1, (0.0,)), (2, 0, (0.8,)), (3, 0, (0.0,)),
    ]  # fmt: skip


def test_what_was_drawn_is_listed_with_what_is_to_come(studio: TestClient) -> None:
    waits, draws, failed, base, both, *_ = studio.get("/api/drawings").json()
    assert (waits["words"], [each["label"] for each in waits["to_come"]]) == (
        "Waiting for its turn", ["0.8", "1.2", "without"],
    )  # fmt: skip
    assert ([each["label"] for each in draws["pictures"]], [each["label"] for each in draws["to_come"]]) == (
        ["0.8"], ["1.2", "without"],
    )  # fmt: skip
    assert (failed["error"], failed["can_stop"]) == (darkroom_states.FAILURE["message"], False)
    assert (base["drawn_with"], base["pictures"][0]["file_name"]) == ("Pocket without an adapter", "Pocket-seed-1.png")
    assert both["drawn_with"] == "Pip, Run 1, step 400 and Pip, Run 1, step 300"
    assert both["pictures"][0]["label"] == "0.8 + 0.5"
    assert studio.get(f"/api/drawings/{waits['job_id']}").json() == waits
    form = draws["form"]
    assert (form["adapters"][0]["strengths"], form["without"], form["count"]) == ([0.8, 1.2], True, 1)
    sent = studio.post("/api/pictures", json=form).json()["job_id"]  # the form is a request
    assert studio.get(f"/api/drawings/{sent}").json()["form"] == form
    studio.post(f"/api/jobs/{sent}/stop")
    assert studio.get(f"/api/drawings/{sent}").json() is None, "cancelled before it drew anything"
    problem_of(studio.get("/api/drawings/999"), 404)


def test_the_page_has_the_drawings_and_how_long_one_takes(studio: TestClient) -> None:
    text = studio.get("/pictures").text.partition('id="darkroom-data">')[2].partition("</script>")[0]
    data = json.loads(text)
    assert data["drawings"] == studio.get("/api/drawings").json()
    pace = data["paces"]["pocket"]
    form = data["drawings"][-1]["form"]
    assert pace["seconds"] * form["steps"] * 256 * 256 / 1e6 == pytest.approx(1.0, rel=0.05)
    assert [1, 400] in data["steps"].values()
    assert set(data["trained"].values()) == {"pocket"}
    assert data["fits"]["pocket"] == ["pocket"]


def test_the_starred_checkpoint_is_what_its_run_draws_with(studio: TestClient) -> None:
    def chosen() -> str:
        return str(studio.get("/pictures").text.split(" selected>")[1].split("<")[0])

    assert chosen() == "Pip, Run 1, step 400"
    studio.patch("/api/runs/1/checkpoints/200", json={"starred": True})
    assert chosen() == "Pip, Run 1, step 200"
    studio.patch("/api/runs/1/checkpoints/200", json={"starred": False})


def test_a_favourite_stays_one(studio: TestClient) -> None:
    number = newest_picture(studio)["id"]
    for wanted in (True, False):
        assert studio.patch(f"/api/pictures/{number}", json={"favourite": wanted}).json()["favourite"] is wanted
        assert newest_picture(studio)["favourite"] is wanted
    problem_of(studio.patch("/api/pictures/999", json={"favourite": True}), 404)


def test_a_deleted_picture_comes_back_as_it_was_until_the_trash_is_emptied(studio: TestClient) -> None:
    before = newest_picture(studio)
    number = before["id"]
    studio.patch(f"/api/pictures/{number}", json={"favourite": True})
    content = studio.get(before["url"]).content
    with Image.open(io.BytesIO(studio.get(before["thumb_url"]).content)) as small:
        assert (small.format, small.size) == ("JPEG", (before["width"], before["height"]))
    assert studio.delete(f"/api/pictures/{number}").status_code == 204
    problem_of(studio.get(before["url"]), 404)
    problem_of(studio.get(before["thumb_url"]), 404)
    again = studio.post(f"/api/pictures/{number}/restore").json()
    assert (again["id"], again["favourite"], studio.get(before["url"]).content) == (number, True, content)
    assert newest_picture(studio) == before | {"favourite": True}
    assert studio.post(f"/api/pictures/{number}/restore").json() == again, "once more changes nothing"

    studio.delete(f"/api/pictures/{number}")
    assert studio.delete("/api/trash").json()["bytes"] >= len(content)
    problem_of(studio.post(f"/api/pictures/{number}/restore"), 404)
    problem_of(studio.post("/api/pictures/999/restore"), 404)


def test_a_picture_whose_file_left_the_trash_is_not_brought_back_empty(studio: TestClient, made: Path) -> None:
    number = newest_picture(studio)["id"]
    studio.delete(f"/api/pictures/{number}")
    for path in (made / "trash").rglob("*.png"):
        path.unlink()
    assert "trash was emptied" in problem_of(studio.post(f"/api/pictures/{number}/restore"), 409)["message"]
    assert number not in [each["id"] for each in studio.get("/api/pictures").json()]


def test_a_recipe_says_all_and_what_of_it_is_not_here(studio: TestClient) -> None:
    both = next(each for each in studio.get("/api/drawings").json() if each["prompt"].startswith("two of them"))
    found = studio.get(f"/api/pictures/{both['pictures'][0]['id']}/recipe").json()
    lines = [(each["label"], each["value"]) for each in found["lines"]]
    assert lines[:2] == [("Model", "Pocket"), ("Adapter", "Pip, Run 1, step 400, strength 0.8")]
    assert {("Seed", "9"), ("Size", "256 × 256 px"), ("Precision of the base", "full")} <= set(lines)
    assert [each["strength"] for each in found["form"]["adapters"]] == [0.8, 0.5]
    with database_of(studio).read() as session:
        recipe = session.exec(select(Sample).where(Sample.prompt == both["prompt"])).one().recipe
    assert studio.post("/api/recipes", json=recipe).json() == found["form"]
    strange = recipe | {"model_name": "flux1-dev", "precision": "5-bit", "prompt": 7, "negative_prompt": "blur"}
    strange["adapters"] = [{"sha256": "ab" * 32, "strength": 1}, {"sha256": "cd" * 32, "strength": 0}]
    error = problem_of(studio.post("/api/recipes", json=strange), 422)
    assert sorted(each["field"] for each in error["problems"]) == [
        "adapter", "model", "negative_prompt", "precision", "prompt",
    ]  # fmt: skip
    for odd in ({}, {"adapters": "all", "prompt": "a can", "model_name": ["pocket"]}):
        problem_of(studio.post("/api/recipes", json=odd), 422)


@pytest.mark.slow
def test_a_picture_is_drawn_again_from_its_own_file_bit_for_bit_in_a_fresh_process(
    client: TestClient, models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKENESS_MODELS", str(models_folder))
    scales = {"a": 0.02, "b": -0.03}
    stack = [
        {"id": put(client, lora(tmp_path / name, width=64, scale=scale), query="model=tiny", name=f"{name}.safetensors")
            .json()["id"], "strengths": strengths}
        for (name, scale), strengths in zip(scales.items(), ([0.6, 1], [0.5]), strict=True)
    ]  # fmt: skip
    size = {"model": "tiny", "width": 64, "height": 80, "steps": 2}
    request = {"prompt": "a can", "seed": 3, "adapters": stack, "without": True, **size}
    assert client.post("/api/pictures", json=request).status_code == 202
    work(tmp_path)
    first, second, plain = client.get("/api/pictures").json()
    contents = [client.get(each["url"]).content for each in (first, second, plain)]
    assert len({pixels(each) for each in contents}) == 3

    recipe = json.loads(Image.open(io.BytesIO(contents[1])).text["recipe"])  # type: ignore[attr-defined]
    assert recipe == second["recipe"]
    assert [each["strength"] for each in recipe["adapters"]] == [1, 0.5]
    client.post("/api/pictures", json=client.post("/api/recipes", json=recipe).json())
    jobs = [client.post(f"/api/pictures/{each['id']}/again").json()["job_id"] for each in (first, plain)]
    work(tmp_path, jobs=3)
    *_, from_file, first_again, plain_again = client.get("/api/pictures").json()
    for before, after in ((contents[1], from_file), (contents[0], first_again), (contents[2], plain_again)):
        assert pixels(client.get(after["url"]).content) == pixels(before)
    assert [client.get(f"/api/jobs/{job}").json()["result"] for job in jobs] == [{"same": True, "differs": []}] * 2
    assert client.get("/api/drawings").json()[0]["words"] == "drawn again just now: the same, bit for bit"

    path = tmp_path / "home" / "pictures" / f"{first['job_id']}-0.png"
    Image.new("RGB", (64, 80)).save(path)
    job = client.post(f"/api/pictures/{first['id']}/again").json()["job_id"]
    work(tmp_path)
    assert client.get(f"/api/jobs/{job}").json()["result"]["same"] is False
    assert client.get("/api/drawings").json()[0]["words"].endswith(": not the same")


def work(tmp_path: Path, jobs: int = 1) -> None:
    """A process of its own for each job that waits."""
    worker = [sys.executable, "-P", "-m", "app.worker", "--home", str(tmp_path / "home"), "--lane", "memory"]
    for _ in range(jobs):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(worker, env=environment, cwd=tmp_path, timeout=240, check=True)


def pixels(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as image:
        return image.tobytes()
