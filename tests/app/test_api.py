"""The JSON interface: projects, photos, captions, settings, and one shape for every error."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.app.conftest import PROJECT, fields, picture, problem_of, put


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
    answer = client.post("/api/projects", json={**PROJECT, "name": "x" * 2**21})
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
    assert len(urls) == 5
    assert all(client.get(url).content.startswith(b"\xff\xd8") for url in urls)
    for other in ("01.txt", "99.jpg", "..%2Fweights%2Fmodel_index.json"):
        assert client.get(f"/api/examples/{other}").status_code == 404


def test_a_project_is_made_renamed_and_deleted(client: TestClient) -> None:
    made = client.post("/api/projects", json=PROJECT)
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
    ids = [client.post("/api/projects", json=PROJECT).json()["id"] for _ in range(3)]
    first = client.get("/api/projects?limit=2").json()
    rest = client.get(f"/api/projects?after={first[-1]['id']}&limit=2").json()
    assert [one["id"] for one in first + rest] == ids


# ---- photos ----------------------------------------------------------------------------------------------------------


def test_a_photo_comes_in_and_is_kept_untouched(client: TestClient, project: int) -> None:
    content = picture()
    answer = put(client, project, "red.png", content)
    assert answer.status_code == 201
    photo = answer.json()
    assert (photo["name"], photo["width"], photo["height"]) == ("red.png", 80, 64)
    file = client.get(f"/api/photos/{photo['id']}/file")
    assert file.content == content
    assert file.headers["content-type"] == "image/png"
    assert client.get(photo["thumb_url"]).headers["content-type"] == "image/jpeg"


def test_the_same_bytes_again_are_the_same_photo(client: TestClient, project: int) -> None:
    first, again = put(client, project, "red.png", picture()), put(client, project, "other.png", picture())
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert len(client.get(f"/api/projects/{project}/photos").json()) == 1


def test_the_same_name_with_other_bytes_gets_a_free_name(client: TestClient, project: int) -> None:
    names = [put(client, project, "photo.png", picture(colour)).json()["name"] for colour in ("red", "green", "blue")]
    assert names == ["photo.png", "photo (2).png", "photo (3).png"]


def test_two_projects_share_a_file_and_deleting_one_keeps_it(client: TestClient, project: int) -> None:
    other = client.post("/api/projects", json=PROJECT).json()["id"]
    one, two = (put(client, each, "red.png", picture()).json() for each in (project, other))
    assert one["id"] != two["id"]
    assert client.delete(f"/api/projects/{project}").status_code == 204
    assert client.get(two["file_url"]).status_code == 200
    assert client.delete(f"/api/photos/{two['id']}").status_code == 204
    assert client.delete(f"/api/projects/{other}/edits").status_code == 200  # until then undo may need it
    home = client.app.state.database.home  # type: ignore[attr-defined]
    assert list(home.photos.iterdir()) == []
    assert [path.suffix for path in home.trash.rglob("*") if path.is_file()] == [".png"]


def test_a_photo_that_a_run_was_made_with_stays_on_the_disk(client: TestClient, project: int) -> None:
    photo = put(client, project, "red.png", picture()).json()
    run = client.post(f"/api/projects/{project}/runs", json={"steps": 3}).json()["id"]
    client.delete(f"/api/photos/{photo['id']}")
    home = client.app.state.database.home  # type: ignore[attr-defined]
    assert home.photo(photo["sha256"], "png").is_file()
    client.post(f"/api/runs/{run}/stop")
    assert client.delete(f"/api/runs/{run}").status_code == 204
    client.delete(f"/api/projects/{project}/edits")
    assert not home.photo(photo["sha256"], "png").exists()


def test_browsers_may_keep_a_photo_whose_version_they_name(client: TestClient, project: int) -> None:
    photo = put(client, project, "red.png", picture()).json()
    first = client.get(photo["thumb_url"])
    assert "immutable" in first.headers["cache-control"]
    assert "no-cache" in client.get(f"/api/photos/{photo['id']}/thumb").headers["cache-control"]
    again = client.get(photo["thumb_url"], headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_captions_are_kept_as_typed_with_their_history(client: TestClient, project: int) -> None:
    photo = put(client, project, "red.png", picture()).json()
    path = f"/api/photos/{photo['id']}"
    assert photo["caption"] is None
    client.patch(path, json={"caption": "a r"})
    changed = client.patch(path, json={"caption": "a  red\nthing"}).json()
    assert (changed["caption"], changed["caption_origin"]) == ("a red thing", "user")
    assert len(client.get(f"{path}/captions").json()) == 1, "typing on is one caption"
    assert client.patch(path, json={"caption": ""}).json()["caption"] is None


def test_a_crop_is_set_and_taken_back(client: TestClient, project: int) -> None:
    path = f"/api/photos/{put(client, project, 'red.png', picture()).json()['id']}"
    box = {"left": 0.25, "top": 0.0, "right": 0.75, "bottom": 1.0}
    assert client.patch(path, json={"crop": box}).json()["crop"] == box
    assert client.patch(path, json={"caption": "x"}).json()["crop"] == box
    assert client.patch(path, json={"crop": None}).json()["crop"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"crop": {"left": 0.9, "top": 0, "right": 0.1, "bottom": 1}},
        {"crop": {"left": 0}},
        {"crop": "all"},
        {"crop": {"left": float(-1), "top": 0, "right": 1, "bottom": 1}},
        {"caption": "x" * 2001},
        {"caption": 7},
        {"name": "other.png"},
    ],
)
def test_a_wrong_change_of_a_photo_names_the_field(client: TestClient, project: int, change: dict[str, Any]) -> None:
    path = f"/api/photos/{put(client, project, 'red.png', picture()).json()['id']}"
    assert fields(problem_of(client.patch(path, json=change), 422)) == list(change)


# ---- runs ------------------------------------------------------------------------------------------------------------
