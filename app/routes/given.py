"""What routes are given: the database, and checked numbers from the address."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request

from app.database import Database

ID_AT_MOST = 2**63 - 1


def _database(request: Request) -> Database:
    found: Database = request.app.state.database
    return found


Db = Annotated[Database, Depends(_database)]
Id = Annotated[int, Path(ge=1, le=ID_AT_MOST)]
After = Annotated[int, Query(ge=0, le=ID_AT_MOST, description="Only what has a larger id.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most this many.")]
