"""JSON: sending a run's adapter to another program."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.actions import sending
from app.actions.send_job import SHARE
from app.actions.sending import Offer, Planned, Request
from app.routes.api_projects import JobStarted
from app.routes.given import ID_AT_MOST, Db, Id, StrictRoute
from core.adapters.programs import PROGRAMS

router = APIRouter(prefix="/api", tags=["runs"], route_class=StrictRoute)
NAMES = f"{', '.join(PROGRAMS)} or {SHARE}, one zip for all of them."
FOLDER_CHARACTERS = 2000


class SendBody(BaseModel):
    program: str = Field(description=NAMES)
    step: int | None = Field(default=None, description="The checkpoint; without it the starred, else the newest one.")
    strength: float = 1.0
    folder: str = Field(default="", max_length=FOLDER_CHARACTERS, description="Where to copy them; empty: one zip.")


@router.get("/runs/{run_id}/programs")
def programs_of_run(db: Db, run_id: Id) -> Offer:
    """The programs that read the run's adapters, with the folders that were named for them."""
    return sending.offer(db, run_id)


@router.get("/runs/{run_id}/send")
def plan_sending(
    db: Db,
    run_id: Id,
    program: str,
    step: Annotated[int | None, Query(ge=0, le=ID_AT_MOST)] = None,
    strength: float = 1.0,
    folder: Annotated[str, Query(max_length=FOLDER_CHARACTERS)] = "",
) -> Planned:
    """What the same values would write and the three lines that use it, or every problem; changes nothing."""
    return sending.plan(db, run_id, Request(program, step, strength, folder))


@router.post("/runs/{run_id}/send", status_code=202)
def send(db: Db, run_id: Id, body: SendBody) -> JobStarted:
    """Write the adapter, its preview, text and workflow to a folder, or as a zip (GET /api/exports/{job}/file)."""
    return JobStarted(job_id=sending.send(db, run_id, Request(body.program, body.step, body.strength, body.folder)))
