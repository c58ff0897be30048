"""Files of the home folder: their sizes, the cache, and what empties the trash."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete

from app.database import Database
from app.errors import Conflict
from app.jobs import lane_queue
from app.jobs.states import Kind
from app.tables import Removed


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
