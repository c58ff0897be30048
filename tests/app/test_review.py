"""The review of a set: one job for all photos that were not reviewed, in a process of its own."""

from __future__ import annotations

import io
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFilter
from starlette.testclient import TestClient

from app.main import create_app
from tests.app.conftest import PROJECT, Studio, fields, picture, problem_of, put, until
from tests.app.test_masks import mask_png

PLACES = ((40, 30), (240, 150), (230, 30), (60, 150), (150, 90), (20, 90), (270, 90), (150, 170))
COLOURS = ("navy", "darkgreen", "maroon", "teal", "olive", "purple", "sienna", "black")


def scene(number: int, shift: int = 0, size: tuple[int, int] = (400, 320)) -> bytes:
    """A bright thing on a cluttered ground; each number another place and ground."""
    chance = random.Random(number)
    image = Image.new("RGB", size, COLOURS[number % len(COLOURS)])
    draw = ImageDraw.Draw(image)
    for _ in range(25):
        x, y = chance.randrange(400), chance.randrange(320)
        colour = tuple(chance.randrange(30, 150) for _ in range(3))
        draw.rectangle((x, y, x + chance.randrange(20, 160), y + chance.randrange(20, 120)), fill=colour)
    left, top = PLACES[number % len(PLACES)]
    left, top = left + shift, top + shift
    draw.ellipse((left, top, left + 110, top + 130), fill=(250, 210, 40))
    draw.rectangle((left + 35, top + 40, left + 75, top + 90), fill=(200, 30, 30))
    content = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(0.6)).save(content, "PNG")
    return content.getvalue()


def upload(studio: Studio, project: int, name: str, content: bytes) -> int:
    answer = studio.http.put(f"/api/projects/{project}/photos/{name}", content=content)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def reviewed(studio: Studio, project: int) -> Any:
    """The review, once it is done."""

    def look() -> Any:
        found = studio.get(f"/api/projects/{project}/review")
        assert found["state"] != "stopped", found
        return found if found["state"] == "done" else None

    return until(look)


def checks(studio: Studio, project: int) -> list[Any]:
    return [one for one in studio.get(f"/api/jobs?project={project}&kind=check")]


def test_an_empty_project_is_done_and_a_photo_waits_for_its_review(client: TestClient, project: int) -> None:
    path = f"/api/projects/{project}/review"
    empty = client.get(path).json()
    assert (empty["state"], empty["job_id"], empty["counts"]) == ("done", None, {"photos": 0, "good": 0, "aside": 0})
    ids = [put(client, project, f"{each}.png", picture(each)).json()["id"] for each in ("red", "green")]
    waiting = client.get(path).json()
    assert (waiting["state"], waiting["counts"]["photos"]) == ("running", 2)
    jobs = client.get(f"/api/jobs?project={project}&kind=check").json()
    assert [(one["id"], one["lane"], one["state"]) for one in jobs] == [(waiting["job_id"], "io", "queued")]
    client.patch(f"/api/photos/{ids[0]}", json={"aside": True})
    assert client.post(path).json() == {"job_id": waiting["job_id"]}
    assert client.get(path).json()["counts"] == {"photos": 2, "good": 0, "aside": 1}
    assert "still being looked at" in problem_of(client.get(f"/api/projects/{project}/pick?count=1"), 409)["message"]
    client.post(f"/api/jobs/{waiting['job_id']}/stop")
    assert client.get(path).json()["state"] == "stopped"
    assert client.post(path).json()["job_id"] != waiting["job_id"]
    problem_of(client.get("/api/projects/99/review"), 404)


def test_a_caption_needs_no_new_review(client: TestClient, project: int) -> None:
    photo = put(client, project, "red.png", picture()).json()["id"]
    job = client.get(f"/api/projects/{project}/review").json()["job_id"]
    client.post(f"/api/jobs/{job}/stop")
    client.patch(f"/api/photos/{photo}", json={"caption": "a", "crop": [0, 0, 0.5, 0.5]})
    assert client.get(f"/api/projects/{project}/review").json()["job_id"] is None
    client.patch(f"/api/photos/{photo}", json={"aside": True})
    assert client.get(f"/api/projects/{project}/review").json()["job_id"] is not None


