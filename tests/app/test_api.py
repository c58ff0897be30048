"""The JSON interface: projects, runs, pictures, settings, and one shape for every error."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from tests.app.conftest import picture

WORDS = {"name": "My can", "trigger": "sks", "class_word": "can"}


def problem_of(answer: Any, status: int) -> dict[str, Any]:
    """The error of an answer, in the one shape that every error has."""
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    error = answer.json()["error"]
    assert sorted(error) == ["code", "message", "problems"]
    assert error["code"]
    assert error["message"].endswith((".", "?"))
    assert all(sorted(one) == ["field", "message"] for one in error["problems"])
    return dict(error)


def fields(error: dict[str, Any]) -> list[str]:
    return [one["field"] for one in error["problems"]]


@pytest.fixture
def project(client: TestClient) -> int:
    return int(client.post("/api/projects", json=WORDS).json()["id"])


def put(client: TestClient, project: int, name: str, content: bytes) -> Any:
    return client.put(f"/api/projects/{project}/photos/{quote(name, safe='')}", content=content)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/nowhere", None, 404),
        ("GET", "/api/projects/1", None, 404),
        ("GET", "/api/runs/1/adapter", None, 404),
        ("GET", "/api/events?run=77", None, 404),
        ("GET", "/api/events?project=77", None, 404),
        ("GET", "/static/nowhere.css", None, 404),
        ("DELETE", "/api/settings", None, 405),
        ("GET", "/api/projects/99999999999999999999", None, 422),
        ("GET", "/api/projects?limit=0", None, 422),
        ("POST", "/api/projects", {"name": "x"}, 422),
        ("POST", "/api/projects", [1], 422),
        ("PATCH", "/api/settings", {"no_such": 1}, 422),
        ("POST", "/api/jobs/1/move", {"position": "first"}, 422),
        ("POST", "/api/models/nope/download", None, 404),
        ("POST", "/api/models/pocket/download", None, 409),
    ],
)
def test_every_error_has_the_one_shape(client: TestClient, method: str, path: str, body: Any, status: int) -> None:
    problem_of(client.request(method, path, json=body), status)


def test_a_bug_has_the_one_shape_too(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("app.actions.projects.list_projects", broken)
    assert problem_of(client.get("/api/projects"), 500)["code"] == "bug"


def test_a_body_that_is_not_json_is_told(client: TestClient) -> None:
    answer = client.post("/api/projects", content=b"{", headers={"Content-Type": "application/json"})
    assert problem_of(answer, 422)["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"caption_template": "\\ud800"}', "UTF-8"),  # once kept, it could never be shown again
        (b'{"\\ud800": 1}', "UTF-8"),
        (b'{"caption_template": "\xff"}', "UTF-8"),
        (b'{"captioner_url": ' + b"9" * 5000 + b"}", "too large"),
        (b'{"captioner_url": 9223372036854775808}', "too large"),
        (b'{"captioner_url": NaN}', "NaN is not a number"),
        (b"[" * 200_000, "too deeply"),
    ],
)
def test_json_that_could_not_be_kept_is_refused_at_the_door(client: TestClient, body: bytes, words: str) -> None:
    before = client.get("/api/settings").json()
    answer = client.patch("/api/settings", content=body, headers={"Content-Type": "application/json"})
    assert words in problem_of(answer, 422)["problems"][0]["message"]
    assert client.get("/api/settings").json() == before


def test_a_body_that_is_too_large_is_refused(client: TestClient) -> None:
    answer = client.post("/api/projects", json={**WORDS, "name": "x" * 2**21})
    assert problem_of(answer, 413)["code"] == "too_large"


def test_a_browser_gets_an_error_as_a_page(client: TestClient) -> None:
    answer = client.get("/projects/12", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


def test_the_description_names_every_address_and_the_shape_of_errors(client: TestClient) -> None:
    described = client.get("/api/openapi.json").json()
    paths = described["paths"]
    assert "HTTPValidationError" not in described["components"]["schemas"]
    shape = {"schema": {"$ref": "#/components/schemas/ErrorBody"}}
    assert paths["/api/projects"]["post"]["responses"]["4XX"]["content"]["application/json"] == shape
    for path in (
        "/api/projects",
        "/api/runs/{run_id}/adapter",
        "/api/pictures",
        "/api/events",
        "/api/jobs/{job_id}/move",
    ):
        assert path in paths


def test_no_address_leaves_open_what_it_answers_with(client: TestClient) -> None:
    for path, methods in client.get("/api/openapi.json").json()["paths"].items():
        for method, described in methods.items():
            good = next(answer for status, answer in described["responses"].items() if status.startswith("2"))
            for kind, content in good.get("content", {}).items():
                assert content.get("schema") or content.get("itemSchema"), f"{method} {path} answers with any {kind}"


# ---- projects --------------------------------------------------------------------------------------------------------


def test_the_first_page_shows_the_example_photos_and_no_other_file(client: TestClient) -> None:
    urls = re.findall(r'src="(/api/examples/[^"]+)"', client.get("/", headers={"Accept": "text/html"}).text)
    assert len(urls) == 4
    assert all(client.get(url).content.startswith(b"\xff\xd8") for url in urls)
    for other in ("01.txt", "99.jpg", "..%2Fweights%2Fmodel_index.json"):
        assert client.get(f"/api/examples/{other}").status_code == 404


def test_a_project_is_made_renamed_and_deleted(client: TestClient) -> None:
    made = client.post("/api/projects", json=WORDS)
    assert made.status_code == 201
    path = f"/api/projects/{made.json()['id']}"
    assert client.patch(path, json={"name": "  Other   name "}).json()["name"] == "Other name"
    assert client.get(path).json()["trigger"] == "sks"
    assert client.delete(path).status_code == 204
    problem_of(client.get(path), 404)


def test_every_field_of_a_project_that_is_wrong_is_named(client: TestClient) -> None:
    error = problem_of(client.post("/api/projects", json={"name": " ", "trigger": "{x}", "class_word": "c" * 99}), 422)
    assert fields(error) == ["name", "trigger", "class_word"]


def test_lists_go_on_after_an_id(client: TestClient) -> None:
    ids = [client.post("/api/projects", json=WORDS).json()["id"] for _ in range(3)]
    first = client.get("/api/projects?limit=2").json()
    rest = client.get(f"/api/projects?after={first[-1]['id']}&limit=2").json()
    assert [one["id"] for one in first + rest] == ids


# ---- photos ----------------------------------------------------------------------------------------------------------


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
    assert client.get("/api/jobs").json() == []


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
    assert client.get("/api/disk").json()["trash"] > 0
    assert client.delete("/api/trash").json()["bytes"] > 0
    assert client.get("/api/disk").json()["trash"] == 0
