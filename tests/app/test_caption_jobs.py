"""Captions as a job: one step of undo, a preview that writes nothing, and photos that are left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.app.conftest import Studio, picture, until


def ended(studio: Studio, job: int) -> Any:
    found = until(lambda: (one := studio.get(f"/api/jobs/{job}"))["state"] not in ("queued", "running") and one)
    assert found["state"] == "succeeded", found
    return found


def captions(studio: Studio, project: int) -> list[str | None]:
    return [one["caption"] for one in studio.get(f"/api/projects/{project}/photos")]


@pytest.mark.slow
def test_captions_of_a_job_are_previewed_written_and_undone_as_one_step(start_studio: Callable[..., Studio]) -> None:
    studio = start_studio()
    project = studio.project_with_photos(4)
    ids = [one["id"] for one in studio.get(f"/api/projects/{project}/photos")]
    studio.http.patch(f"/api/photos/{ids[0]}", json={"caption": "mine"})
    studio.http.patch(f"/api/photos/{ids[3]}", json={"aside": True})
    steps = studio.get(f"/api/projects/{project}/edits")

    wanted = {"template": "{trigger} on a table", "preview": True, "photos": ids[:2], "overwrite": True}
    preview = ended(studio, studio.post(f"/api/projects/{project}/captions", wanted)["job_id"])
    assert preview["result"]["captions"] == [{"photo": each, "text": "sks on a table"} for each in ids[:2]]
    assert captions(studio, project) == ["mine", None, None, None]
    assert studio.get(f"/api/projects/{project}/edits") == steps
    texts = {str(each["photo"]): each["text"] for each in preview["result"]["captions"][1:]}
    studio.post(f"/api/projects/{project}/edits", {"photos": ids, "set": {"captions": texts}}, 200)
    assert captions(studio, project) == ["mine", "sks on a table", None, None]
    studio.post(f"/api/projects/{project}/undo", status=200)

    written = ended(studio, studio.post(f"/api/projects/{project}/captions", {})["job_id"])
    assert written["result"]["written"] == 2
    assert captions(studio, project) == ["mine", "a photo of sks can", "a photo of sks can", None]
    newest = studio.get(f"/api/projects/{project}/edits")[0]
    assert (newest["words"], newest["photos"]) == ("captions of 2 photos by template", ids[1:3])
    studio.http.patch(f"/api/photos/{ids[1]}", json={"caption": "by hand"})
    for _ in range(2):
        studio.post(f"/api/projects/{project}/undo", status=200)
    assert captions(studio, project) == ["mine", None, None, None]
    for _ in range(2):
        studio.post(f"/api/projects/{project}/redo", status=200)
    assert captions(studio, project) == ["mine", "by hand", "a photo of sks can", None]


@pytest.mark.slow
def test_the_studio_remembers_what_can_be_undone(start_studio: Callable[..., Studio]) -> None:
    studio = start_studio()
    project = studio.project_with_photos(2)
    photo = studio.get(f"/api/projects/{project}/photos")[0]["id"]
    assert studio.http.delete(f"/api/photos/{photo}").status_code == 204
    studio.end()
    studio = start_studio()
    studio.post(f"/api/projects/{project}/undo", status=200)
    assert studio.http.get(f"/api/photos/{photo}/file").content == picture((0, 90, 200))
