"""The event table as a stream of server-sent events.

    a worker commits a row -> PRAGMA data_version changes -> ChangeWatcher wakes the streams -> each reads new rows

The id of a server-sent event is the id of its row, so a reader that reconnects with the last id it saw misses nothing
and gets nothing twice.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.concurrency import run_in_threadpool
from fastapi.sse import format_sse_event
from sqlalchemy import func
from sqlmodel import Session, col, select
from starlette.responses import StreamingResponse

from app.database import Database
from app.tables import Event, Job, Run

CHECK_SECONDS = 0.1  # a check costs 5 microseconds
ROWS_AT_ONCE = 500
RETRY_MS = 1000
KEEP_ALIVE_SECONDS = 15.0  # a proxy in between would close a stream that is silent for longer


class ChangeWatcher:
    """Wakes its readers whenever another connection, of this process or another, has committed a change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = asyncio.Event()
        self.stopping = False

    async def watch(self) -> None:
        """Check until `stop` is called."""
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as connection:
            seen = None
            while not self.stopping:
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version != seen:
                    seen = version
                    self._notify()
                await asyncio.sleep(CHECK_SECONDS)

    def stop(self) -> None:
        """Wake every reader for the last time."""
        self.stopping = True
        self._notify()

    def next(self) -> asyncio.Event:
        """Is set at the next change. Take it before reading the database, so that no change is missed."""
        return self._next

    def _notify(self) -> None:
        self._next.set()
        self._next = asyncio.Event()


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Whose events a stream carries, and of which kinds; all events when nothing is given."""

    job_id: int | None = None
    project_id: int | None = None
    kinds: tuple[str, ...] = ()


def newest_id(session: Session) -> int:
    """The id of the newest event."""
    return session.exec(select(func.max(Event.id))).one() or 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Events as JSON, oldest first, and the id up to which all were looked at."""

    rows: list[dict[str, Any]]
    until: int


def batch_after(database: Database, only: EventFilter, after: int, limit: int = ROWS_AT_ONCE) -> Batch:
    """The next events with an id above `after`. What the filter leaves out is not looked at again."""
    query = (
        select(Event, Run.id)
        .join(Run, col(Run.job_id) == col(Event.job_id), isouter=True)
        .where(col(Event.id) > after)
        .order_by(col(Event.id))
        .limit(limit)
    )
    if only.job_id is not None:
        query = query.where(Event.job_id == only.job_id)
    if only.project_id is not None:
        of_jobs = col(Event.job_id).in_(select(Job.id).where(Job.project_id == only.project_id))
        query = query.where(of_jobs | (col(Event.project_id) == only.project_id))
    if only.kinds:
        query = query.where(col(Event.kind).in_(only.kinds))
    with database.read() as session:
        rows = [_json(event, run_id) for event, run_id in session.exec(query)]
        return Batch(rows, rows[-1]["id"] if len(rows) == limit else max(after, newest_id(session)))


DESCRIPTION = {  # of the stream, in OpenAPI 3.2
    "content": {
        "text/event-stream": {
            "itemSchema": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("data", "event", "id")},
                "required": ["data", "event", "id"],
            }
        }
    }
}


class EventStream(StreamingResponse):
    """Without FastAPI's own stream class, which forwards chunks in a task that fails when the reader disconnects."""

    media_type = "text/event-stream"


async def stream(database: Database, changes: ChangeWatcher, only: EventFilter, after: int) -> AsyncIterator[bytes]:
    """Events above `after`, then new ones as they are committed, until the reader leaves or the server shuts down."""
    yield format_sse_event(comment="open", retry=RETRY_MS)
    while not changes.stopping:
        change = changes.next()
        batch = await run_in_threadpool(batch_after, database, only, after)
        rows, after = batch.rows, batch.until
        for row in rows:
            yield format_sse_event(data_str=json.dumps(row), event=row["kind"], id=str(row["id"]))
        while len(rows) < ROWS_AT_ONCE and not changes.stopping and not change.is_set():
            try:
                await asyncio.wait_for(change.wait(), KEEP_ALIVE_SECONDS)
            except TimeoutError:
                yield format_sse_event(comment="quiet")


def _json(event: Event, run_id: int | None) -> dict[str, Any]:
    return {
        "id": event.id,
        "job_id": event.job_id,
        "project_id": event.project_id,  # of an event without a job
        "run_id": run_id,
        "attempt": event.attempt,
        "kind": event.kind,
        "step": event.step,
        "payload": event.payload,
        "at": event.at.isoformat(),
    }
