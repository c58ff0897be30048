"""A run is validated when it is requested: every problem at once, with 422, and the same by the check of the form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from sqlmodel import select
from starlette.testclient import TestClient

from app.database import Database
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Lane, State
from app.tables import Adapter, Run
from core.estimate.architecture import Architecture
from tests.app.conftest import fields, picture, problem_of, put

WRONG = {
    "steps": "1.000",
    "side_px": 100,
    "rank": "1,5",
    "targets": "nowhere",
    "ranks": "mlp=4, elsewhere=2",
    "class_prompt": "a {class}",
    "held_out": 9,
    "sample_prompts": "a {tigger}",
}


@pytest.fixture(autouse=True)
def models(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_MODELS", str(models_folder))


@pytest.fixture
def full(client: TestClient, project: int) -> int:
    """A project with three photos."""
    for number in range(3):
        put(client, project, f"{number}.png", picture((number, 90, 200)))
    return project


def check(client: TestClient, project: int, **body: Any) -> dict[str, str]:
    """The sentences by field, of the check and of the request, which are the same."""
    answer = client.post(f"/api/projects/{project}/runs/check", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()["problems"]
    created = client.post(f"/api/projects/{project}/runs", json=body)
    if found:
        assert problem_of(created, 422)["problems"] == found
    else:
        assert created.status_code == 201, created.text
    return {each["field"]: each["message"] for each in found}


def adapter(client: TestClient, models_folder: Path, **changes: Any) -> int:
    """The id of an adapter for the tiny model, with a checkpoint's file: its first layer, or as `changes` say."""
    path, size = next(iter(Architecture.of(models_folder / "tiny").layers.sizes.items()))
    path, (size_in, size_out), rank = changes.get("path", path), changes.get("size", size), changes.get("rank", 2)
    database: Database = client.app.state.database  # type: ignore[attr-defined]
    file = database.home.adapters / f"{len(list(database.home.adapters.glob('*')))}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    pair = {"A": mx.ones((rank, size_in)), "B": mx.ones((size_out, rank))}
    mx.save_safetensors(str(file), {f"transformer.{path}.lora_{which}.weight": value for which, value in pair.items()})
    row = Adapter(name="Theirs", model="tiny", file=database.home.relative(file), sha256="0", rank=rank)
    with database.write() as session:
        session.add(row)
        session.flush()
        return int(row.id or 0)


def test_everything_that_a_run_would_fail_for_is_told_at_once(client: TestClient, full: int) -> None:
    found = check(client, full, model="tiny", name="x" * 200, start_from=99, **WRONG)
    assert list(found) == [*WRONG, "start_from", "name"]
    assert found["steps"] == "is '1.000'; write it without separators: 1000"
    assert "'nowhere' matches no layer; use all_linear, attention, mlp" in found["targets"]
    assert "'elsewhere' matches no layer" in found["ranks"]
    assert "{tigger}, which is not known; {trigger} and {class_word} are filled in" in found["sample_prompts"]
    assert found["held_out"] == "is '9', and there are 3 photos; leave one to train on"
    assert [job["kind"] for job in client.get("/api/jobs").json()] == ["check"]  # the review of the photos
    assert client.get(f"/api/projects/{full}/runs").json() == []


def test_a_check_changes_nothing_and_finds_nothing_in_what_can_be_trained(client: TestClient, full: int) -> None:
    body = {"model": "tiny", "targets": "attention", "ranks": "*.to_q=4", "held_out": "2"}
    answer = client.post(f"/api/projects/{full}/runs/check", json=body)
    assert answer.json() == {"problems": []}
    assert [job["kind"] for job in client.get("/api/jobs").json()] == ["check"]  # the review of the photos
    assert check(client, full, **body) == {}


def test_a_check_of_no_project_is_not_found_and_one_without_photos_says_so(client: TestClient, project: int) -> None:
    problem_of(client.post("/api/projects/99/runs/check", json={}), 404)
    answer = client.post(f"/api/projects/{project}/runs/check", json={"held_out": 1, "steps": 0}).json()
    assert [each["field"] for each in answer["problems"]] == ["steps", "photos"]


def test_layers_are_those_of_the_chosen_model(client: TestClient, full: int) -> None:
    assert "matches no layer" in check(client, full, model="pocket", targets="likeness")["targets"]
    assert check(client, full, model="pocket", targets="single_transformer_blocks.5.*") == {}
    assert check(client, full, model="tiny", targets="single_transformer_blocks.5.*").keys() == {"targets"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "transformer_blocks.9.attn.to_q"}, "transformer_blocks.9.attn.to_q is not in this model"),
        ({"path": "x_embedder"}, "x_embedder is outside the blocks"),
        ({"size": (7, 9)}, "is for a layer of 7 in and 9 out; this model's has"),
        ({"rank": 300}, "has rank 300; a run trains 1 to 256"),
    ],
)
def test_an_adapter_to_start_from_must_fit(
    client: TestClient, full: int, models_folder: Path, changes: dict[str, Any], words: str
) -> None:
    found = check(client, full, model="tiny", start_from=adapter(client, models_folder, **changes))
    assert found.keys() == {"start_from"}
    assert found["start_from"].startswith("A run cannot begin with Theirs.")
    assert words in found["start_from"]


