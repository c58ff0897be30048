"""Photos, captions and masks from a zip, as one step that can be undone.

    unpack each photo and check it                     one after the other: memory is one photo's
    files and rows of all photos, captions, masks      one transaction, one step

A file that cannot be used is left out with a sentence; the others come in.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sqlmodel import Session, select

from app.actions import edits, masks, projects
from app.actions.photo_changes import read_fields, write_field
from app.actions.photo_views import newest_captions
from app.actions.photos import CheckedFile, add_row, check_file, same_bytes
from app.database import Database
from app.home import Home
from app.tables import Caption, Photo
from app.wording import plural
from core import files
from core.dataset import archives, caption_files
from core.dataset import photos as reading
from core.dataset.archives import Archive
from core.errors import DataProblem, DiskProblem, FieldProblem, Problem

BYTES_AT_MOST = 8 * 2**30
FACTS_AT_MOST = 16 * 2**20


@dataclass(frozen=True, slots=True)
class ArchiveAdded:
    """What came in, and what was left out."""

    added: int
    already: int  # photos that the project had
    captions: int
    masks: int
    photos: list[int]  # ids of those that are new
    left_out: list[FieldProblem]


@dataclass
class Found:
    """What is known of one photo of the archive before its row is written."""

    path: str  # in the archive
    sha256: str
    checked: CheckedFile | None  # None where the project has the photo
    size: tuple[int, int]
    caption: str = ""
    mask: masks.Drawn | None = None
    fields: dict[str, Any] = field(default_factory=dict)  # crops and box, of an archive of our own


def add(database: Database, project_id: int, upload: Path) -> ArchiveAdded:
    """Add what is in the zip at `upload`. Raises NotFound; DataProblem where nothing of it can be used; DiskProblem."""
    with archives.opened(upload) as archive, tempfile.TemporaryDirectory(dir=database.home.uploads) as folder:
        _check_room(database.home, upload)
        problems = list(archive.contents.left_out)
        if not archive.contents.photos:
            raise DataProblem("There are no photos in this archive.", problems)
        found = _read_photos(database, project_id, archive, Path(folder), problems)
        if not found:
            raise DataProblem("None of the photos in this archive can be used.", problems)
        _read_captions(archive, found, Path(folder), problems)
        _read_masks(archive, found, Path(folder), problems)
        _read_facts(archive, found, Path(folder), problems)
        with database.write() as session:
            projects.find(session, project_id)
            return _write(session, database.home, project_id, list(found.values()), problems)


def _check_room(home: Home, upload: Path) -> None:
    """Photos hardly shrink in a zip, so they need about its size once more."""
    free, needed = shutil.disk_usage(home.root).free, upload.stat().st_size
    if free < needed:
        raise DiskProblem(f"The archive needs {needed / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free. Make room.")


def _read_photos(
    database: Database, project_id: int, archive: Archive, folder: Path, problems: list[FieldProblem]
) -> dict[str, Found]:
    """The photos by path."""
    found: dict[str, Found] = {}
    seen: dict[str, str] = {}
    for path in archive.contents.photos:
        upload = folder / f"photo {len(found)}"
        try:
            archive.unpack(path, upload, reading.BYTES_AT_MOST)
            sha256 = files.sha256_of(upload)
            if sha256 in seen:
                problems.append(FieldProblem(path, f"is the same file as {seen[sha256]}; it is added once"))
                continue
            seen[sha256] = path
            with database.read() as session:
                row = same_bytes(session, project_id, sha256)
            if row is not None:
                found[path] = Found(path, sha256, None, (row.width, row.height))
                continue
            files.flush_file(upload)
            checked = check_file(database.home, PurePosixPath(path).name, upload, sha256)
            found[path] = Found(path, sha256, checked, (checked.facts.width, checked.facts.height))
        except DataProblem as problem:
            problems.append(FieldProblem(path, _words_of(problem)))
    return found


def _read_captions(archive: Archive, found: Mapping[str, Found], folder: Path, problems: list[FieldProblem]) -> None:
    """By caption files beside the photos, else by metadata.jsonl in a photo's folder or above."""
    tables = {path: _table(archive, path, folder, problems) for path in archive.contents.metadata}
    for photo, beside in archives.captions_of(archive.contents).items():
        if photo not in found:
            continue
        for path in beside:
            file = folder / "caption.txt"
            try:
                archive.unpack(path, file, caption_files.BYTES_AT_MOST)
                found[photo].caption = caption_files.read(file) or ""
            except DataProblem as problem:
                problems.append(FieldProblem(path, _words_of(problem)))
            if found[photo].caption:
                break
        if not found[photo].caption:
            found[photo].caption = _of_tables(tables, photo)


