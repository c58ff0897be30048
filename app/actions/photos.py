"""Photos of a project: adding, listing, captioning, cropping, deleting."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sqlmodel import Session, col, select

from app.actions import disk, projects
from app.actions.photo_views import PhotoView, newest_captions, views
from app.database import Database
from app.errors import NotFound
from app.tables import Caption, Crop, Photo, now
from core.dataset import captions as caption_words
from core.dataset import names
from core.dataset import photos as reading
from core.dataset.crops import WHOLE, Box
from core.errors import DataProblem, FieldProblem, disk_errors_as_problem

BYTES_AT_MOST = reading.BYTES_AT_MOST
THUMB_SIDE_PX = 448
TYPING_PAUSE = timedelta(seconds=60)  # edits of a caption less than this apart are one entry of its history

UNCHANGED: Final = object()

MEDIA_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "tif": "image/tiff",
    "heic": "image/heic",
    "avif": "image/avif",
}


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A file to send to the browser."""

    path: Path
    media_type: str
    tag: str  # names the content, for caches


def list_photos(database: Database, project_id: int, after: int = 0, limit: int = 500) -> list[PhotoView]:
    """The project's photos with an id above `after`, oldest first. Raises NotFound."""
    with database.read() as session:
        projects.find(session, project_id)
        chosen = select(Photo).where(Photo.project_id == project_id, col(Photo.id) > after)
        return views(session, session.exec(chosen.order_by(col(Photo.id)).limit(limit)).all())


def get_photo(database: Database, photo_id: int) -> PhotoView:
    """Raises NotFound."""
    with database.read() as session:
        return views(session, [find(session, photo_id)])[0]


def add(database: Database, project_id: int, filename: str, upload: Path, sha256: str) -> tuple[PhotoView, bool]:
    """Add the file at `upload` (moved from there) under a clean and free name.

    Returns the photo, and False when the project had the same bytes already. Raises NotFound; DataProblem with a
    sentence about this file; DiskProblem.
    """
    home = database.home
    with database.read() as session:
        projects.find(session, project_id)
        if same := _same_bytes(session, project_id, sha256):
            return views(session, [same])[0], False
    try:
        facts = reading.inspect(upload, filename, webp_pixels=reading.WEBP_PIXELS_AT_MOST)
    except DataProblem as problem:
        shown = names.shown(filename)
        raise DataProblem(f"{shown} {problem.message}", [FieldProblem(shown, problem.message)]) from problem
    if not home.thumb(sha256).is_file():
        reading.write_thumb(upload, home.thumb(sha256), THUMB_SIDE_PX)
    size = upload.stat().st_size
    target = home.photo(sha256, facts.extension)
    if not target.is_file():
        with disk_errors_as_problem(target):
            os.replace(upload, target)  # the upload was flushed to the disk when it ended
    with database.write() as session:
        projects.find(session, project_id)
        if same := _same_bytes(session, project_id, sha256):  # the same file, dropped twice at once
            return views(session, [same])[0], False
        taken = session.exec(select(Photo.name).where(Photo.project_id == project_id)).all()
        row = Photo(
            project_id=project_id,
            name=names.free(names.clean(filename, facts.extension), taken),
            sha256=sha256,
            extension=facts.extension,
            bytes=size,
            width=facts.width,
            height=facts.height,
            warnings=facts.warnings,
        )
        session.add(row)
        session.flush()
        return views(session, [row])[0], True


def change(database: Database, photo_id: int, *, caption: Any = UNCHANGED, crop: Any = UNCHANGED) -> PhotoView:
    """Write a caption (text; None or "" removes it) or a crop ({"left", "top", "right", "bottom"}; None is whole).

    Raises NotFound, DataProblem.
    """
    text = None if caption is UNCHANGED else _read_caption(caption)
    box = None if crop is UNCHANGED else _read_crop(crop)
    with database.write() as session:
        row = find(session, photo_id)
        if text is not None:
            write_caption(session, photo_id, text, "user")
        if box is not None:
            session.add(Crop(photo_id=photo_id, left=box.left, top=box.top, right=box.right, bottom=box.bottom))
            session.flush()
        return views(session, [row])[0]


