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

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, SQLModel

from app import tables  # noqa: F401  (fills SQLModel.metadata)
from app.errors import HomeProblem
from app.home import Home
from app.migrations import MIGRATIONS
from core import strict_json
from core.errors import DiskProblem

BUSY_SECONDS = 10.0
DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # older versions wrote NaN; made once, used for every value

SCHEMA_VERSION = 1 + len(MIGRATIONS)


class Database:
    """Sessions on the home's database file. Threads may share one; each process opens its own.

    With `durable`, each commit is flushed to the disk, so that what was acknowledged survives a power cut: 0.3 ms more
    a commit on a solid-state disk. A job's process commits with every step and does without: after a power cut its last
    seconds may be missing, and it finds its checkpoints on the disk (`app/worker/reporter.py`).
    """

    def __init__(self, home: Home, *, durable: bool = True) -> None:
        """Open the file; create or migrate it first. Raises HomeProblem, DiskProblem."""
        self.home = home
        home.create_folders()
        self._engine = _engine(home.database, "FULL" if durable else "NORMAL")
        self._write_engine = self._engine.execution_options(begin="IMMEDIATE")
        _migrate(self._write_engine, home)
        home.database.chmod(0o600)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only transaction: one consistent view of the database."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield session
            session.expunge_all()  # before the rollback, which would expire the objects that were read
            session.rollback()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that holds the write lock. Commits when the block ends, rolls back when it raises.

        Raises DiskProblem when the disk is full.
        """
        with _raising_disk_problem(self.home), Session(self._write_engine, expire_on_commit=False) as session:
            yield session
            session.commit()

    def close(self) -> None:
        self._engine.dispose()


def _engine(path: Path, synchronous: str) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
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
        connection.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

    return engine


def _migrate(engine: Engine, home: Home) -> None:
    with engine.begin() as connection:
        found = _schema_version(connection)
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


@contextmanager
def _raising_disk_problem(home: Home) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if any(phrase in str(error.orig) for phrase in ("is full", "readonly", "disk I/O")):
            raise DiskProblem(
                f"{home.database} could not be written: {error.orig}. Make room, then try again."
            ) from error
        raise
