"""Photos of a project: adding, listing, deleting. `photo_changes.py` changes one, `bulk_edits.py` many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session, col, select

from app.actions import edits, projects
from app.actions.photo_views import PhotoView, views
from app.database import Database
from app.errors import NotFound
from app.home import Home
from app.tables import Caption, Photo
from core import files
from core.dataset import dates, names
from core.dataset import photos as reading
from core.errors import DataProblem, FieldProblem, disk_errors_as_problem

BYTES_AT_MOST = reading.BYTES_AT_MOST
THUMB_SIDE_PX = 448

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


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A photo that was uploaded and can be used, before it has its place in the home and its row."""

    upload: Path
    filename: str  # the user's
    sha256: str
    bytes: int
    facts: reading.PhotoFacts
    taken: str | None


def add(
    database: Database, project_id: int, filename: str, upload: Path, sha256: str, batch: str = ""
) -> tuple[PhotoView, bool]:
    """Add the file at `upload` (moved from there) under a clean and free name, as a step.

    Photos that are added with the same `batch` are one step. Returns the photo, and False when the project had the same
    bytes already. Raises NotFound; DataProblem with a sentence about this file; DiskProblem.
    """
    with database.read() as session:
        projects.find(session, project_id)
        same = same_bytes(session, project_id, sha256)
        if same is not None and database.home.photo(sha256, same.extension).is_file():
            return views(session, [same])[0], False
    checked = check_file(database.home, filename, upload, sha256)
    with database.write() as session:
        projects.find(session, project_id)
        if same := same_bytes(session, project_id, sha256):  # the same file dropped twice at once, or lost since
            _put_in_place(database.home, checked)
            return views(session, [same])[0], False
        key = f"upload {batch}" if batch else ""
        earlier = edits.photos_so_far(session, project_id, key)
        words = f"{earlier + 1} photos added" if earlier else f"{names.shown(filename)} added"
        with edits.step(session, project_id, words, key=key) as added:
            row = add_row(session, database.home, project_id, checked)
            added.add(int(row.id or 0))
        files.flush_folder(database.home.photos)
        return views(session, [row])[0], True


def check_file(home: Home, filename: str, upload: Path, sha256: str) -> CheckedFile:
    """Check the photo at `upload`, and make its thumbnail.

    Raises DataProblem with a sentence about this file, DiskProblem.
    """
    try:
        facts = reading.inspect(upload, filename, webp_pixels=reading.WEBP_PIXELS_AT_MOST)
    except DataProblem as problem:
        shown = names.shown(filename)
        raise DataProblem(f"{shown} {problem.message}", [FieldProblem(shown, problem.message)]) from problem
    if not home.thumb(sha256).is_file():
        reading.write_thumb(upload, home.thumb(sha256), THUMB_SIDE_PX)
    return CheckedFile(upload, filename, sha256, upload.stat().st_size, facts, dates.taken(upload))


def add_row(
    session: Session, home: Home, project_id: int, checked: CheckedFile, used: Sequence[str] | None = None
) -> Photo:
    """Move the file to its place, and add its row, within a step: nobody can move it away between the two.

    The caller flushes `home.photos` before it commits. `used` are the names in the project, for a caller that adds
    many. Raises DiskProblem.
    """
    _put_in_place(home, checked)
    if used is None:
        used = session.exec(select(Photo.name).where(Photo.project_id == project_id)).all()
    row = Photo(
        project_id=project_id,
        name=names.free(names.clean(checked.filename, checked.facts.extension), used),
        sha256=checked.sha256,
        extension=checked.facts.extension,
        bytes=checked.bytes,
        width=checked.facts.width,
        height=checked.facts.height,
        warnings=checked.facts.warnings,
        taken=checked.taken,
    )
    session.add(row)
    session.flush()
    return row


def _put_in_place(home: Home, checked: CheckedFile) -> None:
    target = home.photo(checked.sha256, checked.facts.extension)
    if not target.is_file():
        with disk_errors_as_problem(target):
            os.replace(checked.upload, target)  # the upload was flushed to the disk when it ended


def delete(database: Database, photo_id: int) -> None:
    """Remove a photo, as a step: undo brings it back, so its file stays until that is forgotten. Raises NotFound."""
    with database.write() as session:
        row = find(session, photo_id)
        with edits.step(session, row.project_id, f"{row.name} deleted", [photo_id]):
            session.delete(row)


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


def find(session: Session, photo_id: int) -> Photo:
    """Raises NotFound."""
    row = session.get(Photo, photo_id)
    if row is None:
        raise NotFound(f"There is no photo {photo_id}.")
    return row


def same_bytes(session: Session, project_id: int, sha256: str) -> Photo | None:
    """The photo of the project that has these bytes."""
    return session.exec(select(Photo).where(Photo.project_id == project_id, Photo.sha256 == sha256)).one_or_none()
