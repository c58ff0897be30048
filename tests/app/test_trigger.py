"""A project's trigger and its captions: another trigger takes the old one's place, captions without it are reported."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

from tests.app.conftest import picture


def captioned(client: TestClient, *texts: str) -> tuple[int, list[int]]:
    """A project with the trigger sks, and a photo for each caption."""
    project = client.post("/api/projects", json={"name": "Can", "trigger": "sks", "class_word": "can"}).json()["id"]
    photos = []
    for number, text in enumerate(texts):
        body = picture((number, 90, 200))
        photos.append(client.put(f"/api/projects/{project}/photos/{number}.png", content=body).json()["id"])
        client.patch(f"/api/photos/{photos[-1]}", json={"caption": text})
    return project, photos


def captions(client: TestClient, project: int) -> list[str | None]:
    return [photo["caption"] for photo in client.get(f"/api/projects/{project}/photos").json()]


def test_a_new_trigger_takes_the_old_ones_place_where_that_is_chosen(client: TestClient) -> None:
    project, photos = captioned(client, "a photo of Sks can", "tasks for sks, sks", "a red can", "")
    assert client.get(f"/api/projects/{project}").json()["captions_with_trigger"] == 2
    kept = client.patch(f"/api/projects/{project}", json={"trigger": "zwx"}).json()
    assert (kept["trigger"], kept["captions_with_trigger"]) == ("zwx", 0)
    assert captions(client, project)[0] == "a photo of Sks can"
    client.patch(f"/api/projects/{project}", json={"trigger": "sks"})
    body = {"trigger": "ohwx man", "name": "Man", "replace_in_captions": True}
    assert client.patch(f"/api/projects/{project}", json=body).json()["captions_with_trigger"] == 2
    assert captions(client, project) == ["a photo of ohwx man can", "tasks for ohwx man, ohwx man", "a red can", None]
    history = client.get(f"/api/photos/{photos[0]}/captions").json()
    assert [each["text"] for each in history] == ["a photo of ohwx man can", "a photo of Sks can"]


def test_a_trigger_that_makes_a_caption_too_long_changes_nothing(client: TestClient) -> None:
    project, _ = captioned(client, "a sks can", "sks " + "x" * 1990)
    answer = client.patch(f"/api/projects/{project}", json={"trigger": "y" * 40, "replace_in_captions": True})
    assert answer.status_code == 422
    (problem,) = answer.json()["error"]["problems"]
    assert problem == {
        "field": "trigger",
        "message": "makes the caption of 1.png too long: 2031 characters; at most 2000",
    }
    assert client.get(f"/api/projects/{project}").json()["trigger"] == "sks"
    assert captions(client, project)[0] == "a sks can"


def test_the_form_says_how_many_captions_lack_the_trigger(client: TestClient) -> None:
    project, photos = captioned(client, "a photo of sks can", "a red can", "")

    def advice() -> str:
        return str(client.get(f"/api/projects/{project}/suggestion", params={"model": "pocket"}).json()["advice"])

    assert advice().startswith("1 of 3 captions lacks the trigger word 'sks'")  # the empty one gets the template
    client.patch(f"/api/photos/{photos[1]}", json={"caption": "a red sks can"})
    assert advice() == ""


def test_the_log_of_a_run_says_so_too(start_studio: Any) -> None:
    studio = start_studio()
    project = studio.project_with_photos(2)
    photo = studio.get(f"/api/projects/{project}/photos")[0]["id"]
    studio.http.patch(f"/api/photos/{photo}", json={"caption": "a red can"})
    run = studio.run(project, steps=1)["id"]
    studio.until_state(run, "succeeded")
    assert "1 of 2 captions lacks the trigger word 'sks'" in studio.log(run)


def test_a_word_is_suggested_that_no_other_project_has(client: TestClient) -> None:
    first, _ = captioned(client)  # its trigger is sks
    assert client.get("/api/trigger", params={"name": "Zyggo"}).json() == {"trigger": "zyggo"}
    other = client.get("/api/trigger", params={"name": "Miso"}).json()["trigger"]
    assert other != "sks"
    assert client.get("/api/trigger", params={"name": "Miso", "project": first}).json() == {"trigger": "sks"}
    assert client.get("/api/trigger").json() == {"trigger": other}
