"""JSON: a run's checkpoints on the disk, and the mean of several."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.actions import averages, checkpoint_files, choosing
from app.actions.adapters import AdapterView
from app.actions.checkpoint_files import Removed, RunDisk
from app.actions.choosing import CheckpointMeasures
from app.routes.api_projects import JobStarted
from app.routes.given import Db, Id, Number, StrictRoute

router = APIRouter(prefix="/api", tags=["runs"], route_class=StrictRoute)


class ThinBody(BaseModel):
    keep: int = Field(description="How many stay; the starred, the newest and the best are always among them.")


class AverageBody(BaseModel):
    steps: list[Any]
    name: str = ""


@router.get("/runs/{run_id}/disk")
def run_disk(db: Db, run_id: Id) -> RunDisk:
    return checkpoint_files.disk_use(db, run_id)


@router.delete("/runs/{run_id}/checkpoints/{step}")
def delete_checkpoint(db: Db, run_id: Id, step: Number) -> Removed:
    """Move a checkpoint to the trash; `restore` takes it back."""
    return checkpoint_files.delete(db, run_id, step)


@router.post("/runs/{run_id}/checkpoints/{step}/restore")
def restore_checkpoint(db: Db, run_id: Id, step: Number) -> list[CheckpointMeasures]:
    checkpoint_files.restore(db, run_id, step)
    return choosing.checkpoints(db, run_id)


@router.post("/runs/{run_id}/thin")
def thin_checkpoints(db: Db, run_id: Id, body: ThinBody) -> Removed:
    """Move all but some checkpoints to the trash, evenly spread."""
    return checkpoint_files.thin(db, run_id, body.keep)


@router.get("/runs/{run_id}/averages")
def list_averages(db: Db, run_id: Id) -> list[AdapterView]:
    return averages.of_run(db, run_id)


@router.post("/runs/{run_id}/averages", status_code=202)
def average_checkpoints(db: Db, run_id: Id, body: AverageBody) -> JobStarted:
    """Write the mean of several checkpoints as an adapter, in a job."""
    return JobStarted(job_id=averages.average(db, run_id, body.steps, body.name))
