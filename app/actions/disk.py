"""Files of the home folder: their sizes, those that no row refers to any more, and the trash."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import delete, text
from sqlmodel import Session, select

from app.database import Database
from app.errors import Conflict
from app.home import Home
from app.jobs import lane_queue
from app.jobs.states import Kind
from app.tables import Adapter, Analysis, Job, Removed, Run

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


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes by kind of file, and what the disk has left."""

    home: str
    photos: int
    runs: int
    pictures: int
    adapters: int  # imported and exported ones
    cache: int
    trash: int
    other: int
    free: int

    @property
    def total(self) -> int:
        return self.photos + self.runs + self.pictures + self.adapters + self.cache + self.trash + self.other


@dataclass
class UnreferencedFiles:
    """Files and folders whose rows are being deleted."""

    home: Home
    photos: dict[str, list[Path]] = field(default_factory=dict)  # by SHA-256: original and thumbnail, or the mask
    others: list[Path] = field(default_factory=list)

    def keep_referenced(self, session: Session) -> None:
        """Keep files that another photo, a step or the frozen list of a run refers to; call after rows are deleted."""
        needed = hashes_needed(session)
        self.photos = {sha256: paths for sha256, paths in self.photos.items() if sha256 not in needed}

    def to_trash(self, label: str) -> dict[Path, Path]:
        """Move them to a folder of the trash named after `label` and the time; thumbnails are deleted.

        Returns where each is now.
        """
        paths = [path for group in self.photos.values() for path in group] + self.others
        paths = [path for path in paths if path.exists()]
        moved: dict[Path, Path] = {}
        if not paths:
            return moved
        safe = "".join(c if c.isalnum() or c in " -_" else "_" for c in label)[:80].strip()
        folder = self.home.trash / f"{datetime.now():%Y%m%d-%H%M%S-%f} {safe}"
        folder.mkdir(parents=True)
        for path in paths:
            if path.parent == self.home.thumbs:
                path.unlink(missing_ok=True)
                continue
            target = folder / path.relative_to(self.home.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
            moved[path] = target
        return moved


def hashes_needed(session: Session) -> set[str]:
    """Of every photo's file and mask that a row refers to: a photo, a step to undo, or the frozen list of a run."""
    needed: set[str] = set()
    for query in REFERENCES:
        needed |= {sha256 for row in session.connection().execute(text(query)) for sha256 in row if sha256}
    return needed


def move_unreferenced(database: Database, older_than_seconds: float = 0.0) -> int:
    """Move files of photos and masks to the trash that no row refers to; returns how many hashes.

    For steps that were forgotten, and for uploads that were cut off between file and row. `older_than_seconds` leaves
    out files of uploads that are going on.
    """
    home = database.home
    unreferenced = UnreferencedFiles(home)
    latest = time.time() - older_than_seconds
    for folder in (home.photos, home.masks):
        for path in folder.iterdir():
            if len(path.stem) == HASH_CHARACTERS and path.stat().st_mtime <= latest:
                unreferenced.photos.setdefault(path.stem, []).append(path)
    for sha256, paths in unreferenced.photos.items():
        paths.append(home.thumb(sha256))
    with database.write() as session:
        session.connection().execute(text(FORGOTTEN_SUBJECTS))
        unreferenced.keep_referenced(session)
        analysed = session.exec(select(Analysis)).all()
        needed = hashes_needed(session)
        for row in analysed:
            if row.sha256 not in needed:
                session.delete(row)
    unreferenced.to_trash("photos that were deleted")
    return len(unreferenced.photos)


def files_of_hash(home: Home, sha256: str) -> list[Path]:
    """The original and the thumbnail of a photo, or a mask."""
    return [*home.photos.glob(f"{sha256}.*"), home.thumb(sha256), home.mask(sha256)]


def files_of_hashes(home: Home, hashes: Iterable[str]) -> UnreferencedFiles:
    return UnreferencedFiles(home, {sha256: files_of_hash(home, sha256) for sha256 in hashes})


def files_of_project(session: Session, home: Home, project_id: int) -> UnreferencedFiles:
    """Files of its photos and masks, also of deleted ones that runs or steps need; folders of its runs and exports."""
    unreferenced = UnreferencedFiles(home)
    for query in REFERENCES:
        rows = session.connection().execute(text(f"{query} WHERE project_id = :project"), {"project": project_id})
        for sha256 in {each for row in rows for each in row if each}:
            unreferenced.photos[sha256] = files_of_hash(home, sha256)
    for run_id in session.exec(select(Run.id).where(Run.project_id == project_id)):
        unreferenced.others += [home.run(int(run_id or 0)), *files_of_exports(session, home, int(run_id or 0))]
    return unreferenced


def files_of_exports(session: Session, home: Home, run_id: int) -> list[Path]:
    """The folders of a run's exports."""
    ids = session.exec(select(Job.id).where(Job.kind == Kind.EXPORT, Job.params["run"].as_integer() == run_id))
    return [home.exports / str(job_id) for job_id in ids]


def files_of_adapter(home: Home, row: Adapter) -> UnreferencedFiles:
    """An imported adapter's folder; earlier versions had a file alone."""
    path = home.file(row.file)
    return UnreferencedFiles(home, others=[path if path.parent == home.adapters.resolve() else path.parent])


def use(database: Database) -> DiskUse:
    """How much room everything takes."""
    home = database.home
    sizes = {
        "photos": size_of(home.photos) + size_of(home.thumbs) + size_of(home.masks),
        "runs": size_of(home.runs),
        "pictures": size_of(home.pictures),
        "adapters": size_of(home.adapters) + size_of(home.exports),
        "cache": size_of(home.cache),
        "trash": size_of(home.trash),
    }
    other = max(size_of(home.root) - sum(sizes.values()), 0)
    return DiskUse(home=str(home.root), other=other, free=shutil.disk_usage(home.root).free, **sizes)


def empty_trash(database: Database) -> int:
    """Delete everything in the trash for good; returns the bytes freed."""
    with database.write() as session:
        session.connection().execute(delete(Removed))
    return _empty(database.home.trash)


def clear_cache(database: Database) -> int:
    """Delete cached latents and text embeddings, which are made again when needed; returns the bytes freed.

    Raises Conflict while a job runs, since it may be about to read them.
    """
    with database.read() as session:
        if any(job.kind is not Kind.CHECK for job in lane_queue.running(session)):  # a review reads no cache
            raise Conflict("A job is running and may need the cache; clear it afterwards.")
    return sum(_empty(folder) for folder in database.home.cache.iterdir() if folder != database.home.uploads)


def size_of(folder: Path) -> int:
    """Bytes of every file below `folder`; files deleted meanwhile count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _empty(folder: Path) -> int:
    freed = size_of(folder)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return freed
