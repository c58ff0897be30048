"""The JSON interface: runs, suggestions, pictures, captions of a vision model, and what all of it takes of the disk."""

from __future__ import annotations

from typing import Any

import pytest
from sqlmodel import select
from starlette.testclient import TestClient

from app.database import Database
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Lane, State
from app.jobs.store import Claim
from app.tables import Checkpoint, Event
from tests.app.conftest import PROJECT, fields, picture, problem_of, put


def test_a_run_needs_a_photo(client: TestClient, project: int) -> None:
    error = problem_of(client.post(f"/api/projects/{project}/runs", json={}), 422)
    assert (error["code"], fields(error)) == ("data", ["photos"])


def test_everything_that_is_wrong_with_a_run_is_named_at_once(client: TestClient, project: int) -> None:
    wrong = {"steps": 0, "model": "nope", "rank": "many", "colour": "red"}
    error = problem_of(client.post(f"/api/projects/{project}/runs", json=wrong), 422)
    assert sorted(fields(error)) == ["colour", "model", "photos", "rank", "steps"]
    sentences = {one["field"]: one["message"] for one in error["problems"]}
    assert "is 0 steps" in sentences["steps"]
    assert "'nope'" in sentences["model"]


def test_the_runs_of_a_project_are_numbered_by_themselves(client: TestClient, project: int) -> None:
    def started(in_project: int, **more: Any) -> dict[str, Any]:
        answer = client.post(f"/api/projects/{in_project}/runs", json=more)
        assert answer.status_code == 201
        return dict(answer.json())

    other = client.post("/api/projects", json=PROJECT | {"name": "Another can"}).json()["id"]
    for each in (project, other):
        put(client, each, "red.png", picture())
    runs = [started(project), started(project), started(other)]
    assert [run["name"] for run in runs] == ["Run 1", "Run 2", "Run 1"]
    assert [run["id"] for run in runs] == [1, 2, 3]
    client.patch("/api/runs/2", json={"name": "The good one"})
    assert started(project)["name"] == "Run 3"
    client.post("/api/runs/1/stop")
    assert client.delete("/api/runs/1").status_code == 204
    assert started(project)["name"] == "Run 4"
    assert started(other, name="Run 7")["name"] == "Run 7"
    assert started(other)["name"] == "Run 8"


def test_a_run_freezes_its_photos_and_says_where_each_knob_came_from(client: TestClient, project: int) -> None:
    photo = put(client, project, "red.png", picture()).json()
    client.patch(f"/api/photos/{photo['id']}", json={"caption": "a red thing"})
    put(client, project, "blue.png", picture("blue"))
    answer = client.post(f"/api/projects/{project}/runs", json={"steps": 7, "name": "First"})
    assert answer.status_code == 201
    run = answer.json()
    assert (run["state"], run["name"], run["steps"]) == ("queued", "First", 7)
    assert client.post(f"/api/projects/{project}/runs", json={"name": None}).json()["name"] == "Run 2"
    assert run["config"]["steps"] == {"value": 7, "source": "user"}
    assert run["config"]["seed"]["source"] == "default"
    client.patch(f"/api/photos/{photo['id']}", json={"caption": "changed later"})
    items = client.get(f"/api/runs/{run['id']}").json()["items"]
    assert [item["caption"] for item in items] == ["a photo of sks can", "a red thing"]


def test_the_same_photos_are_frozen_in_the_same_order_however_they_arrived(client: TestClient, project: int) -> None:
    for name, colour in (("2.png", "red"), ("3.png", "green"), ("1.png", "blue")):
        put(client, project, name, picture(colour))
    run = client.post(f"/api/projects/{project}/runs", json={}).json()
    assert [item["name"] for item in run["items"]] == ["1.png", "2.png", "3.png"]


def test_a_run_that_waits_is_renamed_cancelled_and_deleted(client: TestClient, project: int) -> None:
    put(client, project, "red.png", picture())
    run = client.post(f"/api/projects/{project}/runs", json={}).json()["id"]
    assert client.patch(f"/api/runs/{run}", json={"name": "Better"}).json()["name"] == "Better"
    assert client.post(f"/api/runs/{run}/stop").json() == {"state": "cancelled"}
    problem_of(client.post(f"/api/runs/{run}/stop"), 409)
    problem_of(client.post(f"/api/runs/{run}/resume"), 409)
    problem_of(client.post(f"/api/runs/{run}/save"), 409)
    problem_of(client.get(f"/api/runs/{run}/adapter"), 409)
    assert client.delete(f"/api/runs/{run}").status_code == 204
    assert client.get("/api/jobs?kind=train").json() == []


def database_of(client: TestClient) -> Database:
    return client.app.state.database  # type: ignore[attr-defined]


def saved_at(client: TestClient, project: int, step: int, steps: int) -> tuple[int, Claim]:
    """A running run of `steps` steps with a checkpoint at `step`; its id and its claim."""
    put(client, project, "red.png", picture())
    run = client.post(f"/api/projects/{project}/runs", json={"steps": steps}).json()["id"]
    claim = store.claim(database_of(client), Lane.MEMORY, ProcessName.own())
    assert claim is not None
    with database_of(client).write() as session:
        session.add(Checkpoint(run_id=run, step=step, folder="", bytes=0, sha256=""))
    client.app.state.database.home.run(run).mkdir(parents=True, exist_ok=True)  # type: ignore[attr-defined]
    return run, claim


