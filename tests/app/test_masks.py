"""Masks of photos: what is taken, what is refused in words, and what a found one looks like."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageDraw
from starlette.testclient import TestClient

from app.actions import masks
from app.tables import Subject
from tests.app.conftest import fields, picture, problem_of, put


def mask_png(size: tuple[int, int], number: int = 0, mode: str = "L") -> bytes:
    """Background, a subject that differs by number, and a strip that is ignored."""
    image = Image.new("L", size, 128)
    draw = ImageDraw.Draw(image)
    draw.rectangle((4, 4, 20 + number % 40, 30), fill=255)
    draw.rectangle((0, 60, 79, 63), fill=0)
    content = io.BytesIO()
    image.convert(mode).save(content, "PNG")
    return content.getvalue()


def pixels(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.fixture
def photo(client: TestClient, project: int) -> int:
    return int(put(client, project, "red.png", picture()).json()["id"])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_mask_is_kept_as_three_greys(client: TestClient, photo: int, mode: str) -> None:
    view = client.put(f"/api/photos/{photo}/mask", content=mask_png((80, 64), mode=mode)).json()
    assert view["mask"] == "you"
    answer = client.get(view["mask_url"])
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-mask-source"] == "you"
    got = pixels(answer.content)
    assert (got.mode, got.size) == ("L", (80, 64))
    assert sorted(value for _, value in got.getcolors() or []) == [0, 128, 255]


def test_greys_between_count_as_the_nearest(client: TestClient, photo: int) -> None:
    image = Image.new("L", (80, 64))
    image.putdata([60, 100, 160, 200, 30, 250, 128, 255] * 640)
    content = io.BytesIO()
    image.save(content, "PNG")
    client.put(f"/api/photos/{photo}/mask", content=content.getvalue())
    got = pixels(client.get(f"/api/photos/{photo}/mask").content)
    assert [got.getpixel((x, 0)) for x in range(8)] == [0, 128, 128, 255, 0, 255, 128, 255]


def test_a_mask_that_cannot_be_used_is_refused_in_words(client: TestClient, photo: int) -> None:
    path = f"/api/photos/{photo}/mask"
    for content, words in [
        (mask_png((40, 64)), "40 x 64"),
        (b"not a picture", ""),
        (b"", ""),
        (picture("black", (80, 64)), "ignores all of the photo"),
    ]:
        error = problem_of(client.put(path, content=content), 422)
        assert fields(error) == ["mask"]
        assert words in error["message"]
    assert "no mask" in problem_of(client.get(path), 404)["message"]


def test_a_mask_is_removed_and_undone(client: TestClient, project: int, photo: int) -> None:
    path = f"/api/photos/{photo}/mask"
    client.put(path, content=mask_png((80, 64)))
    first = client.get(path).content
    client.put(path, content=mask_png((80, 64), 9))
    client.delete(path)
    problem_of(client.get(path), 404)
    client.post(f"/api/projects/{project}/undo")
    client.post(f"/api/projects/{project}/undo")
    assert client.get(path).content == first


def test_a_found_mask_is_shown_at_the_photos_size_until_there_is_an_own_one(client: TestClient, photo: int) -> None:
    database = client.app.state.database  # type: ignore[attr-defined]
    small = Image.new("L", (40, 32), 128)
    ImageDraw.Draw(small).ellipse((10, 8, 30, 24), fill=255)
    content = io.BytesIO()
    small.save(content, "PNG")
    sha256 = masks.keep(database.home, content.getvalue())
    with database.write() as session:
        session.add(Subject(photo_id=photo, project_id=1, box=[0.25, 0.25, 0.75, 0.75], sure=0.8, mask=sha256))
    answer = client.get(f"/api/photos/{photo}/mask")
    got = pixels(answer.content)
    assert answer.headers["x-mask-source"] == "found"
    assert got.size == (80, 64)
    assert sorted(value for _, value in got.getcolors() or []) == [128, 255]
    assert client.get(f"/api/photos/{photo}/subject").json() == {
        "box": [0.25, 0.25, 0.75, 0.75],
        "source": "found",
        "sure": 0.8,
    }
    client.put(f"/api/photos/{photo}/mask", content=mask_png((80, 64)))
    assert client.get(f"/api/photos/{photo}/mask").headers["x-mask-source"] == "you"
    client.delete(f"/api/photos/{photo}/mask")
    assert client.get(f"/api/photos/{photo}/mask").headers["x-mask-source"] == "found"


def test_your_box_of_the_subject_goes_before_the_found_one(client: TestClient, photo: int) -> None:
    path = f"/api/photos/{photo}"
    assert client.get(f"{path}/subject").json() == {"box": None, "source": "found", "sure": 0.0}
    client.patch(path, json={"subject": {"left": 0.1, "top": 0.2, "right": 0.5, "bottom": 0.9}})
    assert client.get(f"{path}/subject").json() == {"box": [0.1, 0.2, 0.5, 0.9], "source": "you", "sure": 1.0}
    client.patch(path, json={"subject": None})
    assert client.get(f"{path}/subject").json()["box"] is None
