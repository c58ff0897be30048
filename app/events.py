"""The event table as a stream: one task looks whether the database has changed, and wakes every reader.

    worker commits an event row  ->  PRAGMA data_version changes  ->  the bell rings  ->  each stream reads its new rows

The id of a server-sent event is the id of its row, so a reader that comes back with the last id it saw loses nothing
and sees nothing twice.
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

LOOK_SECONDS = 0.1  # a look costs 5 microseconds
ROWS_AT_ONCE = 500
RETRY_MS = 1000
QUIET_SECONDS = 15.0  # after so long a comment is sent: what stands between would close a stream that says nothing


class Bell:
    """Rings whenever another connection, of this process or another, has committed something."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = asyncio.Event()
        self.stopping = False

    async def watch(self) -> None:
        """Look until `stop` is called."""
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as connection:
            seen = None
            while not self.stopping:
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version != seen:
                    seen = version
                    self.ring()
                await asyncio.sleep(LOOK_SECONDS)

    def ring(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    def stop(self) -> None:
        """Wake every reader for the last time."""
        self.stopping = True
        self.ring()

    def next(self) -> asyncio.Event:
        """What will be set at the next ring; take it before reading, so that no change falls in between."""
        return self._next


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whose events a stream carries; all of them when nothing is named."""

    job_id: int | None = None
    project_id: int | None = None


def newest_id(session: Session) -> int:
    """The id of the newest event."""
    return session.exec(select(func.max(Event.id))).one() or 0


def rows_after(database: Database, chosen: Chosen, after: int, limit: int = ROWS_AT_ONCE) -> list[dict[str, Any]]:
    """Events with an id above `after`, oldest first, as JSON shows them."""
    query = (
        select(Event, Run.id)
        .join(Run, col(Run.job_id) == col(Event.job_id), isouter=True)
        .where(col(Event.id) > after)
        .order_by(col(Event.id))
        .limit(limit)
    )
    if chosen.job_id is not None:
        query = query.where(Event.job_id == chosen.job_id)
    if chosen.project_id is not None:
        query = query.where(col(Event.job_id).in_(select(Job.id).where(Job.project_id == chosen.project_id)))
    with database.read() as session:
        return [_json(event, run_id) for event, run_id in session.exec(query)]


DESCRIPTION = {  # for the API's own, as OpenAPI 3.2 describes such a stream
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
    """FastAPI's own streams hand on what they are told in a task, which fails where a reader leaves meanwhile."""

    media_type = "text/event-stream"


async def stream(database: Database, bell: Bell, chosen: Chosen, after: int) -> AsyncIterator[bytes]:
    """Every event above `after`, then each new one as it is committed, until the reader leaves or the studio closes."""
    yield format_sse_event(comment="open", retry=RETRY_MS)
    while not bell.stopping:
        change = bell.next()
        rows = await run_in_threadpool(rows_after, database, chosen, after)
        for row in rows:
            after = row["id"]
            yield format_sse_event(data_str=json.dumps(row), event=row["kind"], id=str(after))
        while len(rows) < ROWS_AT_ONCE and not bell.stopping and not change.is_set():
            try:
                await asyncio.wait_for(change.wait(), QUIET_SECONDS)
            except TimeoutError:
                yield format_sse_event(comment="quiet")


def _json(event: Event, run_id: int | None) -> dict[str, Any]:
    return {
        "id": event.id,
        "job_id": event.job_id,
        "run_id": run_id,
        "attempt": event.attempt,
        "kind": event.kind,
        "step": event.step,
        "payload": event.payload,
        "at": event.at.isoformat(),
    }
