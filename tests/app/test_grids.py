"""Grids: every cell drawn once with one load of the model, behind waiting runs, and again from its recipe."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from sqlmodel import select

from app.database import Database
from app.jobs import lane_queue, store
from app.jobs.process import ProcessName
from app.jobs.states import Kind, Lane, State
from app.jobs.store import Claim
from app.tables import Adapter, Checkpoint, Event
from app.worker import sheets
from app.worker.outcome import Outcome
from app.worker.work import Stopped, Work
from tests.app.checkpoint_scene import PROMPT, SMALL, NoShutdown, Scene, add_checkpoint, made
from tests.app.conftest import ROOT, fields, problem_of


class Watched(Work):
    """Calls `between(n)` before the n-th picture of this attempt is drawn."""

    def __init__(self, database: Database, claim: Claim, between: Callable[[int], None]) -> None:
        super().__init__(database, claim, NoShutdown())
        self._between, self._drawn = between, 0

    def report_phase(self, name: str, done: int, of: int) -> None:
        super().report_phase(name, done, of)
        if name == "drawing" and done < of:
            self._drawn += 1
            self._between(self._drawn)


def work_next(scene: Scene, between: Callable[[int], None] = lambda _: None) -> tuple[Claim, Outcome]:
    """The next job of the memory lane, a grid, until it ends or gives way."""
    claim = store.claim(scene.database, Lane.MEMORY, ProcessName.own())
    assert claim is not None
    with Watched(scene.database, claim, between) as work:
        try:
            outcome = sheets.draw_grid(work)
        except Stopped:
            outcome = Outcome(work.state_after_stop)
    if outcome.state is State.QUEUED:
        store.release(scene.database, claim, outcome.position)
    else:
        store.end(scene.database, claim, outcome.state, error=outcome.error, result=outcome.result)
    return claim, outcome


def process_next(scene: Scene) -> None:
    """The next job of the memory lane in a process of its own."""
    command = [sys.executable, "-m", "app.worker", "--home", str(scene.database.home.root), "--lane", "memory"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with made(tmp_path_factory.mktemp("grids") / "home") as one:
        yield one


@pytest.fixture(scope="module")
def drawn(scene: Scene) -> dict[str, Any]:
    """A grid of three checkpoints by two strengths by two seeds, drawn in one go; `loads` counts the model's."""
    loads: list[str] = []
    load = sheets.load_family
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sheets, "load_family", lambda path, **how: loads.append(path) or load(path, **how))
        grid = scene.grid({"checkpoint": [2, 4, 6], "strength": [0.5, "1"], "seed": [7, 8]})
        assert work_next(scene)[1].state is State.SUCCEEDED
    return scene.shown(grid) | {"loads": len(loads)}


def test_every_cell_has_its_own_picture_and_the_model_is_loaded_once(scene: Scene, drawn: dict[str, Any]) -> None:
    cells = [(each["checkpoint"], each["strength"], each["seed"], each["prompt"]) for each in drawn["pictures"]]
    assert cells == [(step, strength, seed, PROMPT) for step in (2, 4, 6) for strength in (0.5, 1.0) for seed in (7, 8)]
    assert drawn["axes"] == {"checkpoint": [2, 4, 6], "strength": [0.5, 1.0], "seed": [7, 8]}
    assert (drawn["state"], drawn["loads"]) == ("succeeded", 1)
    assert len({scene.content(each) for each in drawn["pictures"]}) == 12
    with scene.database.read() as session:
        events = session.exec(select(Event).where(Event.job_id == drawn["job_id"], Event.kind == "sample")).all()
    assert [each.payload["url"] for each in events] == [each["url"] for each in drawn["pictures"]]
    listed = scene.client.get(f"/api/grids?run={scene.run}").json()
    assert drawn["id"] in [each["id"] for each in listed]


def test_the_star_of_a_checkpoint_is_on_its_pictures(scene: Scene, drawn: dict[str, Any]) -> None:
    for starred in (True, False):
        scene.client.patch(f"/api/runs/{scene.run}/checkpoints/4", json={"starred": starred})
        found = {each["checkpoint"] for each in scene.shown(drawn["id"])["pictures"] if each["starred"]}
        assert found == ({4} if starred else set())
        on_home = drawn["pictures"][7]["url"] in scene.client.get("/").text
        assert on_home == starred, "the newest with it, where the run has no sample"