def test_an_adapter_that_fits_overrides_the_knobs_of_layers(client: TestClient, full: int, models_folder: Path) -> None:
    start = adapter(client, models_folder)
    assert check(client, full, model="tiny", start_from=start, targets="nowhere", ranks="nowhere=2") == {}
    assert check(client, full, model="pocket", start_from=start) == {
        "start_from": "Theirs was made for tiny, not for pocket"
    }


def test_an_adapter_whose_file_is_gone_is_told_by_its_name(client: TestClient, full: int, models_folder: Path) -> None:
    start = adapter(client, models_folder)
    for file in client.app.state.database.home.adapters.iterdir():  # type: ignore[attr-defined]
        file.unlink()
    assert check(client, full, model="tiny", start_from=start) == {"start_from": "Theirs is not there."}


def test_more_steps_on_resume_are_read_as_everywhere(client: TestClient, full: int) -> None:
    run = client.post(f"/api/projects/{full}/runs", json={"model": "tiny", "steps": 7}).json()["id"]
    fail(client, {"code": "memory", "message": "There was not enough memory for this."})
    error = problem_of(client.post(f"/api/runs/{run}/resume", json={"steps": "1.000"}), 422)
    assert (fields(error), error["problems"][0]["message"]) == (
        ["steps"], "is '1.000'; write it without separators: 1000",
    )  # fmt: skip
    assert client.post(f"/api/runs/{run}/resume", json={"steps": " 9 "}).json() == {"state": "queued"}
    assert client.get(f"/api/runs/{run}").json()["steps"] == 9


def fail(client: TestClient, error: dict[str, str]) -> None:
    """Let the next waiting run fail."""
    database: Database = client.app.state.database  # type: ignore[attr-defined]
    claim = store.claim(database, Lane.MEMORY, ProcessName.own())
    assert claim is not None
    store.end(database, claim, State.FAILED, error=error)


@pytest.mark.parametrize(
    ("code", "offered"),
    [("config", True), ("adapter", True), ("data", True), ("memory", True), ("bug", False), ("disk", False)],
)
def test_a_run_that_failed_for_its_settings_offers_to_edit_them(
    client: TestClient, full: int, code: str, offered: bool
) -> None:
    run = client.post(f"/api/projects/{full}/runs", json={"model": "tiny"}).json()["id"]
    address = f'href="/projects/{full}/train?again={run}"'
    before = client.get(f"/runs/{run}").text
    assert '<p id="run-error-edit" hidden>' in before
    assert address in before
    assert "Edit settings and start again" in before
    fail(client, {"code": code, "message": "It failed."})
    after = client.get(f"/runs/{run}").text
    assert ('<p id="run-error-edit" >' in after) is offered


def again_of(page: str) -> Any:
    return json.loads(page.partition('id="again-data">')[2].partition("</script>")[0])


def test_the_form_is_filled_in_from_an_earlier_run(client: TestClient, full: int, models_folder: Path) -> None:
    knobs = {"model": "tiny", "steps": 9, "targets": "attention", "flip": True, "sample_prompts": ["one", "two"]}
    knobs |= {"learning_rate": "2e-4", "more_sides_px": "80 96"}
    run = client.post(f"/api/projects/{full}/runs", json=knobs | {"name": "Blue"}).json()["id"]
    assert again_of(client.get(f"/projects/{full}/train?again={run}").text) == {
        "id": run,
        "name": "Blue",
        "edits": {
            "model": "tiny", "steps": "9", "targets": "attention", "flip": "on", "sample_prompts": "one\ntwo",
            "learning_rate": "0.0002", "more_sides_px": "80 96",
        },
        "unknown": {},
        "presets": {},
    }  # fmt: skip
    start = adapter(client, models_folder)
    begun = client.post(f"/api/projects/{full}/runs", json={"model": "tiny", "start_from": start}).json()
    edits = again_of(client.get(f"/projects/{full}/train?again={begun['id']}").text)["edits"]
    assert edits == {"model": "tiny", "steps": str(begun["steps"]), "start_from": str(start)}


def test_the_form_stays_plain_for_a_run_of_another_project_or_one_that_is_gone(client: TestClient, full: int) -> None:
    run = client.post(f"/api/projects/{full}/runs", json={}).json()["id"]
    other = client.post("/api/projects", json={"name": "Other", "trigger": "sks", "class_word": "can"}).json()["id"]
    for address in (
        f"/projects/{other}/train?again={run}",
        f"/projects/{full}/train?again=99",
        f"/projects/{full}/train",
    ):
        assert again_of(client.get(address).text) is None


def test_a_run_of_an_older_version_fills_in_what_is_still_a_setting(client: TestClient, full: int) -> None:
    run = client.post(f"/api/projects/{full}/runs", json={"rank": 3}).json()["id"]
    database: Database = client.app.state.database  # type: ignore[attr-defined]
    with database.write() as session:
        row = session.exec(select(Run)).one()
        row.config = {**row.config, "no_longer": {"value": 1, "source": "user"}}
        session.add(row)
    edits = again_of(client.get(f"/projects/{full}/train?again={run}").text)["edits"]
    assert edits == {"model": "pocket", "steps": "500", "rank": "3"}
