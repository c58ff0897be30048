"""The JSON interface of photos: uploads, captions, crops, and files shared between projects and runs."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.app.conftest import picture
from tests.app.test_api import WORDS, fields, problem_of, put


@pytest.fixture
def project(client: TestClient) -> int:
    return int(client.post("/api/projects", json=WORDS).json()["id"])


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
    other = client.post("/api/projects", json=WORDS).json()["id"]
    one, two = (put(client, each, "red.png", picture()).json() for each in (project, other))
    assert one["id"] != two["id"]
    assert client.delete(f"/api/projects/{project}").status_code == 204
    assert client.get(two["file_url"]).status_code == 200
    assert client.delete(f"/api/photos/{two['id']}").status_code == 204
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
