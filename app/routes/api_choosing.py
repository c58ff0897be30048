"""JSON: choosing among a run's checkpoints, training on from one without some photos, and the run's time-lapse."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from app.actions import choosing, timelapse, train_on
from app.actions.choosing import CheckpointMeasures
from app.actions.run_views import RunDetail
from app.routes.files import answers_with
from app.routes.given import Db, Id, Number, OneProblem, StrictRoute

router = APIRouter(prefix="/api", tags=["runs"], route_class=StrictRoute)


class StarBody(BaseModel):
    starred: bool


class WithoutBody(BaseModel):
    photo_ids: list[int]
    step: int | None = Field(default=None, description="The checkpoint to begin from; the starred or best one without.")
    stop: bool = Field(default=False, description="Stop the run first, if it has not ended.")


@dataclass(frozen=True, slots=True)
class WithoutPlan:
    """What training on without these photos would do."""

    words: str
    problems: list[OneProblem]
    step: int | None  # of the checkpoint that the new run would begin from
    running: bool  # the run has not ended: with "stop" it is stopped, else the new one waits for it


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


@router.post("/runs/{run_id}/without", status_code=201)
def train_on_without(db: Db, run_id: Id, body: WithoutBody) -> RunDetail:
    """Set photos of the run aside, and begin a new run from one of its checkpoints on the others."""
    return train_on.train_on_without(db, run_id, body.photo_ids, body.step, stop=body.stop)


@router.post("/runs/{run_id}/without/check")
def check_without(db: Db, run_id: Id, body: WithoutBody) -> WithoutPlan:
    """What the same body would do, or every problem that it would be refused for; changes nothing."""
    found = train_on.plan(db, run_id, body.photo_ids, body.step)
    problems = [OneProblem(field=each.field, message=each.message) for each in found.problems]
    return WithoutPlan(found.words, problems, found.step, found.running)
