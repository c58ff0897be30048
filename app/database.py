"""The home folder and the database file in it.

    LIKENESS_HOME (default ~/Likeness)/
      likeness.db   locks/   logs/   cache/   trash/   photos/<sha256>.<ext>   thumbs/   pictures/   adapters/
      exports/   models/<name>/   runs/<id>/config.json  log.txt  samples/  checkpoints/<step>/

One SQLite file in WAL mode: any number of readers beside one writer, in several processes. Whoever writes begins
IMMEDIATE, so that no transaction finds out half-way that it cannot have the lock. Only this user may read the home.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, SQLModel

from app import tables  # noqa: F401  (fills SQLModel.metadata)
from app.errors import HomeProblem
from core.errors import DiskProblem, disk_errors_as_problem

BUSY_SECONDS = 10.0
RESERVE_BYTES = 4 * 2**20  # given up when the disk is full, so that the sentence about it can still be written

MIGRATIONS: list[Callable[[Connection], None]] = []
"""Step n (from 0) takes a database of version n + 1 to version n + 2; a new file is made from `tables.py` at once."""

VERSION = 1 + len(MIGRATIONS)

_SYNCED = ("Mobile Documents", "CloudStorage", "Dropbox", "OneDrive", "Google Drive", "iCloud Drive", "iCloudDrive")
_NETWORK = {"nfs", "nfs4", "cifs", "smbfs", "smb3", "afpfs", "webdav", "fuse.sshfs", "9p"}


@dataclass(frozen=True)
class Home:
    """The folder that holds everything of one user's studio."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "likeness.db"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def uploads(self) -> Path:
        return self.cache / "uploads"

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    @property
    def photos(self) -> Path:
        return self.root / "photos"

    @property
    def thumbs(self) -> Path:
        return self.root / "thumbs"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def exports(self) -> Path:
        return self.root / "exports"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def reserve(self) -> Path:
        return self.locks / "reserve"

    def run(self, run_id: int) -> Path:
        return self.runs / str(run_id)

    def photo(self, sha256: str, extension: str) -> Path:
        return self.photos / f"{sha256}.{extension}"

    def thumb(self, sha256: str) -> Path:
        return self.thumbs / f"{sha256}.jpg"

    def relative(self, path: Path) -> str:
        """How the database names a file of the home."""
        return path.relative_to(self.root).as_posix()

    def file(self, relative: str) -> Path:
        """The file that the database names; never one outside the home."""
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise HomeProblem(f"{relative} lies outside {self.root}.")
        return path

    def lay_out(self) -> None:
        """Make the folders, for this user's eyes only. Raises HomeProblem, DiskProblem."""
        refuse_shared_folder(self.root)
        folders = (self.locks, self.logs, self.cache, self.uploads, self.trash, self.photos, self.thumbs)
        with disk_errors_as_problem(self.root):
            if self.root.exists() and not self.root.is_dir():
                raise HomeProblem(f"{self.root} is a file; the home must be a folder.")
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o700)
            for folder in (*folders, self.pictures, self.adapters, self.exports, self.runs):
                folder.mkdir(mode=0o700, exist_ok=True)

    def keep_reserve(self) -> None:
        """Hold back a few megabytes, if there is room for them."""
        if not self.reserve.exists():
            try:
                self.reserve.write_bytes(bytes(RESERVE_BYTES))
            except OSError:
                self.reserve.unlink(missing_ok=True)

    def clear_uploads(self) -> None:
        """Remove uploads that a server which was killed did not finish."""
        for path in self.uploads.iterdir():
            if path.is_file():
                path.unlink(missing_ok=True)

    def give_up_reserve(self) -> None:
        self.reserve.unlink(missing_ok=True)


def default_home() -> Path:
    """LIKENESS_HOME, else ~/Likeness."""
    return Path(os.environ.get("LIKENESS_HOME") or Path.home() / "Likeness").expanduser().absolute()


def refuse_shared_folder(root: Path) -> None:
    """Raise HomeProblem for a folder in which SQLite's locks do not hold: synced, or on another machine."""
    resolved = root.expanduser().absolute().resolve()
    for part in resolved.parts:
        if any(part == word or part.startswith(f"{word} (") or part.startswith(f"{word} -") for word in _SYNCED):
            raise HomeProblem(
                f"{root} is kept in step by a cloud service ({part}), which would damage the database. "
                "Choose a folder on this computer only: likeness --home FOLDER."
            )
    mounts = [part for part in psutil.disk_partitions(all=True) if resolved.is_relative_to(part.mountpoint)]
    holder = max(mounts, key=lambda part: len(part.mountpoint), default=None)
    if holder is not None and holder.fstype.lower() in _NETWORK:
        raise HomeProblem(
            f"{root} is on a network drive ({holder.fstype}), where the database's locks do not hold. "
            "Choose a folder on this computer: likeness --home FOLDER."
        )


class Database:
    """Sessions on the home's database file. Safe to share between threads; each process opens its own."""

    def __init__(self, home: Home) -> None:
        """Open the file, make or migrate it. Raises HomeProblem, DiskProblem."""
        self.home = home
        home.lay_out()
        self._engine = _engine(home.database)
        self._writer = self._engine.execution_options(begin="IMMEDIATE")
        _migrate(self._writer, home)
        home.database.chmod(0o600)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view of the database; nothing is written."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield session
            session.expunge_all()  # what was read stays readable: a rollback would expire it
            session.rollback()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that holds the write lock: committed when the block ends well, else as if it had not been.

        Raises DiskProblem when the disk is full.
        """
        with _full_disk_as_sentence(self.home), Session(self._writer, expire_on_commit=False) as session:
            yield session
            session.commit()

    def close(self) -> None:
        self._engine.dispose()


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, pool_size=10
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; `_begin` below does
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

    return engine


def _migrate(writer: Engine, home: Home) -> None:
    with writer.begin() as connection:
        found = int(connection.execute(text("PRAGMA user_version")).scalar_one())
        if found > VERSION:
            raise HomeProblem(
                f"{home.database} was written by a newer Likeness (version {found}; this one knows {VERSION}). "
                "Update Likeness, or choose another folder with --home."
            )
        if found == 0:
            SQLModel.metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version={VERSION}")
            return
    if found < VERSION:
        _back_up(home, found)
    for version in range(found, VERSION):
        with writer.begin() as connection:
            if int(connection.execute(text("PRAGMA user_version")).scalar_one()) == version:  # nobody else was quicker
                MIGRATIONS[version - 1](connection)
                connection.exec_driver_sql(f"PRAGMA user_version={version + 1}")


def _back_up(home: Home, version: int) -> None:
    target = home.root / f"likeness-v{version}-{datetime.now():%Y%m%d-%H%M%S-%f}.db"
    with closing(sqlite3.connect(home.database)) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))
    target.chmod(0o600)


@contextmanager
def _full_disk_as_sentence(home: Home) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if any(words in str(error.orig) for words in ("is full", "readonly", "disk I/O")):
            raise DiskProblem(
                f"{home.database} could not be written: {error.orig}. Make room, then try again."
            ) from error
        raise
