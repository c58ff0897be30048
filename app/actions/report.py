"""The pictures of a run's report: small copies, as text within the page, so that one file is all there is.

    shown     the samples of the checkpoint that one would draw with, SHOWN_PX wide
    strip     those of at most STEPS steps, evenly chosen, STRIP_PX wide; at most PROMPTS prompts
    photos    only where the user asks for them, PHOTO_PX wide, at most PHOTOS

So a report has at most some 6 MB however long its run was. It is made in a thread of the pool, one at a time, in a
second or two; so it needs no job of its own.
"""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from sqlmodel import col, select

from app.actions.run_views import RunDetail
from app.database import Database
from app.tables import Sample

SHOWN_PX, STRIP_PX, PHOTO_PX = 512, 192, 256
PROMPTS, STEPS, PHOTOS = 6, 10, 40
QUALITY = 80

_turn = threading.Lock()


@dataclass(frozen=True, slots=True)
class ReportPicture:
    """A picture within the page."""

    source: str  # data:image/webp;base64,...
    width: int
    height: int
    label: str


@dataclass(frozen=True, slots=True)
class StripRow:
    """The samples of one prompt, by step."""

    prompt: str
    pictures: tuple[ReportPicture | None, ...]  # None: not drawn, or its file is gone


@dataclass(frozen=True, slots=True)
class Pictures:
    """All pictures of a report."""

    shown: tuple[ReportPicture, ...]
    steps: tuple[int, ...]
    strip: tuple[StripRow, ...]
    photos: tuple[ReportPicture, ...]
    photos_left_out: int


def pictures_of(database: Database, detail: RunDetail, step: int | None, *, with_photos: bool) -> Pictures:
    """The pictures for the report of a run, of which the samples of `step` are shown large."""
    with database.read() as session:
        rows = session.exec(select(Sample).where(Sample.run_id == detail.id, col(Sample.step).is_not(None))).all()
    by_place = {(row.prompt_id, row.step or 0): row for row in rows}
    prompts = {each.prompt_id: each.prompt for each in detail.samples}
    numbers = sorted(prompts)[:PROMPTS]
    drawn = sorted({row.step or 0 for row in rows})
    large = max((each for each in drawn if step is None or each <= step), default=None)
    chosen = chosen_steps(drawn, large)
    with _turn:
        shown = [_sample(database, by_place.get((number, large or 0)), SHOWN_PX) for number in numbers]
        strip = tuple(
            StripRow(
                prompts[number],
                tuple(_sample(database, by_place.get((number, each)), STRIP_PX) for each in chosen),
            )
            for number in numbers
        )
        photos = _photos(database, detail) if with_photos else ()
    left_out = max(len(detail.items) - PHOTOS, 0) if with_photos else 0
    return Pictures(tuple(each for each in shown if each), tuple(chosen), strip, photos, left_out)


def chosen_steps(steps: Sequence[int], shown: int | None) -> list[int]:
    """At most STEPS of them, evenly, with the first, the last and the one that is shown large."""
    if len(steps) <= STEPS:
        return list(steps)
    even = [steps[round(number * (len(steps) - 1) / (STEPS - 1))] for number in range(STEPS)]
    if shown is not None and shown not in even:
        even[min(range(1, STEPS - 1), key=lambda place: abs(even[place] - shown))] = shown
    return sorted(even)


def _sample(database: Database, row: Sample | None, side_px: int) -> ReportPicture | None:
    if row is None:
        return None
    label = f"Step {row.step}: {row.prompt}"
    return _embedded(database.home.file(row.file), side_px, label)


def _photos(database: Database, detail: RunDetail) -> tuple[ReportPicture, ...]:
    """From the thumbnails, which are there for each photo and hold nothing of where and when it was taken."""
    first = list({item["sha256"]: item["name"] for item in detail.items}.items())[:PHOTOS]
    found = (_embedded(database.home.thumb(sha256), PHOTO_PX, name) for sha256, name in first)
    return tuple(each for each in found if each is not None)


def _embedded(path: Path, side_px: int, label: str) -> ReportPicture | None:
    """The picture in a square of that side; None for a file that is damaged or gone."""
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
    except OSError:
        return None
    return _as_text(small, side_px, label)


def _as_text(picture: Image.Image, side_px: int, label: str) -> ReportPicture:
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, "WEBP", quality=QUALITY, method=4)
    source = f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
    return ReportPicture(source, picture.width, picture.height, label)