@pytest.mark.slow
def test_a_set_is_reviewed_judged_and_judged_again(shared_studio: Studio) -> None:
    studio = shared_studio
    project = studio.post("/api/projects", {"name": "A", "trigger": "sks", "class_word": "toy"}, 201)["id"]
    ids = [upload(studio, project, f"{number}.png", scene(number)) for number in range(6)]
    twin = upload(studio, project, "twin.png", scene(2, shift=3))
    found = reviewed(studio, project)
    assert found["counts"]["photos"] == 7
    assert found["verdict"]["title"]
    assert found["verdict"]["words"]
    alike = [one for one in found["findings"] if one["kind"] in ("near_duplicate", "duplicate")]
    assert [sorted(one["photos"]) for one in alike] == [sorted([ids[2], twin])]
    assert alike[0]["keep"] in (ids[2], twin)
    assert alike[0]["action"] == "set_aside"
    assert 0 <= alike[0]["sure"] <= 1
    for photo in studio.get(f"/api/projects/{project}/photos"):
        subject = studio.get(f"/api/photos/{photo['id']}/subject")
        assert subject["source"] == "found"
        if subject["box"] is not None:
            left, top, right, bottom = subject["box"]
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            mask = Image.open(io.BytesIO(studio.http.get(f"/api/photos/{photo['id']}/mask").content))
            assert (mask.mode, mask.size) == ("L", (400, 320))
    assert any(one["mask"] == "found" for one in studio.get(f"/api/projects/{project}/photos"))

    repeated = [each for each in alike[0]["photos"] if each != alike[0]["keep"]]
    studio.post(f"/api/projects/{project}/edits", {"photos": repeated, "set": {"aside": True}}, 200)
    again = reviewed(studio, project)
    assert again["counts"]["aside"] == 1
    assert not [one for one in again["findings"] if one["kind"] in ("near_duplicate", "duplicate")]
    studio.post(f"/api/projects/{project}/undo", status=200)
    back = reviewed(studio, project)
    before = studio.get(f"/api/projects/{project}/photos")
    assert studio.http.delete(f"/api/photos/{ids[0]}").status_code == 204
    studio.post(f"/api/projects/{project}/undo", status=200)
    assert studio.get(f"/api/projects/{project}/photos") == before, "with the subject that was found, at once"
    reviewed(studio, project)
    assert [one["kind"] for one in back["findings"]] == [one["kind"] for one in found["findings"]]
    kinds = {one["kind"] for one in studio.get("/api/jobs") if one["project_id"] == project}
    assert kinds == {"check"}
    assert len(checks(studio, project)) <= 2, "jobs of earlier judgements are not kept"

    picked = studio.get(f"/api/projects/{project}/pick?count=3")
    assert len(set(picked["keep"])) == 3
    assert sorted(picked["keep"] + picked["set_aside"]) == sorted([*ids, twin])
    assert not set(alike[0]["photos"]) <= set(picked["keep"]), "of two that are alike one at most is among the best"
    studio.post(f"/api/projects/{project}/edits", picked["edit"], 200)
    assert studio.get(f"/api/projects/{project}")["photos"] == 3
    reviewed(studio, project)
    assert fields(problem_of(studio.http.get(f"/api/projects/{project}/pick?count=9"), 422)) == ["count"]
    error = problem_of(studio.http.get(f"/api/projects/{project}/pick?count=1.000"), 422)
    assert error["problems"][0]["message"] == "is '1.000'; write it without separators: 1000"


@pytest.mark.slow
def test_a_photo_whose_file_is_gone_is_left_out_with_a_sentence(
    tmp_path: Path, start_studio: Callable[..., Studio]
) -> None:
    with TestClient(create_app(tmp_path / "home", with_jobs=False), base_url="http://127.0.0.1") as client:
        project = client.post("/api/projects", json=PROJECT).json()["id"]
        ids = [put(client, project, f"{number}.png", scene(number)).json()["id"] for number in range(2)]
        view = client.get(f"/api/photos/{ids[0]}").json()
        client.app.state.database.home.photo(view["sha256"], "png").unlink()  # type: ignore[attr-defined]
    studio = start_studio()
    found = reviewed(studio, project)
    assert found["counts"]["photos"] == 2
    log = (studio.home / "logs" / f"review-{project}.txt").read_text()
    assert "0.png is gone from the disk." in log
    assert studio.get(f"/api/photos/{ids[1]}/subject")["source"] == "found"