@pytest.mark.slow
def test_a_picture_is_drawn_again_from_its_recipe_in_a_fresh_process(scene: Scene, drawn: dict[str, Any]) -> None:
    cell = drawn["pictures"][9]  # after eight others, and two swaps of the adapter
    recipe = next(each for each in scene.client.get("/api/pictures").json() if each["id"] == cell["id"])["recipe"]
    with scene.database.read() as session:
        used = [(session.exec(select(Adapter).where(Adapter.sha256 == each["sha256"])).one(), each["strength"])
                for each in recipe["adapters"]]  # fmt: skip
    names = {"prompt": "prompt", "seed": "seed", "steps": "steps", "guidance": "guidance", "width_px": "width"}
    body = {ours: recipe[name] for name, ours in (names | {"height_px": "height"}).items()}
    body |= {"model": "tiny", "adapters": [{"id": row.id, "strength": strength} for row, strength in used]}
    job = scene.client.post("/api/pictures", json=body).json()["job_id"]
    process_next(scene)
    (again,) = [each for each in scene.client.get("/api/pictures").json() if each["job_id"] == job]
    assert (used[0][0].name, again["seed"], again["adapter_strength"]) == ("My can, step 6", 8, 0.5)
    with Image.open(io.BytesIO(scene.content(again))) as one, Image.open(io.BytesIO(scene.content(cell))) as other:
        assert one.tobytes() == other.tobytes()


def test_a_waiting_run_goes_first_after_each_picture_and_nothing_is_drawn_twice(scene: Scene) -> None:
    grid = scene.grid({"checkpoint": [4, 2], "seed": [1, 2]})
    behind = scene.grid({"seed": [1]})
    waiting: list[int] = []

    def train(number: int) -> None:
        if number == 3:
            with scene.database.write() as session:
                waiting.append(int(store.enqueue(session, Kind.TRAIN, {}).id or 0))
                lane_queue.move(session, waiting[0], 0)

    claim, outcome = work_next(scene, train)
    assert outcome.state is State.QUEUED
    before = scene.shown(grid)
    assert [bool(each["url"]) for each in before["pictures"]] == [True, True, True, False]
    assert before["state"] == "queued"
    run = store.claim(scene.database, Lane.MEMORY, ProcessName.own())
    assert run is not None
    assert run.job_id == waiting[0]
    store.end(scene.database, run, State.STOPPED)
    again, outcome = work_next(scene)
    assert (again.job_id, outcome.state) == (claim.job_id, State.SUCCEEDED), "before what waited behind it"
    after = scene.shown(grid)
    assert [each["id"] for each in after["pictures"]][:3] == [each["id"] for each in before["pictures"]][:3]
    assert all(each["url"] for each in after["pictures"])
    with scene.database.read() as session:
        events = session.exec(select(Event).where(Event.job_id == claim.job_id, Event.kind == "sample")).all()
    assert [each.payload["prompt_id"] for each in events] == [0, 1, 2, 3]
    assert work_next(scene)[0].job_id == scene.shown(behind)["job_id"]


@pytest.mark.slow
def test_its_process_lets_a_waiting_run_begin_whatever_the_setting_for_resuming(scene: Scene) -> None:
    grid = scene.grid({"seed": [31, 32]})
    with scene.database.write() as session:
        run = int(store.enqueue(session, Kind.TRAIN, {}).id or 0)
    scene.client.patch("/api/settings", json={"resume_automatically": False})
    process_next(scene)
    scene.client.patch("/api/settings", json={"resume_automatically": None})
    assert scene.shown(grid)["state"] == "queued"
    claim = store.claim(scene.database, Lane.MEMORY, ProcessName.own())
    assert claim is not None
    assert claim.job_id == run
    store.end(scene.database, claim, State.STOPPED)
    assert work_next(scene)[1].state is State.SUCCEEDED
    assert scene.client.get("/pictures").status_code == 200


def test_a_grid_that_is_stopped_goes_on_where_it_was(scene: Scene) -> None:
    grid = scene.grid({"seed": [11, 12, 13]})
    job = scene.shown(grid)["job_id"]

    def stop(number: int) -> None:
        if number == 2:
            with scene.database.write() as session:
                store.stop(session, job)
            raise Stopped

    claim = store.claim(scene.database, Lane.MEMORY, ProcessName.own())
    assert claim is not None
    with Watched(scene.database, claim, stop) as work, pytest.raises(Stopped):
        sheets.draw_grid(work)
    assert store.release(scene.database, claim, 1.0) is State.STOPPED, "a stop counts before a place in the queue"
    assert [bool(each["url"]) for each in scene.shown(grid)["pictures"]] == [True, False, False]
    assert scene.client.post(f"/api/jobs/{job}/retry").status_code == 202
    assert work_next(scene)[1].state is State.SUCCEEDED
    assert all(each["url"] for each in scene.shown(grid)["pictures"])
    assert scene.client.delete(f"/api/grids/{grid}").status_code == 204
    problem_of(scene.client.get(f"/api/grids/{grid}"), 404)


def test_a_checkpoint_that_is_gone_leaves_a_sentence_and_the_rest_is_drawn(scene: Scene) -> None:
    add_checkpoint(scene.database, scene.run, 8)
    grid = scene.grid({"checkpoint": [2, 8], "strength": [1]})
    with scene.database.write() as session:
        row = session.exec(select(Checkpoint).where(Checkpoint.run_id == scene.run, Checkpoint.step == 8)).one()
        (scene.database.home.file(row.folder) / "adapter.safetensors").unlink()
        session.delete(row)
    assert work_next(scene)[1].state is State.SUCCEEDED
    first, second = scene.shown(grid)["pictures"]
    assert (bool(first["url"]), first["problem"]) == (True, "")
    assert (second["url"], second["problem"]) == (None, "My can, step 8 was deleted before this picture was drawn.")


