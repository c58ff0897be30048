"""Files that no row refers to any more: they are moved to the trash, never deleted.

    add       look for the file, put it in its place, add its row     one transaction
    delete    delete the rows                                         one transaction, and then
              move the files that no row refers to                    a second one, which looks at the rows anew
    start     the same for files whose process died between the two

A transaction that writes holds the lock of the database, which all processes share. So between the look at the rows and
the move nobody adds a row, and a file that is being added is never moved away.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import text
from sqlmodel import Session, select

from app.database import Database
from app.home import Home
from app.jobs.states import Kind
from app.tables import Adapter, Analysis, Job, Removed, Run, Sample
from core import files
from core.errors import disk_errors_as_problem

HASH_CHARACTERS = 64
REFERENCES = (  # to files of photos and masks, by hash; each of these rows belongs to a project
    "SELECT sha256, mask FROM photo",
    "SELECT mask FROM subject",
    "SELECT value FROM edit, json_each(edit.hashes)",
    "SELECT json_extract(value, '$.sha256'), json_extract(value, '$.mask') FROM version, json_each(version.items)",
)
FORGOTTEN_SUBJECTS = """
DELETE FROM subject WHERE photo_id NOT IN (SELECT id FROM photo)
AND photo_id NOT IN (SELECT value FROM edit, json_each(edit.photos))
"""


@dataclass
class UnreferencedFiles:
    """Files and folders whose rows were deleted; another row may refer to one all the same."""

    photos: dict[str, list[Path]] = field(default_factory=dict)  # by SHA-256: original and thumbnail, or the mask
    others: list[Path] = field(default_factory=list)

    def to_trash(self, database: Database, label: str) -> dict[Path, Path]:
        """Move those that no row refers to, now that the deletion is committed; returns where each is now.

        Their folder in the trash is named after `label` and the time. Thumbnails are deleted. Raises DiskProblem.
        """
        home = database.home
        with database.write() as session, disk_errors_as_problem(home.trash):
            hashes, paths = hashes_needed(session), paths_needed(session, home) if self.others else set()
            groups = [group for sha256, group in self.photos.items() if sha256 not in hashes]
            groups += [[path] for path in self.others if path not in paths]
            there = [path for group in groups for path in group if path.exists()]
            return _moved(home, there, label)


def _moved(home: Home, paths: Sequence[Path], label: str) -> dict[Path, Path]:
    moved: dict[Path, Path] = {}
    if not paths:
        return moved
    safe = "".join(c if c.isalnum() or c in " -_" else "_" for c in label)[:80].strip()
    folder = home.trash / f"{datetime.now():%Y%m%d-%H%M%S-%f} {safe}"
    folder.mkdir(parents=True)
    for path in paths:
        if path.parent == home.thumbs:
            path.unlink(missing_ok=True)
            continue
        target = folder / path.relative_to(home.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
        moved[path] = target
    files.flush_folder(home.trash)
    return moved


def hashes_needed(session: Session) -> set[str]:
    """Of every photo's file and mask that a row refers to: a photo, a step to undo, or the frozen list of a run."""
    needed: set[str] = set()
    for query in REFERENCES:
        needed |= {sha256 for row in session.connection().execute(text(query)) for sha256 in row if sha256}
    return needed


def paths_needed(session: Session, home: Home) -> set[Path]:
    """Every other file and folder that a row refers to: of runs, exports, imported adapters and pictures."""
    runs = set(session.exec(select(Run.id)))
    needed = {home.run(int(run_id or 0)) for run_id in runs}
    exported = session.exec(select(Job).where(Job.kind == Kind.EXPORT))  # the job outlives its run
    needed |= {home.exports / str(job.id) for job in exported if job.params.get("run") in (None, *runs)}
    needed |= {path for row in session.exec(select(Adapter)) for path in files_of_adapter(home, row).others}
    return needed | {home.root / file for file in session.exec(select(Sample.file))}


def move_all(database: Database, older_than_seconds: float = 0.0) -> int:
    """Move everything in the home that no row refers to; returns how many files and folders.

    For steps that were forgotten, and for what a process left that died between a file and its row, or between the
    deletion of a row and its file's. `older_than_seconds` leaves out files that are being written.
    """
    home, latest = database.home, time.time() - older_than_seconds
    found = UnreferencedFiles()
    for folder in (home.photos, home.masks):
        for path in _old(folder, latest):
            if len(path.stem) == HASH_CHARACTERS:
                found.photos.setdefault(path.stem, []).append(path)
    for sha256, paths in found.photos.items():
        paths.append(home.thumb(sha256))
    for folder in (home.runs, home.exports, home.adapters, home.pictures):
        found.others += [path for path in _old(folder, latest) if not path.name.startswith(".")]
    with database.write() as session:
        undoable = {home.root / each.row["file"] for each in session.exec(select(Removed)) if not each.trash}
        found.others = [path for path in found.others if path not in undoable]
        session.connection().execute(text(FORGOTTEN_SUBJECTS))
        needed = hashes_needed(session)
        for row in session.exec(select(Analysis)).all():
            if row.sha256 not in needed:
                session.delete(row)
    return len(found.to_trash(database, "what was deleted"))


def _old(folder: Path, latest: float) -> list[Path]:
    return [path for path in folder.iterdir() if path.stat().st_mtime <= latest]


def files_of_hashes(home: Home, hashes: Iterable[str]) -> UnreferencedFiles:
    return UnreferencedFiles({sha256: files_of_hash(home, sha256) for sha256 in hashes})


def files_of_hash(home: Home, sha256: str) -> list[Path]:
    """The original and the thumbnail of a photo, or a mask."""
    return [*home.photos.glob(f"{sha256}.*"), home.thumb(sha256), home.mask(sha256)]


def files_of_project(session: Session, home: Home, project_id: int) -> UnreferencedFiles:
    """Files of its photos and masks, also of deleted ones that runs or steps need; folders of its runs and exports."""
    found = UnreferencedFiles()
    for query in REFERENCES:
        rows = session.connection().execute(text(f"{query} WHERE project_id = :project"), {"project": project_id})
        for sha256 in {each for row in rows for each in row if each}:
            found.photos[sha256] = files_of_hash(home, sha256)
    for run_id in session.exec(select(Run.id).where(Run.project_id == project_id)):
        found.others += [home.run(int(run_id or 0)), *files_of_exports(session, home, int(run_id or 0))]
    return found


def files_of_exports(session: Session, home: Home, run_id: int) -> list[Path]:
    """The folders of a run's exports."""
    ids = session.exec(select(Job.id).where(Job.kind == Kind.EXPORT, Job.params["run"].as_integer() == run_id))
    return [home.exports / str(job_id) for job_id in ids]


def files_of_adapter(home: Home, row: Adapter) -> UnreferencedFiles:
    """An imported adapter's folder; earlier versions had a file alone."""
    path = home.root / row.file
    return UnreferencedFiles(others=[path if path.parent == home.adapters else path.parent])