@pytest.mark.slow
def test_a_photo_that_another_project_has_is_analysed_once(shared_studio: Studio) -> None:
    studio = shared_studio
    for name in ("A", "B"):
        project = studio.post("/api/projects", {"name": name, "trigger": "sks", "class_word": "toy"}, 201)["id"]
        upload(studio, project, "0.png", scene(0))
        reviewed(studio, project)
    with closing(sqlite3.connect(studio.home / "likeness.db")) as connection:
        of_it = "SELECT count(*) FROM analysis WHERE sha256 = (SELECT sha256 FROM photo WHERE project_id = ?)"
        assert connection.execute(of_it, (project,)).fetchone() == (1,)


@pytest.mark.slow
def test_a_run_trains_with_the_subjects_crop_and_the_masks(shared_studio: Studio) -> None:
    studio = shared_studio
    project = studio.post("/api/projects", {"name": "A", "trigger": "sks", "class_word": "toy"}, 201)["id"]
    ids = [upload(studio, project, f"{number}.png", scene(20 + number)) for number in range(3)]
    assert studio.http.put(f"/api/photos/{ids[0]}/mask", content=mask_png((400, 320))).status_code == 200
    crops = [[0, 0, 0.6, 1], [0.1, 0.1, 0.4, 0.6]]
    assert studio.http.patch(f"/api/photos/{ids[1]}", json={"crops": crops}).status_code == 200
    run = studio.run(project, steps=2, background_weight=0.3)["id"]  # at once: the review is not done yet
    studio.until_state(run, "succeeded")
    detail = studio.get(f"/api/runs/{run}")
    assert not [item for item in detail["items"] if item.get("pending")], "the run waited for the review"
    log = studio.log(run)
    assert "Masks: " in log
    assert "4 crops" in log or "from 3 photos" in log, log
    first = next(item for item in detail["items"] if item["photo_id"] == ids[0])
    assert first["mask"] is not None
    again = studio.post(f"/api/runs/{run}/resume", {"steps": 3})
    assert again["state"] == "queued"
    studio.until_state(run, "succeeded")


@pytest.mark.slow
def test_a_box_that_you_draw_finds_its_mask_and_your_mask_its_box(shared_studio: Studio) -> None:
    studio = shared_studio
    project = studio.post("/api/projects", {"name": "A", "trigger": "sks", "class_word": "toy"}, 201)["id"]
    photo = upload(studio, project, "0.png", scene(0))
    reviewed(studio, project)
    path = f"/api/photos/{photo}"
    found = studio.get(f"{path}/subject")
    box = [0.05, 0.05, 0.45, 0.55]  # around the bright thing at (40, 30) to (150, 160) of 400 x 320
    studio.http.patch(path, json={"subject": box})
    reviewed(studio, project)
    mask = Image.open(io.BytesIO(studio.http.get(f"{path}/mask").content))
    left, top, right, bottom = mask.point(lambda grey: 255 * (grey == 255)).getbbox() or (0, 0, 0, 0)
    assert 0.04 * 400 <= left < right <= 0.46 * 400
    assert 0.04 * 320 <= top < bottom <= 0.56 * 320
    assert mask.getpixel((95, 95)) == 255, "the middle of the thing"
    studio.http.patch(path, json={"subject": None})
    reviewed(studio, project)
    assert studio.get(f"{path}/subject") == found

    assert studio.http.put(f"{path}/mask", content=mask_png((400, 320))).status_code == 200
    assert studio.get(f"{path}/subject") == {
        "box": [4 / 400, 4 / 320, 21 / 400, 31 / 320],
        "source": "you",
        "sure": 1.0,
    }
    reviewed(studio, project)
    studio.http.delete(f"{path}/mask")
    reviewed(studio, project)
    assert studio.get(f"{path}/subject") == found
    assert studio.http.get(f"{path}/mask").headers["x-mask-source"] == "found"


def test_a_project_whose_photos_are_being_reviewed_can_be_deleted(client: TestClient, project: int) -> None:
    from app.jobs import store
    from app.jobs.process import ProcessName
    from app.jobs.states import Lane

    database = client.app.state.database  # type: ignore[attr-defined]
    put(client, project, "red.png", picture())
    assert store.claim(database, Lane.IO, ProcessName.own()) is not None
    assert client.get(f"/api/projects/{project}").json()["working"] is False
    assert client.delete("/api/cache").status_code == 200
    assert client.delete(f"/api/projects/{project}").status_code == 204
    assert client.get("/api/jobs").json() == []
