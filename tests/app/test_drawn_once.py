"""A picture without adapters is the same for every strength that it is compared with: it is drawn once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.app.conftest import Studio, picture, until

Start = Callable[..., Studio]
REQUEST = {"model": "tiny", "prompt": "sks can in the snow", "seed": 7, "width": 64, "height": 64, "steps": 2}


def draw(studio: Studio, **more: Any) -> list[dict[str, Any]]:
    """Draw, and return the pictures of this job."""
    job = studio.post("/api/pictures", REQUEST | more)["job_id"]
    until(lambda: studio.get(f"/api/jobs/{job}")["state"] == "succeeded")
    return [each for each in studio.get("/api/pictures") if each["job_id"] == job]


def mark(studio: Studio, drawn: dict[str, Any]) -> bytes:
    """Replace the file of a picture by another, which tells a copy of it from one that is drawn again."""
    content = picture("blue", (64, 64))
    (file,) = (studio.home / "pictures").glob(f"{drawn['job_id']}-{drawn['prompt_id']}.png")
    file.write_bytes(content)
    return content


def content(studio: Studio, drawn: dict[str, Any]) -> bytes:
    return studio.http.get(drawn["url"]).content


def test_the_picture_to_compare_with_is_drawn_once(start_studio: Start, tmp_path: Path) -> None:
    studio = start_studio()
    run = studio.run(studio.project_with_photos(), steps=2, learning_rate=0.05)["id"]
    studio.until_state(run, "succeeded")

    def compared(strength: float, **more: Any) -> list[dict[str, Any]]:
        return draw(studio, without=True, adapters=[{"run": run, "strength": strength}], **more)

    adapted, plain = compared(0.5)
    marked = mark(studio, plain)
    again, copied = compared(1.0)
    assert content(studio, copied) == marked
    assert content(studio, again) != content(studio, adapted)
    assert [each["strength"] for each in copied["recipe"]["adapters"]] == [0.0]
    assert {**copied["recipe"], "adapters": plain["recipe"]["adapters"]} == plain["recipe"]

    (none,) = draw(studio)  # with no adapter at all
    assert content(studio, none) == marked
    assert none["recipe"]["adapters"] == []
    (zero,) = compared(0.0)  # which is the picture without it
    assert content(studio, zero) == marked

    for other in ({"seed": 8}, {"steps": 3}, {"guidance": 1.5}, {"prompt": "sks can"}, {"width": 128}):
        drawn = compared(1.0, **other)[1]
        assert content(studio, drawn) != marked, other
        assert drawn["width"] == other.get("width", 64)
    assert content(studio, compared(1.0, base_precision="8-bit")[1]) != marked

    assert studio.http.delete(f"/api/pictures/{plain['id']}").status_code == 204
    assert content(studio, copied) == marked  # it has a file of its own
    for each in (copied, none, zero):
        assert studio.http.delete(f"/api/pictures/{each['id']}").status_code == 204
    assert content(studio, compared(1.0)[1]) != marked
