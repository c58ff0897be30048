"""Train on without a photo: it is set aside, and a new run begins from a checkpoint of the earlier one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.jobs.states import State
from app.main import create_app
from tests import run_states
from tests.app.conftest import problem_of
from tests.run_states import ODD_PHOTO, Scene

SCENES = (
    Scene("done", State.SUCCEEDED, steps=100, step=100, every=25, prompts=0, odd=True, knobs={"learning_rate": 3e-4}),
    Scene("running", State.RUNNING, steps=200, step=100, every=25, prompts=0, odd=True),
    Scene("young", State.RUNNING, steps=200, step=10, every=25, prompts=0),
)
HELD_OUT = 8  # the id of the photo that is held out: the last one


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, int]]]:
    home = tmp_path_factory.mktemp("studio") / "home"
    runs = run_states.make(home, SCENES)
    application = create_app(home, with_jobs=False)
    with TestClient(application, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client, runs


def aside(client: TestClient) -> list[int]:
    return [one["id"] for one in client.get("/api/projects/1/photos").json() if one["aside"]]


def without(client: TestClient, run: int, *photos: int, **more: Any) -> Any:
    return client.post(f"/api/runs/{run}/without", json={"photo_ids": list(photos), **more})


@pytest.mark.parametrize(
    ("scene", "photos", "step", "words"),
    [
        ("young", [ODD_PHOTO], None, "has no checkpoint to begin from. Press “Save now”, or wait for its first one."),
        ("done", [ODD_PHOTO], 60, "There is no checkpoint of step 60; there is 50, 100."),
        ("done", [], None, "Name the photos to train on without."),
        ("done", [99], None, "This run has no photo 99."),
        ("done", [HELD_OUT], None, "is held out: the run is scored on it and does not train on it. It is the only one"),
        ("done", [1, 2, 3, 4, 5, 6, 7], None, "no photo is left to train on. Add others to the set first"),
    ],
)
def test_what_stands_against_it_is_a_sentence_and_nothing_is_set_aside(
    studio: tuple[TestClient, dict[str, int]], scene: str, photos: list[int], step: int | None, words: str
) -> None:
    client, runs = studio
    count = len(client.get("/api/runs").json())
    error = problem_of(without(client, runs[scene], *photos, step=step), 422)
    assert any(words in each["message"] for each in error["problems"]), error
    body = {"photo_ids": photos, "step": step}
    planned = client.post(f"/api/runs/{runs[scene]}/without/check", json=body).json()["problems"]
    assert planned == error["problems"]
    assert (aside(client), len(client.get("/api/runs").json())) == ([], count)


def test_the_photo_is_set_aside_and_the_new_run_begins_from_the_checkpoint(
    studio: tuple[TestClient, dict[str, int]],
) -> None:
    client, runs = studio
    earlier = client.get(f"/api/runs/{runs['done']}").json()
    odd = next(each for each in earlier["photo_scores"] if each["outlier"])
    assert odd["photo_id"] == ODD_PHOTO
    plan = client.post(f"/api/runs/{runs['done']}/without/check", json={"photo_ids": [ODD_PHOTO], "step": 50}).json()
    assert (plan["step"], plan["running"], plan["problems"]) == (50, False, [])
    assert plan["words"] == (
        f"Sets {odd['name']} aside, which you can undo, and begins a new run from step 50 of {earlier['name']} on the "
        "other 7 photos of the set as it is now."
    )
    assert aside(client) == []
    new = without(client, runs["done"], ODD_PHOTO, step=50).json()
    assert [item["photo_id"] for item in new["items"]] == [1, 2, 4, 5, 6, 7, 8]
    assert new["parent"] == {"run_id": earlier["id"], "name": earlier["name"], "step": 50, "without": [odd["name"]]}
    assert new["started_from"] == "Pip, step 50"
    config = {name: entry["value"] for name, entry in new["config"].items()}
    assert (config["learning_rate"], config["steps"]) == (3e-4, 100)
    assert config["held_out"] == earlier["items"][-1]["name"], "every other photo has been trained on"
    (child,) = client.get(f"/api/runs/{runs['done']}").json()["children"]
    assert child == {"run_id": new["id"], "name": new["name"], "step": 50, "without": [odd["name"]]}

    begun = f"{earlier['name']}</a>, step 50, without {odd['name']}."
    assert begun in client.get(f"/runs/{new['id']}").text
    later = f"{new['name']}</a> began from its step 50, without {odd['name']}."
    assert later in client.get(f"/runs/{earlier['id']}").text
    assert aside(client) == [ODD_PHOTO]
    assert client.post("/api/projects/1/undo").json()["done"] == f"Undone: {odd['name']} set aside."
    assert aside(client) == []
    refused = problem_of(client.delete(f"/api/runs/{earlier['id']}"), 409)["message"]
    assert refused.startswith(f"{new['name']} begins from {earlier['name']} and has no checkpoint of its own yet.")
    client.post(f"/api/runs/{new['id']}/stop")
    assert client.delete(f"/api/runs/{earlier['id']}").status_code == 204
    assert client.get(f"/api/runs/{new['id']}").json()["parent"] == {**new["parent"], "run_id": None}
    assert f"Begun from {earlier['name']}, which was deleted, step 50" in client.get(f"/runs/{new['id']}").text


def test_a_run_that_goes_on_is_stopped_or_waited_for_as_one_asks(studio: tuple[TestClient, dict[str, int]]) -> None:
    client, runs = studio

    def stop() -> str:
        return str(client.get(f"/api/runs/{runs['running']}").json()["stop"])

    first = without(client, runs["running"], ODD_PHOTO)
    assert (first.status_code, stop(), first.json()["state"]) == (201, "none", "queued")
    assert without(client, runs["running"], ODD_PHOTO, stop=True).status_code == 201, "set aside already"
    assert stop() == "stop"
