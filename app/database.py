"""The database file in the home folder.

One SQLite file in WAL mode allows any number of readers beside one writer, across processes. A write begins IMMEDIATE:
a transaction that starts as a reader and then asks for the write lock could be refused half-way.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError
from sqlmodel import Session, SQLModel

from app import tables  # noqa: F401  (fills SQLModel.metadata)
from app.errors import Busy, HomeProblem
from app.home import Home
from app.migrations import MIGRATIONS
from core import strict_json
from core.errors import DiskProblem

REQUEST_WAITS_SECONDS = 10.0  # for the lock, before it answers that the studio is busy
JOB_WAITS_SECONDS = 600.0  # a job has time, and must not fail because another program copies the file
TABLES = {"project", "photo", "job", "run"}  # of every version: a file without them is somebody else's
DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # older versions wrote NaN; made once, used for every value

SCHEMA_VERSION = 1 + len(MIGRATIONS)


class Database:
    """Sessions on the home's database file. Threads may share one; each process opens its own.

    The studio's commits are flushed to the disk, so that what was acknowledged survives a power cut: 0.3 ms more a
    commit on a solid-state disk. The process of a job commits with every step and does without: after a power cut its
    last seconds may be missing, and it finds its checkpoints on the disk (`app/worker/reporter.py`).
    """

    def __init__(self, home: Home, *, for_job: bool = False) -> None:
        """Open the file; create or migrate it first, and else check that it is whole. Raises HomeProblem, DiskProblem.

        for_job   this is the process of a job: the studio has checked the file, and the job can wait for its lock
        """
        self.home = home
        home.create_folders()
        self._engine = _engine(home.database, for_job=for_job)
        self._write_engine = self._engine.execution_options(begin="IMMEDIATE")
        with _errors_as_sentences(home):
            _migrate(self._write_engine, home)
            if not for_job:
                _check_whole(self._engine, home)
        home.database.chmod(0o600)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only transaction: one consistent view of the database. Raises Busy, HomeProblem."""
        with _errors_as_sentences(self.home), Session(self._engine, expire_on_commit=False) as session:
            yield session
            session.expunge_all()  # before the rollback, which would expire the objects that were read
            session.rollback()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that holds the write lock. Commits when the block ends, rolls back when it raises.

        Raises DiskProblem when the disk is full, Busy when another program holds the lock for too long, HomeProblem
        when the file is damaged.
        """
        with _errors_as_sentences(self.home), Session(self._write_engine, expire_on_commit=False) as session:
            yield session
            session.commit()

    def close(self) -> None:
        self._engine.dispose()


def _engine(path: Path, *, for_job: bool) -> Engine:
    seconds, synchronous = (JOB_WAITS_SECONDS, "NORMAL") if for_job else (REQUEST_WAITS_SECONDS, "FULL")
    engine = create_engine(
        URL.create("sqlite", database=str(path)),  # a path may have characters that mean something in an address
        connect_args={"timeout": seconds, "check_same_thread": False},
        pool_size=10,
        json_serializer=partial(strict_json.dumps, ascii_only=True),
        json_deserializer=DECODER.decode,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver starts no transactions; `_begin` below does
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

    return engine


def _migrate(engine: Engine, home: Home) -> None:
    with engine.begin() as connection:
        found = _schema_version(connection)
        _refuse_foreign(connection, home, found)
        if found > SCHEMA_VERSION:
            raise HomeProblem(
                f"{home.database} was written by a newer Likeness (version {found}; this one knows {SCHEMA_VERSION}). "
                "Update Likeness, or choose another folder with --home."
            )
        if found == 0:
            SQLModel.metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
            return
    if found < SCHEMA_VERSION:
        _back_up(home, found)
    for version in range(found, SCHEMA_VERSION):
        with engine.begin() as connection:
            if _schema_version(connection) == version:  # otherwise another process has migrated it meanwhile
                MIGRATIONS[version - 1](connection)
                connection.exec_driver_sql(f"PRAGMA user_version={version + 1}")


def _schema_version(connection: Connection) -> int:
    """The version stored in the file; 0 for a new one."""
    return int(connection.execute(text("PRAGMA user_version")).scalar_one())


def _back_up(home: Home, version: int) -> None:
    target = home.root / f"likeness-v{version}-{datetime.now():%Y%m%d-%H%M%S-%f}.db"
    with closing(sqlite3.connect(home.database)) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))
    target.chmod(0o600)


def _refuse_foreign(connection: Connection, home: Home, version: int) -> None:
    """Raise HomeProblem for a database of another program."""
    found = set(connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars())
    if (version == 0 and found) or (version > 0 and not found >= TABLES):
        raise HomeProblem(
            f"{home.database} is a database of another program. Move it away, or choose another folder: "
            "likeness --home FOLDER."
        )


def _check_whole(engine: Engine, home: Home) -> None:
    """Raise HomeProblem when a page of the file is missing or damaged: 0.4 s for half a million events."""
    with engine.begin() as connection:
        found = connection.execute(text("PRAGMA quick_check(1)")).scalar_one()
    if found != "ok":
        raise HomeProblem(_damaged(home, str(found)))


def _damaged(home: Home, reason: str) -> str:
    backups = sorted(path.name for path in home.root.glob("likeness-v*.db"))
    remedy = f"put a copy in its place, for example {backups[-1]}" if backups else "put a backup in its place"
    return (
        f"{home.database} is damaged ({' '.join(reason.split())[:200]}). Nothing was changed. Move it away and "
        f"{remedy}; photos and runs are still in the folder beside it."
    )


@contextmanager
def _errors_as_sentences(home: Home) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        reason = str(error.orig)
        if any(phrase in reason for phrase in ("is full", "readonly", "disk I/O", "unable to open")):
            raise DiskProblem(f"{home.database} could not be written: {reason}. Make room, then try again.") from error
        if "locked" in reason:
            raise Busy(
                f"Another program has held the lock of {home.database} for too long, perhaps a backup. "
                "Nothing was changed; try again in a moment."
            ) from error
        if any(phrase in reason for phrase in ("malformed", "not a database", "file is encrypted")):
            raise HomeProblem(_damaged(home, reason)) from error
        raise
