"""What the page of a new run offers: presets, named configurations, pickers, and the settings of an earlier run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select
from starlette.testclient import TestClient

from app.database import Database
from app.tables import Configuration, Run
from app.terminal import config_file
from tests.app.conftest import fields, picture, problem_of, put
from tests.app.test_run_requests import again_of

SOFT = {"rank": 24, "learning_rate": 5e-05, "flip": True, "sample_prompts": ["one", "two"], "more_sides_px": [96, 128]}


@pytest.fixture(autouse=True)
def models(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_MODELS", str(models_folder))


@pytest.fixture
def full(client: TestClient, project: int) -> int:
    """A project with three photos: two wide ones and a tall one."""
    for number, size in enumerate([(320, 200), (330, 205), (200, 320)]):
        put(client, project, f"{number}.png", picture((number, 90, 200), size))
    return project


def database_of(client: TestClient) -> Database:
    found: Database = client.app.state.database  # type: ignore[attr-defined]
    return found


def save(client: TestClient, name: str = "Soft", **settings: Any) -> dict[str, Any]:
    answer = client.post("/api/configurations", json={"name": name, "settings": settings or SOFT})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_settings_are_saved_renamed_changed_and_deleted(client: TestClient) -> None:
    saved = save(client, "  Soft   ones ", rank="24", flip="on", sample_prompts="one\ntwo")
    path = f"/api/configurations/{saved['id']}"
    assert (saved["name"], saved["unknown"]) == ("Soft ones", {})
    assert saved["settings"] == {"rank": 24, "flip": True, "sample_prompts": ["one", "two"]}
    assert client.patch(path, json={"name": "Hard"}).json()["settings"] == saved["settings"]
    assert client.patch(path, json={"settings": {"rank": 4}}).json() | {"changed_at": ""} == saved | {
        "name": "Hard", "settings": {"rank": 4}, "changed_at": "",
    }  # fmt: skip
    assert [one["name"] for one in client.get("/api/configurations").json()] == ["Hard"]
    assert client.delete(path).status_code == 204
    problem_of(client.get(path), 404)


def test_everything_that_is_wrong_with_a_configuration_is_named_at_once(client: TestClient) -> None:
    save(client)
    body = {"name": "Soft", "settings": {"rank": 999, "steps": "1.000", "odd": 1}}
    assert fields(problem_of(client.post("/api/configurations", json=body), 422)) == ["name", "odd", "steps", "rank"]
    other = save(client, "Other")
    problem_of(client.patch(f"/api/configurations/{other['id']}", json={"name": "Soft"}), 422)
    content = json.dumps({"_name": "x" * 200, **body["settings"]}).encode()  # type: ignore[dict-item]
    refused = problem_of(client.put("/api/configurations/wrong.json", content=content), 422)
    assert fields(refused) == ["name", "odd", "steps", "rank"]
    assert fields(problem_of(client.put("/api/configurations/wrong.toml", content=b"rank = "), 422)) == ["file"]
    assert len(client.get("/api/configurations").json()) == 2


@pytest.mark.parametrize("file_format", ["json", "toml"])
def test_a_configuration_is_a_file_that_studio_and_command_line_read(
    client: TestClient, tmp_path: Path, file_format: str
) -> None:
    saved = save(client, 'My "soft" ones')
    answer = client.get(f"/api/configurations/{saved['id']}/file?format={file_format}")
    assert f"My-soft-ones.{file_format}" in answer.headers["content-disposition"]
    path = tmp_path / f"shared.{file_format}"
    path.write_bytes(answer.content)
    assert config_file.read(path) == SOFT
    again = client.put(f"/api/configurations/{path.name}", content=answer.content)
    assert (again.status_code, again.json()["id"]) == (200, saved["id"])
    client.patch(f"/api/configurations/{saved['id']}", json={"settings": {"rank": 2}})
    other = client.put(f"/api/configurations/{path.name}", content=answer.content)
    assert (other.status_code, other.json()["name"], other.json()["settings"]) == (201, 'My "soft" ones 2', SOFT)
    problem_of(client.get(f"/api/configurations/{saved['id']}/file?format=ini"), 422)


def test_a_run_records_where_each_setting_came_from(client: TestClient, full: int) -> None:
    saved = save(client, rank=24, flip=True)
    body = {"model": "tiny", "goal": "style", "time": "quick", "configuration": saved["id"], "flip": False, "rank": 24}
    run = client.post(f"/api/projects/{full}/runs", json=body).json()
    sources = {name: entry["source"] for name, entry in run["config"].items()}
    assert (sources["find_subjects"], sources["steps"]) == ("preset", "preset")
    assert (sources["rank"], sources["flip"], sources["batch_size"]) == ("configuration", "user", "default")
    assert run["config"]["sample_prompts"]["value"][0] == "a lighthouse on a cliff, {trigger} {class_word}"
    again = again_of(client.get(f"/projects/{full}/train?again={run['id']}").text)
    assert again["presets"] == {"goal": "style", "time": "quick", "configuration": "Soft"}
    client.patch(f"/api/configurations/{saved['id']}", json={"settings": {"rank": 4, "clip_norm": 2}})
    edits = again_of(client.get(f"/projects/{full}/train?again={run['id']}").text)["edits"]
    assert (edits["rank"], edits["clip_norm"]) == ("24", "1"), "as the run had them, not as they would be today"
    page = client.get(f"/runs/{run['id']}").text
    assert "from the preset" in page
    assert "from the configuration" in page


def test_presets_and_configurations_that_are_not_there_are_named_with_the_rest(client: TestClient, full: int) -> None:
    body = {"model": "tiny", "goal": "house", "time": ["x"], "configuration": 99, "steps": 0}
    error = problem_of(client.post(f"/api/projects/{full}/runs", json=body), 422)
    assert sorted(fields(error)) == ["configuration", "goal", "steps", "time"]
    assert "'house'; it can be person, animal, object, style" in str(error["problems"])


def test_settings_of_another_version_are_named_and_not_lost(client: TestClient, full: int) -> None:
    saved = save(client, rank=24)
    with database_of(client).write() as session:
        row = session.exec(select(Configuration)).one()
        row.settings = {**row.settings, "no_longer": 3}
        session.add(row)
    view = client.get(f"/api/configurations/{saved['id']}").json()
    assert (view["settings"], view["unknown"]) == ({"rank": 24}, {"no_longer": 3})
    body = {"model": "tiny", "configuration": saved["id"]}
    error = problem_of(client.post(f"/api/projects/{full}/runs", json=body), 422)
    assert (fields(error), "no_longer" in str(error)) == (["configuration"], True)


def test_an_earlier_run_fills_in_what_differs_from_today_and_names_the_rest(client: TestClient, full: int) -> None:
    run = client.post(f"/api/projects/{full}/runs", json={"model": "tiny", "steps": 9, "optimizer": "lion"}).json()
    with database_of(client).write() as session:
        row = session.exec(select(Run)).one()
        config = {
            **row.config,
            "score_every": {"value": 77, "source": "default"},
            "old": {"value": 1, "source": "user"},
        }
        del config["find_subjects"]  # a run from before that knob
        row.config = config
        session.add(row)
    again = again_of(client.get(f"/projects/{full}/train?again={run['id']}").text)
    assert again["unknown"] == {"old": "1"}
    assert f'href="/projects/{full}/train?again={run["id"]}"' in client.get(f"/projects/{full}").text
    expected = {"model": "tiny", "steps": "9", "optimizer": "lion", "score_every": "77", "find_subjects": "off"}
    assert again["edits"] == expected


def test_each_preset_tells_what_it_costs_here(client: TestClient, full: int) -> None:
    client.patch(f"/api/projects/{full}", json={"class_word": "golden retriever"})
    found = client.get(f"/api/projects/{full}/presets?model=tiny&goal=animal&time=balanced").json()
    assert found["proposed_goal"] == "animal"
    quick, balanced, thorough = (one["cost"] for one in found["times"])
    assert [cost["steps"] for cost in (quick, balanced, thorough)] == [2, 4, 8]
    assert quick["seconds"] < balanced["seconds"] < thorough["seconds"]
    assert all(cost["memory"] and cost["disk"] and cost["fits"] for cost in (quick, balanced, thorough))
    assert [one["name"] for one in found["goals"]] == ["person", "animal", "object", "style"]
    own = client.get(f"/api/projects/{full}/presets?model=tiny&time=quick&steps=7").json()
    assert {one["cost"]["steps"] for one in own["times"]} == {7}, "the user's own number counts"
    assert fields(problem_of(client.get(f"/api/projects/{full}/presets?model=tiny&rank=0"), 422)) == ["rank"]


def test_photos_are_counted_by_the_size_at_which_they_are_trained(client: TestClient, full: int) -> None:
    path = f"/api/projects/{full}/sizes?model=tiny"
    small, large = client.get(f"{path}&side_px=128&more_sides_px=256").json()
    assert [(one["width"] > one["height"], one["count"]) for one in small["buckets"]] == [(True, 2), (False, 1)]
    assert (small["side_px"], large["side_px"], small["enlarged"]) == (128, 256, 0)
    (square,) = client.get(f"{path}&side_px=640&shapes=square").json()
    assert [(one["width"], one["count"]) for one in square["buckets"]] == [(640, 3)]
    assert square["enlarged"] == 3
    number = client.get(f"/api/projects/{full}/photos").json()[0]["id"]
    crops = [{"left": 0, "top": 0, "right": 0.3, "bottom": 1}, {"left": 0, "top": 0, "right": 1, "bottom": 1}]
    client.patch(f"/api/photos/{number}", json={"crops": [{"box": one} for one in crops]})
    (cropped,) = client.get(f"{path}&side_px=128").json()
    assert sum(one["count"] for one in cropped["buckets"]) == 4, "each crop is trained"
    assert fields(problem_of(client.get(f"{path}&side_px=100"), 422)) == ["side_px"]


def test_the_blocks_of_a_model_show_which_layers_are_chosen(client: TestClient) -> None:
    def chosen(targets: str) -> Any:
        return client.get("/api/models/tiny/layers", params={"targets": targets}).json()

    everything, some = chosen("all_linear"), chosen("single_blocks")
    double, single = (stack["path"] for stack in everything["stacks"])
    assert (double, single) == ("transformer_blocks", "single_transformer_blocks")
    assert everything["chosen"] > some["chosen"] > 0
    assert [bool(sum(stack["chosen"])) for stack in some["stacks"]] == [False, True]
    assert 0 < some["share"] < everything["share"] == 1 < chosen("*")["share"]
    by_name = {one["name"]: one for one in everything["presets"]}
    assert by_name["single_blocks"]["layers"] == some["chosen"]
    assert by_name["single_blocks"]["share"] == some["share"]
    assert "matches no layer" in chosen("nowhere")["problem"]
    problem_of(client.get("/api/models/nobody/layers"), 404)
