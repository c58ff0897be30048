"""What routes are given: the database, and checked numbers from the address."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel

from app.database import Database

ID_AT_MOST = 2**63 - 1


class OneProblem(BaseModel):
    field: str
    message: str


class ErrorWords(BaseModel):
    code: str
    message: str
    problems: list[OneProblem]


class ErrorBody(BaseModel):
    """The one shape of every error."""

    error: ErrorWords


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "Something to put right: a sentence, and one for each field"},
    "5XX": {"model": ErrorBody, "description": "Not the request's fault: a full disk, or a bug"},
}


def _database(request: Request) -> Database:
    found: Database = request.app.state.database
    return found


Db = Annotated[Database, Depends(_database)]
Id = Annotated[int, Path(ge=1, le=ID_AT_MOST)]
After = Annotated[int, Query(ge=0, le=ID_AT_MOST, description="Only what has a larger id.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most this many.")]