def test_without_strength_it_is_one_picture_for_every_checkpoint(scene: Scene) -> None:
    grid = scene.grid({"checkpoint": [2, 4], "strength": [0]}, seed=21)
    steps: list[int] = []
    draw = sheets.draw_one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sheets, "draw_one", lambda *given: steps.append(1) or draw(*given))
        work_next(scene)
    one, other = scene.shown(grid)["pictures"]
    assert (len(steps), scene.content(one) == scene.content(other)) == (1, True)


def test_a_grid_is_one_picture_to_download(scene: Scene, drawn: dict[str, Any]) -> None:
    answer = scene.client.get(f"/api/grids/{drawn['id']}/sheet")
    assert answer.headers["content-type"] == "image/png"
    assert f'filename="My-can-Run-1-grid-{drawn["id"]}.png"' in answer.headers["content-disposition"]
    with Image.open(io.BytesIO(answer.content)) as page:
        assert page.height > 6 * 256 > 2 * 256 < page.width, "three checkpoints at two strengths, by two seeds"
    assert not list(scene.database.home.uploads.iterdir())


def test_what_it_costs_is_known_before(scene: Scene, drawn: dict[str, Any]) -> None:
    body = {"run_id": scene.run, "axes": {"checkpoint": [2, 4], "strength": [0.5, 1, 2]}} | SMALL
    found = scene.client.post("/api/grids/check", json=body).json()
    assert (found["pictures"], found["problems"]) == (6, [])
    assert found["seconds"] > 0
    assert found["words"].startswith("6 pictures, about ")


def test_a_request_is_refused_with_all_of_its_problems(scene: Scene) -> None:
    error = problem_of(
        scene.ask({"checkpoint": [2, 5], "strength": [9], "size": [1]}, run_id=scene.run, steps=0, prompt=""), 422
    )
    assert sorted(fields(error)) == ["axes.checkpoint", "axes.size", "axes.strength", "prompt", "steps"]
    sentences = {one["field"]: one["message"] for one in error["problems"]}
    assert sentences["axes.checkpoint"] == "has 5; there is 2, 4, 6"
    for axes, more, field, words in (
        ({"seed": list(range(201))}, {}, "axes.seed", "at most 200"),
        ({"seed": list(range(100)), "strength": [0, 1, 2]}, {}, "axes", "make 300 pictures; at most 200"),
        ({"seed": []}, {}, "axes.seed", "is empty"),
        ({"seed": 3}, {}, "axes.seed", "must be a list"),
        ({}, {}, "axes", "give 1 to 3"),
        ({"checkpoint": [2]}, {"run_id": None}, "axes.checkpoint", "needs the run"),
        ({"checkpoint": [2], "adapter": [1]}, {}, "axes.adapter", "choose one"),
        ({"checkpoint": ["x"]}, {}, "axes.checkpoint", "whole number"),
        ({"adapter": [99]}, {}, "axes.adapter", "no such adapter"),
        ({"seed": [1]}, {"run_id": 99}, "run_id", "no such run"),
        ({"seed": [1]}, {"project_id": 99}, "project_id", "no such project"),
        ({"strength": [1]}, {"run_id": None, "model": "tiny"}, "axes.strength", "none is chosen"),
        ({"prompt": ["a", ""]}, {}, "axes.prompt", "is empty"),
        ({"seed": [1]}, {"model": "pocket"}, "model", "made for tiny"),
        ({"seed": [1]}, {"run_id": None, "adapters": [{"id": 99}]}, "adapters.0", "is not there"),
    ):
        found = problem_of(scene.ask(axes, **more), 422)["problems"]
        assert [each["field"] for each in found] == [field], (axes, more, found)
        assert words in found[0]["message"], found


def test_adapters_can_be_the_axis_beside_fixed_ones_and_none_is_needed(scene: Scene) -> None:
    with scene.database.read() as session:
        rows = session.exec(select(Adapter.id, Checkpoint.step).join(Checkpoint)).all()
    ids = {step: number for number, step in rows}
    stack = [{"id": ids[6], "strength": 0.5}]
    grid = scene.grid({"adapter": [ids[2], ids[4]]}, run_id=None, adapters=stack, strength=0.7)
    plain = scene.grid({"prompt": [PROMPT, "a red toy car"]}, run_id=None, model="tiny")
    work_next(scene)
    work_next(scene)
    cells = scene.shown(grid)["pictures"]
    assert [(each["adapter"], each["checkpoint"], each["strength"]) for each in cells] == [
        (ids[2], 2, 0.7), (ids[4], 4, 0.7),
    ]  # fmt: skip
    recipes = {each["id"]: each["recipe"] for each in scene.client.get("/api/pictures").json()}
    assert [each["strength"] for each in recipes[cells[0]["id"]]["adapters"]] == [0.7, 0.5]
    assert [recipes[each["id"]]["adapters"] for each in scene.shown(plain)["pictures"]] == [[], []]