def _table(archive: Archive, path: str, folder: Path, problems: list[FieldProblem]) -> dict[str, str]:
    file = folder / caption_files.METADATA
    try:
        archive.unpack(path, file, caption_files.METADATA_BYTES_AT_MOST)
        table, wrong = caption_files.read_metadata(file)
    except DataProblem as problem:
        table, wrong = {}, problem.problems or [FieldProblem(path, problem.message)]
    problems += [FieldProblem(path, each.message) for each in wrong]
    return table


def _of_tables(tables: Mapping[str, Mapping[str, str]], photo: str) -> str:
    """The text of the nearest metadata.jsonl that names the photo; "" without one."""
    path = PurePosixPath(caption_files.comparable(photo))
    by_folder = {PurePosixPath(caption_files.comparable(each)).parent: table for each, table in tables.items()}
    for above in path.parents:
        if text := by_folder.get(above, {}).get(path.relative_to(above).as_posix()):
            return text
    return ""


def _read_masks(archive: Archive, found: Mapping[str, Found], folder: Path, problems: list[FieldProblem]) -> None:
    matched, unused = archives.masks_of(archive.contents)
    problems += unused
    for photo, path in matched.items():
        if photo not in found:
            continue
        file = folder / "mask"
        try:
            archive.unpack(path, file, masks.BYTES_AT_MOST)
            found[photo].mask = masks.read(file, found[photo].size)
        except DataProblem as problem:
            problems.append(FieldProblem(path, problem.message))


def _read_facts(archive: Archive, found: Mapping[str, Found], folder: Path, problems: list[FieldProblem]) -> None:
    """Crops and boxes, which only archives of our own have."""
    name = archive.contents.facts
    if not name:
        return
    file = folder / archives.FACTS
    try:
        archive.unpack(name, file, FACTS_AT_MOST)
        given = json.loads(file.read_bytes())
        by_path = given["photos"]
        for path in found.keys() & by_path.keys():
            values, wrong = read_fields(
                {key: by_path[path][key] for key in ("crops", "subject") if key in by_path[path]}
            )
            found[path].fields = values
            problems += [FieldProblem(path, f"has {each.field} in {name} that {each.message}") for each in wrong]
    except Problem as problem:
        problems.append(FieldProblem(name, problem.message))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        problems.append(FieldProblem(name, "is not as Likeness writes it; crops and boxes were left out"))


def _words_of(problem: DataProblem) -> str:
    """The sentence about a file; where the problem names the file itself, that about it alone."""
    return problem.problems[0].message if problem.problems else problem.message


def _write(
    session: Session, home: Home, project_id: int, found: list[Found], problems: list[FieldProblem]
) -> ArchiveAdded:
    rows = {each.sha256: same_bytes(session, project_id, each.sha256) for each in found}
    there = [int(row.id or 0) for row in rows.values() if row is not None]
    captioned = newest_captions(session, there)
    used = list(session.exec(select(Photo.name).where(Photo.project_id == project_id)))
    new: list[int] = []
    captions = drawn = 0
    words = f"{plural(sum(row is None for row in rows.values()), 'photo')} from an archive"
    with edits.step(session, project_id, words, there) as touched:
        for each in found:
            row = rows[each.sha256]
            if row is None and each.checked is not None:
                row = add_row(session, home, project_id, each.checked, used)
                used.append(row.name)
                new.append(int(row.id or 0))
                touched.add(new[-1])
                for name, value in each.fields.items():
                    write_field(session, row, name, value)
            if row is None:
                continue  # deleted by another page meanwhile
            number = int(row.id or 0)
            if each.caption and not (number in captioned and captioned[number].text):
                session.add(Caption(photo_id=number, text=each.caption, origin="user"))
                captions += 1
            if each.mask and row.mask is None:
                masks.keep(home, each.mask.png)
                row.mask, row.mask_box = each.mask.sha256, each.mask.box
                session.add(row)
                drawn += 1
    files.flush_folder(home.photos)
    return ArchiveAdded(len(new), len(there), captions, drawn, new, problems)
