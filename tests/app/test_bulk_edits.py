"""One change of many photos: checked as a whole, one step of undo."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.app.conftest import PROJECT, fields, problem_of
from tests.app.test_edits import BOX, CLOSE, add, edit, state, undo


@pytest.fixture
def three(client: TestClient, project: int) -> list[int]:
    ids = [add(client, project, number) for number in range(3)]
    for number, photo in enumerate(ids[:2]):
        client.patch(f"/api/photos/{photo}", json={"caption": f"a red can on table {number}"})
    return ids


def captions(client: TestClient, project: int) -> list[str | None]:
    return [one["caption"] for one in client.get(f"/api/projects/{project}/photos").json()]


def test_words_are_replaced_in_the_captions_of_many(client: TestClient, project: int, three: list[int]) -> None:
    said = edit(client, project, three, find="table", replace="kitchen table").json()
    assert captions(client, project) == ["a red can on kitchen table 0", "a red can on kitchen table 1", None]
    assert said["changed"] == three[:2]
    assert said["captions"][0] == {
        "photo": three[0],
        "before": "a red can on table 0",
        "after": "a red can on kitchen table 0",
    }
    assert said["done"] == "Captions of 2 photos."
    undo(client, project)
    assert captions(client, project) == ["a red can on table 0", "a red can on table 1", None]


def test_whole_words_and_any_case_are_a_choice(client: TestClient, project: int, three: list[int]) -> None:
    edit(client, project, three[:1], find="CAN", replace="tin", any_case=True)
    edit(client, project, three[:1], find="tabl", replace="desk", whole_words=True)
    assert captions(client, project)[0] == "a red tin on table 0"


def test_prefix_and_suffix_go_around_the_caption_in_force(client: TestClient, project: int, three: list[int]) -> None:
    edit(client, project, three, prefix="close-up,", suffix=", at night")
    assert captions(client, project) == [
        "close-up, a red can on table 0, at night",
        "close-up, a red can on table 1, at night",
        "close-up, a photo of sks can, at night",
    ]


def test_each_photo_can_get_a_caption_of_its_own(client: TestClient, project: int, three: list[int]) -> None:
    own = {str(three[0]): "one", str(three[2]): "three"}
    edit(client, project, three, captions=own)
    assert captions(client, project) == ["one", "a red can on table 1", "three"]
    undo(client, project)
    assert captions(client, project) == ["a red can on table 0", "a red can on table 1", None]


def test_a_preview_changes_nothing(client: TestClient, project: int, three: list[int]) -> None:
    before = state(client, project)
    body = {"photos": three, "set": {"caption": "x", "aside": True}, "preview": True}
    said = client.post(f"/api/projects/{project}/edits", json=body).json()
    assert [one["after"] for one in said["captions"]] == ["x", "x", "x"]
    assert state(client, project) == before


def test_many_are_set_aside_and_deleted_as_one_step(client: TestClient, project: int, three: list[int]) -> None:
    before = state(client, project)
    edit(client, project, three, aside=True)
    said = edit(client, project, three, deleted=True).json()
    assert said["undo"] == "3 photos deleted"
    assert client.get(f"/api/projects/{project}/photos").json() == []
    undo(client, project)
    undo(client, project)
    assert state(client, project) == before


def test_crops_go_to_the_subject_where_it_is_known(client: TestClient, project: int, three: list[int]) -> None:
    client.patch(f"/api/photos/{three[0]}", json={"subject": [0.6, 0.6, 0.9, 0.9]})
    said = edit(client, project, three, crop="subject").json()
    crop = client.get(f"/api/photos/{three[0]}").json()["crop"]
    assert crop["left"] <= 0.6
    assert crop["right"] >= 0.9
    assert crop["bottom"] >= 0.9
    assert crop["left"] > 0.1, "the crop moved to the subject"
    assert [one["photo"] for one in said["left_out"]] == three[1:]
    assert edit(client, project, three[:1], crop=None).json()["photos"][0]["crop"] is None
    refused = problem_of(edit(client, project, three[1:], crop="subject"), 422)
    assert fields(refused) == ["1.png", "2.png"]


def test_each_photo_can_get_crops_of_its_own_as_one_step(client: TestClient, project: int, three: list[int]) -> None:
    before = state(client, project)
    own = {str(three[0]): [{"box": BOX}, {"box": CLOSE}], str(three[2]): [{"box": CLOSE}]}
    said = edit(client, project, three, crops=own).json()
    assert [one["crops"] for one in said["photos"]] == [[BOX, CLOSE], [], [CLOSE]]
    assert (said["done"], said["changed"]) == ("Crops of 2 photos.", [three[0], three[2]])
    undone = undo(client, project)
    assert state(client, project) == before
    assert undone["views"] == [one for one in before[0] if one["id"] in said["changed"]]


def test_a_wrong_edit_changes_nothing_and_names_everything(client: TestClient, project: int, three: list[int]) -> None:
    other = int(client.post("/api/projects", json=PROJECT).json()["id"])
    stranger = add(client, other, 9)
    before = state(client, project)
    wrong = [
        (three, {}, ["set"]),
        ([], {"aside": True}, ["photos"]),
        ([*three, stranger, 999], {"aside": 1, "colour": "red"}, ["photos", "photos", "colour", "aside"]),
        (three, {"find": "", "replace": "x"}, ["find"]),
        (three, {"find": "x"}, ["replace"]),
        (three, {"caption": "x", "find": "y", "replace": "z"}, ["caption"]),
        (three, {"find": "red", "replace": "x" * 2000}, ["0.png", "1.png"]),
        (three, {"crop": {"left": 2}, "aside": True}, ["crop"]),
        (three, {"deleted": True, "aside": True}, ["deleted"]),
        (three, {"captions": {"999": "x"}}, ["captions"]),
        (three, {"subject": [0, 0, 1, 1]}, ["subject"]),
        (three, {"crops": [CLOSE]}, ["crops"]),
        (three, {"crops": {"999": [CLOSE]}}, ["crops"]),
        (three, {"crops": {str(three[1]): [CLOSE, CLOSE]}, "aside": True}, ["crops of 1.png"]),
        (three, {"crops": {str(three[0]): []}, "crop": None}, ["crop"]),
    ]
    for photos, values, named in wrong:
        assert fields(problem_of(edit(client, project, photos, **values), 422)) == named, values
    assert state(client, project) == before
