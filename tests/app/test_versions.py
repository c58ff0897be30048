"""What a run pins of its set, and what differs between two versions; a photo that is set aside is trained nowhere."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.app.conftest import picture, problem_of, put
from tests.app.test_masks import mask_png

BOX = {"left": 0.25, "top": 0.0, "right": 0.75, "bottom": 1.0}


@pytest.fixture
def photos(client: TestClient, project: int) -> list[int]:
    colours = ("red", "green", "blue")
    return [int(put(client, project, f"{each}.png", picture(each)).json()["id"]) for each in colours]


def run(client: TestClient, project: int) -> Any:
    answer = client.post(f"/api/projects/{project}/runs", json={"steps": 3})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_run_pins_crops_captions_masks_and_boxes(client: TestClient, project: int, photos: list[int]) -> None:
    client.patch(f"/api/photos/{photos[0]}", json={"crops": [BOX, {"box": [0, 0, 0.5, 0.5]}], "caption": "a red can"})
    client.patch(f"/api/photos/{photos[0]}", json={"subject": [0.1, 0.1, 0.4, 0.4]})
    client.put(f"/api/photos/{photos[0]}/mask", content=mask_png((80, 64)))
    pinned = run(client, project)["items"]
    red = next(item for item in pinned if item["name"] == "red.png")
    assert red["crop"] == BOX
    assert len(red["crops"]) == 2
    assert (red["caption"], red["subject"]) == ("a red can", [0.1, 0.1, 0.4, 0.4])
    home = client.app.state.database.home  # type: ignore[attr-defined]
    assert home.mask(red["mask"]).is_file()
    assert [item["mask"] for item in pinned if item["name"] != "red.png"] == [None, None]


def test_a_photo_set_aside_is_kept_and_trained_nowhere(client: TestClient, project: int, photos: list[int]) -> None:
    client.patch(f"/api/photos/{photos[1]}", json={"aside": True})
    about = client.get(f"/api/projects/{project}").json()
    assert (about["photos"], about["aside"]) == (2, 1)
    assert [item["name"] for item in run(client, project)["items"]] == ["blue.png", "red.png"]
    job = client.post(f"/api/projects/{project}/captions", json={}).json()["job_id"]
    database = client.app.state.database  # type: ignore[attr-defined]
    from app.jobs import store

    with database.read() as session:
        assert store.get(session, job).params["photo_ids"] == [photos[0], photos[2]]
    error = problem_of(client.post(f"/api/projects/{project}/captions", json={"photos": photos[1:2]}), 422)
    assert "set aside" in error["message"]
    client.post(f"/api/projects/{project}/edits", json={"photos": photos, "set": {"aside": True}})
    assert "nothing to train on" in problem_of(client.post(f"/api/projects/{project}/runs", json={}), 422)["message"]
    assert len(client.get(f"/api/projects/{project}/photos").json()) == 3


def test_the_difference_of_two_versions_is_shown(client: TestClient, project: int, photos: list[int]) -> None:
    first = run(client, project)
    client.patch(f"/api/photos/{photos[0]}", json={"caption": "a red can", "crop": BOX})
    client.put(f"/api/photos/{photos[0]}/mask", content=mask_png((80, 64)))
    client.delete(f"/api/photos/{photos[1]}")
    put(client, project, "white.png", picture("white"))
    run(client, project)
    before, after = client.get(f"/api/projects/{project}/versions").json()
    assert (before["photos"], before["runs"]) == (3, [{"id": first["id"], "name": first["name"]}])
    assert client.get(f"/api/projects/{project}/versions?after={before['id']}&limit=1").json() == [after]
    path = f"/api/projects/{project}/versions/difference"
    found = client.get(f"{path}?before={before['id']}&after={after['id']}").json()
    assert [one["name"] for one in found["added"]] == ["white.png"]
    assert [one["name"] for one in found["removed"]] == ["green.png"]
    (caption,) = found["captions"]
    assert (caption["name"], caption["before"], caption["after"]) == ("red.png", "a photo of sks can", "a red can")
    assert [(one["before"], one["after"]) for one in found["crops"]] == [([], [BOX])]
    (mask,) = found["masks"]
    assert mask["before"] is None
    assert len(mask["after"]) == 64
    now = client.get(f"{path}?before={after['id']}").json()
    assert [now[what] for what in ("added", "removed", "captions", "crops", "masks")] == [[]] * 5
    problem_of(client.get(f"{path}?before=99"), 404)


def test_a_deleted_photo_of_a_run_and_its_mask_stay_on_the_disk(
    client: TestClient, project: int, photos: list[int]
) -> None:
    client.put(f"/api/photos/{photos[0]}/mask", content=mask_png((80, 64)))
    item = next(each for each in run(client, project)["items"] if each["mask"])
    client.delete(f"/api/photos/{photos[0]}")
    client.delete(f"/api/projects/{project}/edits")
    home = client.app.state.database.home  # type: ignore[attr-defined]
    assert home.mask(item["mask"]).is_file()
    assert home.photo(item["sha256"], "png").is_file()
