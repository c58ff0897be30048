"""JSON: jobs, models, settings, the disk; and the event stream."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from pydantic import BaseModel

from app import events
from app.actions import captioner, disk, jobs, model_files, models, projects, runs, settings
from app.actions.captioner import CaptionerView
from app.actions.jobs import JobView
from app.actions.models import AnalysisModelView, ModelView
from app.jobs.states import Kind, State
from app.routes.api_projects import JobStarted
from app.routes.api_runs import StateNow, StopBody
from app.routes.given import ID_AT_MOST, After, Db, Id, Limit, StrictRoute

router = APIRouter(prefix="/api", tags=["studio"], route_class=StrictRoute)
MaybeId = Annotated[int | None, Query(ge=1, le=ID_AT_MOST)]


class DismissBody(BaseModel):
    dismissed: bool = True


class MoveBody(BaseModel):
    position: int


class ModelFileBody(BaseModel):
    """A file of ComfyUI's folder, and the known model that it is."""

    file: str
    model: str


class Freed(BaseModel):
    bytes: int


@router.get("/alive", status_code=204)
async def alive() -> None:
    """Answers at once. An open page asks this every few seconds, so it reads nothing and takes no thread."""


@router.get("/jobs")
def list_jobs(
    db: Db,
    after: After = 0,
    limit: Limit = 200,
    state: Annotated[list[State] | None, Query()] = None,
    kind: Annotated[list[Kind] | None, Query()] = None,
    project: MaybeId = None,
) -> list[JobView]:
    return jobs.list_jobs(db, after, limit, states=state or (), kinds=kind or (), project_id=project)


@router.get("/jobs/{job_id}")
def get_job(db: Db, job_id: Id) -> JobView:
    return jobs.get_job(db, job_id)


@router.post("/jobs/{job_id}/stop", status_code=202)
def stop_job(db: Db, job_id: Id, body: StopBody | None = None) -> StateNow:
    return StateNow(state=jobs.stop(db, job_id, at_once=bool(body and body.now)).state)


@router.post("/jobs/{job_id}/retry", status_code=202)
def retry_job(db: Db, job_id: Id) -> StateNow:
    return StateNow(state=jobs.retry(db, job_id).state)


@router.post("/jobs/{job_id}/dismiss")
def dismiss_job(db: Db, job_id: Id, body: DismissBody | None = None) -> JobView:
    """Do not show any more that a job has failed; with `dismissed` false, show it again."""
    return jobs.dismiss(db, job_id, (body or DismissBody()).dismissed)


@router.post("/jobs/{job_id}/move", status_code=202)
def move_job(db: Db, job_id: Id, body: MoveBody) -> JobView:
    """Put a waiting job at a place of its lane; 0 runs next."""
    return jobs.move(db, job_id, body.position)


@router.get("/models")
def list_models(db: Db) -> list[ModelView]:
    return models.list_models(db)


@router.get("/analysis-models")
def list_analysis_models(db: Db) -> list[AnalysisModelView]:
    """Models that look at photos; they are downloaded as the others are."""
    return models.list_analysis_models(db)


@router.post("/models/{name}/download", status_code=202)
def download_model(db: Db, name: str) -> JobStarted:
    """Fetch a model from the hub, or go on where an earlier download ended."""
    return JobStarted(job_id=models.download(db, name))


@router.get("/model-files")
def list_model_files(db: Db) -> model_files.ModelFiles:
    """What is in ComfyUI's folder."""
    return model_files.list_files(db)


@router.post("/model-files", status_code=202)
def use_model_file(db: Db, body: ModelFileBody) -> JobStarted:
    """Make a model of a file in ComfyUI's folder."""
    return JobStarted(job_id=model_files.use(db, body.file, body.model))


@router.get("/captioner")
def built_in_captioner(db: Db) -> CaptionerView:
    return captioner.view(db)


@router.post("/captioner/install", status_code=202)
def install_captioner(db: Db) -> JobStarted:
    """Install what is missing of the built-in captioner: mlx-vlm in an environment of its own, and its model."""
    return JobStarted(job_id=captioner.install(db))


@router.delete("/captioner")
def remove_captioner(db: Db) -> Freed:
    """Delete the environment; the model stays in the cache that other programs share."""
    return Freed(bytes=captioner.remove(db))


@router.get("/settings")
def get_settings(db: Db) -> dict[str, Any]:
    return settings.get_settings(db)


@router.patch("/settings")
def change_settings(db: Db, body: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008
    return settings.change(db, body)


@router.get("/disk")
def disk_use(db: Db) -> disk.DiskUse:
    return disk.use(db)


@router.delete("/trash")
def empty_trash(db: Db) -> Freed:
    return Freed(bytes=disk.empty_trash(db))


@router.delete("/cache")
def clear_cache(db: Db) -> Freed:
    return Freed(bytes=disk.clear_cache(db))


def _starting_point(
    db: Db,
    run: MaybeId = None,
    job: MaybeId = None,
    project: MaybeId = None,
    kind: Annotated[list[str] | None, Query(description="Of these kinds only, as in ?kind=state.")] = None,
    after: str | None = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> tuple[events.EventFilter, int]:
    """Whose events, and after which. Resolved before the stream opens, so that a wrong id is a plain 404."""
    if run is not None:
        job = runs.get_run(db, run).job_id
    if job is not None:
        jobs.get_job(db, job)
    if project is not None:
        projects.get_project(db, project)
    chosen = events.EventFilter(job, project, tuple(kind or ()))
    for given in (last_event_id, after):  # a reconnect's header is newer than the address
        if given is not None and given.strip().isdecimal():
            return chosen, min(int(given), ID_AT_MOST)
    if job is None and project is None:
        with db.read() as session:
            return chosen, events.newest_id(session)
    return chosen, 0


@router.get("/events", response_class=events.EventStream, responses={200: events.DESCRIPTION})
async def stream_events(
    request: Request, db: Db, start: Annotated[tuple[events.EventFilter, int], Depends(_starting_point)]
) -> Response:
    """Events of a run, a job or a project from the beginning (or after=); of everything, from now on."""
    stream = events.stream(db, request.app.state.changes, *start)
    return events.EventStream(stream, headers={"Cache-Control": "no-cache"})
