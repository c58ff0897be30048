"""JSON: choosing among a run's checkpoints, and the time-lapse of its samples."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel

from app.actions import choosing, timelapse
from app.actions.choosing import CheckpointMeasures
from app.routes.files import answers_with
from app.routes.given import Db, Id, Number, StrictRoute

router = APIRouter(prefix="/api", tags=["runs"], route_class=StrictRoute)


class StarBody(BaseModel):
    starred: bool


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Which checkpoint to draw with."""

    step: int | None  # null where no score can tell
    close_call: bool
    words: str
    reasons: tuple[str, ...]


@router.get("/runs/{run_id}/checkpoints")
def list_checkpoints(db: Db, run_id: Id) -> list[CheckpointMeasures]:
    return choosing.checkpoints(db, run_id)


@router.patch("/runs/{run_id}/checkpoints/{step}")
def star_checkpoint(db: Db, run_id: Id, step: Number, body: StarBody) -> CheckpointMeasures:
    return choosing.star(db, run_id, step, starred=body.starred)


@router.get("/runs/{run_id}/suggestion")
def suggestion(db: Db, run_id: Id) -> Suggestion:
    found = choosing.suggestion(db, run_id)
    return Suggestion(found.step, found.close_call, found.words, found.reasons)


@router.get("/runs/{run_id}/timelapse", **answers_with("image/webp"))
def run_timelapse(db: Db, run_id: Id, format: str = "webp") -> Response:
    """An animated picture of the run's samples, `webp` or `gif`. A plain function: it runs beside the event loop."""
    film = timelapse.timelapse(db, run_id, format)
    return FileResponse(film.path, media_type=film.media_type, filename=film.name)
