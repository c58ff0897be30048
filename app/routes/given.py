"""Parameters of routes: the database, checked numbers from the address, and JSON that the database can hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, Response
from fastapi.routing import APIRoute
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


class _StrictRequest(Request):
    """A request whose JSON can be stored and sent back: UTF-8 text, and numbers of at most 64 bits."""

    async def json(self) -> Any:
        """The body. Raises JSONDecodeError, which is answered with 422, also where Python's reader is more lenient or
        fails otherwise: lone surrogates, NaN, integers too large for SQLite, too deep nesting."""
        content = await self.body()
        try:
            found = json.loads(content, parse_int=_whole_number, parse_constant=_no_number)
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeError:
            raise json.JSONDecodeError("it holds text that is not UTF-8", "", 0) from None
        except RecursionError:
            raise json.JSONDecodeError("it is nested too deeply", "", 0) from None
        return found


def _whole_number(digits: str) -> int:
    if len(digits) > 20 or not -ID_AT_MOST <= int(digits) <= ID_AT_MOST:
        raise json.JSONDecodeError(f"the number {digits[:20]}... is too large", "", 0)
    return int(digits)


def _no_number(word: str) -> float:
    raise json.JSONDecodeError(f"{word} is not a number", "", 0)


class StrictRoute(APIRoute):
    """A route whose body is read by `_StrictRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return read_strictly


Db = Annotated[Database, Depends(_database)]
Id = Annotated[int, Path(ge=1, le=ID_AT_MOST)]
Number = Annotated[int, Path(ge=0, le=ID_AT_MOST)]
After = Annotated[int, Query(ge=0, le=ID_AT_MOST, description="Only what has a larger id.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most this many.")]