def test_a_run_that_failed_after_its_last_step_is_resumed_for_its_samples(client: TestClient, project: int) -> None:
    run, claim = saved_at(client, project, step=7, steps=7)
    store.end(database_of(client), claim, State.FAILED)
    assert client.post(f"/api/runs/{run}/resume").json() == {"state": "queued"}

    again = store.claim(database_of(client), Lane.MEMORY, ProcessName.own())
    assert again is not None
    store.end(database_of(client), again, State.SUCCEEDED)
    error = problem_of(client.post(f"/api/runs/{run}/resume"), 422)
    assert (error["message"], fields(error)) == ("All 7 steps are done. Enter a larger number of steps.", ["steps"])


def test_a_run_that_died_while_stopping_says_where_it_stopped(client: TestClient, project: int) -> None:
    run, claim = saved_at(client, project, step=3, steps=7)
    client.post(f"/api/runs/{run}/stop")
    assert store.record_death(database_of(client), claim, -9) is State.STOPPED
    with database_of(client).read() as session:
        (event,) = session.exec(select(Event).where(Event.job_id == claim.job_id, Event.kind == "log"))
    assert event.payload["text"].endswith("memory ran out. The run stopped at its last checkpoint.")


def test_the_page_of_a_run_without_samples_says_why(client: TestClient, project: int) -> None:
    put(client, project, "red.png", picture())

    def page(**knobs: object) -> str:
        run = client.post(f"/api/projects/{project}/runs", json=knobs).json()["id"]
        assert client.post(f"/api/runs/{run}/stop").json() == {"state": "cancelled"}
        return client.get(f"/runs/{run}").text

    assert "It was removed before it started." in page()
    assert "“Sample every” is 0 in its settings." in page(sample_every=0)
    assert "It has no sample prompts." in page(sample_prompts=[])


def test_a_suggestion_says_steps_and_time(client: TestClient, project: int) -> None:
    for number in range(12):
        put(client, project, f"{number}.png", picture((number, 0, 0)))
    few = client.get(f"/api/projects/{project}/suggestion?model=pocket&steps=10").json()
    many = client.get(f"/api/projects/{project}/suggestion?model=pocket").json()
    assert few["steps"] == 10
    assert many["steps"] > 10
    assert many["seconds"] > few["seconds"] > 0
    assert "rough" in many["sentence"]
    assert many["advice"] == ""
    lion = client.get(f"/api/projects/{project}/suggestion?model=pocket&optimizer=lion").json()
    assert float(lion["own"]["learning_rate"]) == pytest.approx(float(many["own"]["learning_rate"]) / 3, rel=0.05)
    quick = client.get(f"/api/projects/{project}/suggestion?model=pocket&optimizer=lion&learning_rate=1").json()
    assert "does not suit Lion" in quick["advice"]
    assert quick["own"] == lion["own"]


def test_a_suggestion_says_where_a_trigger_dropout_means_nothing(client: TestClient, project: int) -> None:
    def advice(**knobs: object) -> str:
        given = {"trigger_dropout": 0.5, **knobs}
        return client.get(f"/api/projects/{project}/suggestion", params=given).json()["advice"]

    assert advice() == ""
    photo = put(client, project, "red.png", picture()).json()["id"]
    assert advice() == ""
    assert "class pictures teach the opposite" in advice(class_pictures=4)
    client.patch(f"/api/photos/{photo}", json={"caption": "a red square"})
    assert "no caption has the word" in advice()


def test_pictures_and_captions_wait_in_their_lanes(client: TestClient, project: int) -> None:
    put(client, project, "red.png", picture())
    job = client.post("/api/pictures", json={"prompt": "a can", "seed": 3}).json()["job_id"]
    assert client.get(f"/api/jobs/{job}").json()["lane"] == "memory"
    job = client.post(f"/api/projects/{project}/captions", json={"backend": "template"}).json()["job_id"]
    assert client.get(f"/api/jobs/{job}").json()["lane"] == "io"


def test_everything_that_is_wrong_with_a_picture_is_named(client: TestClient) -> None:
    request = {
        "prompt": " ",
        "model": "nope",
        "seed": -1,
        "width": 65,
        "base_precision": "5-bit",
        "adapters": [{"id": 9}, {"run": 1, "strength": "x"}],
    }
    error = problem_of(client.post("/api/pictures", json=request), 422)
    assert sorted(fields(error)) == ["adapters.0", "adapters.1", "base_precision", "model", "prompt", "seed", "width"]


def test_an_adapter_is_named_by_numbers(client: TestClient) -> None:
    odd = [{"id": {}}, {"id": [1, 2]}, {"id": "1"}, {"run": [1]}, {"run": 1, "step": {}}, {"id": True}, {}]
    error = problem_of(client.post("/api/pictures", json={"prompt": "a can", "adapters": odd}), 422)
    assert fields(error) == [f"adapters.{place}" for place in range(len(odd))]
    assert error["problems"][0]["message"] == "has the id {}; it must be a whole number"


@pytest.mark.parametrize(
    "url", ["http://example.com", "https://127.0.0.1", "http://127.0.0.1@evil.example", "file:///x"]
)
def test_captions_are_only_asked_of_this_computer(client: TestClient, project: int, url: str) -> None:
    put(client, project, "red.png", picture())
    body = {"backend": "openai", "url": url}
    assert fields(problem_of(client.post(f"/api/projects/{project}/captions", json=body), 422)) == ["url"]
    assert fields(problem_of(client.patch("/api/settings", json={"captioner_url": url}), 422)) == ["captioner_url"]


def test_the_disk_use_is_told_and_the_trash_emptied(client: TestClient, project: int) -> None:
    photo = put(client, project, "red.png", picture()).json()
    assert client.get("/api/disk").json()["photos"] > 0
    client.delete(f"/api/photos/{photo['id']}")
    client.delete(f"/api/projects/{project}/edits")  # until then undo may need the file
    assert client.get("/api/disk").json()["trash"] > 0
    assert client.delete("/api/trash").json()["bytes"] > 0
    assert client.get("/api/disk").json()["trash"] == 0