def delete(database: Database, photo_id: int) -> None:
    """Remove a photo; its file goes to the trash unless a run was made with it. Raises NotFound."""
    with database.write() as session:
        row = find(session, photo_id)
        unreferenced = disk.files_of_photos(database.home, [row])
        session.delete(row)
        session.flush()
        unreferenced.keep_referenced(session)
    unreferenced.to_trash(f"photo {row.name}")


def file_of(database: Database, photo_id: int) -> PhotoFile:
    """The original, as it was uploaded. Raises NotFound."""
    with database.read() as session:
        row = find(session, photo_id)
    path = database.home.photo(row.sha256, row.extension)
    if not path.is_file():
        raise NotFound(f"The file of {row.name} is no longer there.")
    return PhotoFile(path, MEDIA_TYPES[row.extension], row.sha256)


def thumb_of(database: Database, photo_id: int) -> PhotoFile:
    """A small JPEG of the photo as seen, made again if it was cleared away. Raises NotFound, DataProblem."""
    with database.read() as session:
        row = find(session, photo_id)
    path = database.home.thumb(row.sha256)
    if not path.is_file():
        reading.write_thumb(file_of(database, photo_id).path, path, THUMB_SIDE_PX)
    return PhotoFile(path, "image/jpeg", f"{row.sha256}-{THUMB_SIDE_PX}")


def caption_history(database: Database, photo_id: int) -> list[Caption]:
    """Every caption the photo has had, the newest first. Raises NotFound."""
    with database.read() as session:
        find(session, photo_id)
        return list(
            session.exec(select(Caption).where(Caption.photo_id == photo_id).order_by(col(Caption.id).desc())).all()
        )


def write_caption(session: Session, photo_id: int, text: str, origin: str) -> None:
    """Add a caption, unless the newest one is equal; an edit within `TYPING_PAUSE` replaces the newest."""
    newest = newest_captions(session, [photo_id]).get(photo_id)
    if newest is not None and newest.text == text:
        return
    if newest is not None and newest.origin == origin == "user" and now() - newest.at < TYPING_PAUSE:
        newest.text, newest.at = text, now()
        session.add(newest)
    else:
        session.add(Caption(photo_id=photo_id, text=text, origin=origin))
    session.flush()


def find(session: Session, photo_id: int) -> Photo:
    """Raises NotFound."""
    row = session.get(Photo, photo_id)
    if row is None:
        raise NotFound(f"There is no photo {photo_id}.")
    return row


def _same_bytes(session: Session, project_id: int, sha256: str) -> Photo | None:
    return session.exec(select(Photo).where(Photo.project_id == project_id, Photo.sha256 == sha256)).one_or_none()


def _read_caption(caption: Any) -> str:
    if caption is not None and not isinstance(caption, str):
        problem = FieldProblem("caption", f"is {caption!r}; it must be text")
        raise DataProblem("The caption cannot be read.", [problem])
    text = " ".join((caption or "").split())
    if len(text) > caption_words.CHARACTERS_AT_MOST:
        problem = FieldProblem("caption", f"has {len(text)} characters; at most {caption_words.CHARACTERS_AT_MOST}")
        raise DataProblem("The caption is too long.", [problem])
    return text


def _read_crop(crop: Any) -> Box:
    if crop is None:
        return WHOLE
    try:
        if not isinstance(crop, Mapping):
            raise TypeError
        return Box(*(float(crop[side]) for side in ("left", "top", "right", "bottom")))
    except (TypeError, ValueError, KeyError):
        words = "must have left, top, right and bottom, as fractions of the photo from 0 to 1"
        raise DataProblem("The crop cannot be read.", [FieldProblem("crop", words)]) from None
    except DataProblem as problem:
        raise DataProblem(problem.message, [FieldProblem("crop", problem.message)]) from None
