"""Undo and redo: every change of a set is a step, and undo returns the exact state."""

from __future__ import annotations

import random
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.app.conftest import fields, picture, problem_of, put
from tests.app.test_masks import mask_png

BOX = {"left": 0.25, "top": 0.0, "right": 0.75, "bottom": 1.0}
CLOSE = {"left": 0.4, "top": 0.4, "right": 0.6, "bottom": 0.6}


def state(client: TestClient, project: int) -> Any:
    """Everything that undo has to bring back: photos, history of captions, masks, the project's words."""
    photos = client.get(f"/api/projects/{project}/photos").json()
    captions = {one["id"]: client.get(f"/api/photos/{one['id']}/captions").json() for one in photos}
    masks = {one["id"]: client.get(f"/api/photos/{one['id']}/mask").content for one in photos if one["mask"]}
    about = client.get(f"/api/projects/{project}").json()
    return photos, captions, masks, {name: about[name] for name in ("name", "trigger", "class_word", "photos", "aside")}


def add(client: TestClient, project: int, number: int) -> int:
    answer = put(client, project, f"{number}.png", picture((number % 256, number // 256, 77)))
    assert answer.status_code == 201
    return int(answer.json()["id"])


def undo(client: TestClient, project: int) -> Any:
    answer = client.post(f"/api/projects/{project}/undo")
    assert answer.status_code == 200, answer.text
    return answer.json()


def redo(client: TestClient, project: int) -> Any:
    answer = client.post(f"/api/projects/{project}/redo")
    assert answer.status_code == 200, answer.text
    return answer.json()


def edit(client: TestClient, project: int, photos: Any, **values: Any) -> Any:
    return client.post(f"/api/projects/{project}/edits", json={"photos": photos, "set": values})


def test_nothing_to_undo_is_a_sentence(client: TestClient, project: int) -> None:
    assert "nothing to undo" in problem_of(client.post(f"/api/projects/{project}/undo"), 409)["message"]
    assert "nothing to redo" in problem_of(client.post(f"/api/projects/{project}/redo"), 409)["message"]
    problem_of(client.post("/api/projects/99/undo"), 404)


@pytest.mark.parametrize(
    "change",
    [
        {"caption": "a red thing"},
        {"crop": BOX},
        {"crops": [{"box": BOX}, {"box": CLOSE}]},
        {"aside": True},
        {"subject": [0.1, 0.2, 0.6, 0.9]},
        {"caption": "two at once", "aside": True, "crop": CLOSE},
    ],
)
def test_a_change_of_a_photo_is_undone_and_done_again(client: TestClient, project: int, change: dict[str, Any]) -> None:
    photo = add(client, project, 1)
    before = state(client, project)
    assert client.patch(f"/api/photos/{photo}", json=change).status_code == 200
    after = state(client, project)
    assert after != before
    said = undo(client, project)
    assert said["done"].startswith("Undone: ")
    assert said["photos"] == [photo]
    assert state(client, project) == before
    redo(client, project)
    assert state(client, project) == after
    problem_of(client.post(f"/api/projects/{project}/redo"), 409)


def test_a_change_that_changes_nothing_is_no_step(client: TestClient, project: int) -> None:
    photo = add(client, project, 1)
    client.patch(f"/api/photos/{photo}", json={"aside": False, "crop": None, "caption": ""})
    assert [one["words"] for one in client.get(f"/api/projects/{project}/edits").json()] == ["1.png added"]


def test_a_deleted_photo_comes_back_with_its_captions_and_its_mask(client: TestClient, project: int) -> None:
    photo = add(client, project, 1)
    client.patch(f"/api/photos/{photo}", json={"caption": "first", "crop": BOX})
    client.put(f"/api/photos/{photo}/mask", content=mask_png((80, 64)))
    before = state(client, project)
    assert client.delete(f"/api/photos/{photo}").status_code == 204
    problem_of(client.get(f"/api/photos/{photo}"), 404)
    undo(client, project)
    assert state(client, project) == before
    assert client.get(f"/api/photos/{photo}/file").status_code == 200
    redo(client, project)
    assert client.get(f"/api/projects/{project}/photos").json() == []


def test_an_added_photo_goes_and_comes_back(client: TestClient, project: int) -> None:
    add(client, project, 1)
    after = state(client, project)
    assert undo(client, project)["views"] == []
    assert client.get(f"/api/projects/{project}/photos").json() == []
    assert redo(client, project)["views"] == after[0]
    assert state(client, project) == after


def test_photos_of_one_drop_are_one_step(client: TestClient, project: int) -> None:
    for number in range(3):
        content = picture((number, 0, 0))
        client.put(f"/api/projects/{project}/photos/{number}.png?batch=drop-1", content=content)
    (step,) = client.get(f"/api/projects/{project}/edits").json()
    assert step["words"] == "3 photos added"
    undo(client, project)
    assert client.get(f"/api/projects/{project}/photos").json() == []
    redo(client, project)
    assert len(client.get(f"/api/projects/{project}/photos").json()) == 3


def test_typing_on_is_one_step_where_the_page_says_so(client: TestClient, project: int) -> None:
    photo = add(client, project, 1)
    for text in ("a", "a r", "a red"):
        client.patch(f"/api/photos/{photo}", json={"caption": text, "typing": True})
    undo(client, project)
    assert client.get(f"/api/photos/{photo}").json()["caption"] is None
    redo(client, project)
    assert client.get(f"/api/photos/{photo}").json()["caption"] == "a red"
    client.patch(f"/api/photos/{photo}", json={"caption": "a red can"})
    undo(client, project)
    assert client.get(f"/api/photos/{photo}").json()["caption"] == "a red"


def test_a_new_change_forgets_what_was_undone(client: TestClient, project: int) -> None:
    photo = add(client, project, 1)
    client.patch(f"/api/photos/{photo}", json={"caption": "one"})
    undo(client, project)
    client.patch(f"/api/photos/{photo}", json={"aside": True})
    problem_of(client.post(f"/api/projects/{project}/redo"), 409)
    assert [one["words"] for one in client.get(f"/api/projects/{project}/edits").json()] == [
        "1.png set aside",
        "1.png added",
    ]


def test_a_trigger_that_is_replaced_in_captions_is_undone_with_them(client: TestClient, project: int) -> None:
    photo = add(client, project, 1)
    client.patch(f"/api/photos/{photo}", json={"caption": "a photo of sks can"})
    before = state(client, project)
    client.patch(f"/api/projects/{project}", json={"trigger": "zkz", "replace_in_captions": True})
    assert client.get(f"/api/photos/{photo}").json()["caption"] == "a photo of zkz can"
    undo(client, project)
    assert state(client, project) == before


def mixed_change(client: TestClient, project: int, chance: random.Random, number: int) -> None:
    """One of the ways in which a person changes a set."""
    photos = client.get(f"/api/projects/{project}/photos").json()
    if not photos or chance.random() < 0.15:
        add(client, project, 1000 + number)
        return
    one = chance.choice(photos)
    some = [each["id"] for each in chance.sample(photos, chance.randint(1, len(photos)))]
    path = f"/api/photos/{one['id']}"
    ways = [
        lambda: client.patch(path, json={"caption": f"caption {number}"}),
        lambda: client.patch(path, json={"crop": chance.choice([BOX, CLOSE, None])}),
        lambda: client.patch(path, json={"crops": [BOX, CLOSE]}),
        lambda: client.patch(path, json={"aside": not one["aside"]}),
        lambda: client.patch(path, json={"subject": [0.1, 0.1, 0.5 + number / 1000, 0.9]}),
        lambda: client.put(f"{path}/mask", content=mask_png((80, 64), number)),
        lambda: client.delete(f"{path}/mask"),
        lambda: client.delete(path),
        lambda: edit(client, project, some, caption=f"all {number}"),
        lambda: edit(client, project, some, find="caption", replace="text"),
        lambda: edit(client, project, some, prefix="close-up,", suffix=", at night"),
        lambda: edit(client, project, some, aside=chance.random() < 0.5),
        lambda: edit(client, project, some, crop=BOX),
    ]
    answer = chance.choice(ways)()
    assert answer.status_code in (200, 204), answer.text


@pytest.mark.slow
def test_200_mixed_changes_are_undone_exactly_and_done_again_exactly(client: TestClient, project: int) -> None:
    chance = random.Random(7)
    for number in range(6):
        add(client, project, number)
    start = state(client, project)
    first = len(client.get(f"/api/projects/{project}/edits").json())
    for number in range(200):
        mixed_change(client, project, chance, number)
    end = state(client, project)
    steps = len(client.get(f"/api/projects/{project}/edits").json()) - first
    assert steps > 150, "most of the changes change something"
    for _ in range(steps):
        undo(client, project)
    assert state(client, project) == start
    for _ in range(steps):
        redo(client, project)
    assert state(client, project) == end


# ---- history of a caption, other pages, files ------------------------------------------------------------------------


def test_an_earlier_caption_is_written_again(client: TestClient, project: int) -> None:
    photo = add(client, project, 1)
    edit(client, project, [photo], caption="the first")
    edit(client, project, [photo], caption="the second")
    path = f"/api/photos/{photo}/captions"
    first = client.get(path).json()[-1]
    assert client.post(f"{path}/{first['id']}/restore").json()["caption"] == "the first"
    undo(client, project)
    assert client.get(f"/api/photos/{photo}").json()["caption"] == "the second"
    other = add(client, project, 2)
    assert fields(problem_of(client.post(f"/api/photos/{other}/captions/{first['id']}/restore"), 422)) == ["caption_id"]


def test_other_pages_of_the_project_are_sent_each_change(client: TestClient, project: int) -> None:
    from app.events import EventFilter, batch_after

    database = client.app.state.database  # type: ignore[attr-defined]
    photo = add(client, project, 1)
    client.patch(f"/api/photos/{photo}", json={"aside": True})
    undo(client, project)
    seen = [one for one in batch_after(database, EventFilter(project_id=project), 0).rows if one["kind"] == "edit"]
    assert [(one["payload"]["words"], one["payload"]["undone"]) for one in seen] == [
        ("1.png added", False),
        ("1.png set aside", False),
        ("1.png set aside", True),
    ]
    assert seen[-1]["payload"] | {"photos": []} == {
        "words": "1.png set aside",
        "undone": True,
        "photos": [],
        "undo": "1.png added",
        "redo": "1.png set aside",
    }
    assert batch_after(database, EventFilter(project_id=project + 1), 0).rows == []


def test_files_of_deleted_photos_stay_until_their_steps_are_forgotten(client: TestClient, project: int) -> None:
    from app.actions import unreferenced

    database = client.app.state.database  # type: ignore[attr-defined]
    photo = add(client, project, 1)
    client.delete(f"/api/photos/{photo}")
    assert unreferenced.move_all(database) == 0
    assert len(list(database.home.photos.iterdir())) == 1
    assert client.delete(f"/api/projects/{project}/edits").json() == {"steps": 2}
    problem_of(client.post(f"/api/projects/{project}/undo"), 409)
    assert list(database.home.photos.iterdir()) == []
    assert [path.suffix for path in database.home.trash.rglob("*") if path.is_file()] == [".png"]


def test_typing_that_ends_where_it_began_is_no_step(client: TestClient, project: int) -> None:
    photo = add(client, project, 1)
    edit(client, project, [photo], caption="a red can")
    edit(client, project, [photo], caption="a can")
    for text in ("a c", "a can"):
        client.patch(f"/api/photos/{photo}", json={"caption": text, "typing": True})
    steps = [one["words"] for one in client.get(f"/api/projects/{project}/edits").json()]
    assert steps == ["the caption of 1.png", "the caption of 1.png", "1.png added"]


def test_the_oldest_steps_are_forgotten(client: TestClient, project: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.actions.edits.STEPS_AT_MOST", 3)
    photo = add(client, project, 1)
    for number in range(5):
        client.patch(f"/api/photos/{photo}", json={"caption": f"caption {number}"})
    for _ in range(3):
        undo(client, project)
    problem_of(client.post(f"/api/projects/{project}/undo"), 409)
    assert client.get(f"/api/photos/{photo}").json()["caption"] == "caption 1"
