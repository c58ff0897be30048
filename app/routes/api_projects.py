"""JSON: projects, their photos and captions."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from app.actions import captions, examples, photo_changes, photos, projects
from app.actions.photo_views import PhotoView
from app.actions.projects import ProjectView
from app.errors import TooLarge
from app.routes.files import answers_with, cached, received
from app.routes.given import ID_AT_MOST, After, Db, Id, Limit, StrictRoute
from core.dataset import names
from core.errors import FieldProblem

router = APIRouter(prefix="/api", tags=["projects"], route_class=StrictRoute)
Batch = Annotated[str, Query(max_length=100, description="Any word that the photos of one drop share.")]

OtherThan = Annotated[int | None, Query(ge=1, le=ID_AT_MOST, description="The project that the word is for.")]


class ProjectBody(BaseModel):
    name: str
    trigger: str
    class_word: str


class ProjectChange(BaseModel):
    """What to change; `replace_in_captions` puts a new trigger in the place of the old one in the captions."""

    name: str | None = None
    trigger: str | None = None
    class_word: str | None = None
    replace_in_captions: bool = False


class TriggerWord(BaseModel):
    trigger: str


class CaptionJobBody(BaseModel):
    """How to write captions; fields left out come from the settings."""

    backend: str = Field(default="template", description="template, openai or built-in")
    template: str | None = None
    url: str | None = None
    model: str | None = None
    prompt: str | None = None
    overwrite: bool = False
    preview: bool = Field(default=False, description="Write nothing: the job's result has the captions.")
    photos: list[int] | None = None


class JobStarted(BaseModel):
    job_id: int


@router.get("/projects")
def list_projects(db: Db, after: After = 0, limit: Limit = 200) -> list[ProjectView]:
    return projects.list_projects(db, after, limit)


@router.post("/projects", status_code=201)
def create_project(db: Db, body: ProjectBody) -> ProjectView:
    return projects.create(db, body.name, body.trigger, body.class_word)


@router.post("/projects/example", status_code=201)
def create_example(db: Db) -> ProjectView:
    """A project with the example photos, ready to train."""
    return examples.create(db)


@router.get("/trigger")
def suggest_trigger(db: Db, name: Annotated[str, Query(max_length=200)] = "", project: OtherThan = None) -> TriggerWord:
    """A rare word for a subject of this name: the name itself where it is rare."""
    return TriggerWord(trigger=projects.suggest_trigger(db, name, project))


@router.get("/examples/{name}", **answers_with("image/jpeg"))
def example_file(name: str) -> Response:
    """One of the photos that come with Pocket."""
    return FileResponse(examples.file_of(name))


@router.get("/projects/{project_id}")
def get_project(db: Db, project_id: Id) -> ProjectView:
    return projects.get_project(db, project_id)


@router.patch("/projects/{project_id}")
def change_project(db: Db, project_id: Id, body: ProjectChange) -> ProjectView:
    return projects.change(
        db,
        project_id,
        name=body.name,
        trigger=body.trigger,
        class_word=body.class_word,
        replace_in_captions=body.replace_in_captions,
    )


@router.delete("/projects/{project_id}", status_code=204)
def delete_project(db: Db, project_id: Id) -> None:
    projects.delete(db, project_id)


@router.get("/projects/{project_id}/photos")
def list_photos(db: Db, project_id: Id, after: After = 0, limit: Limit = 500) -> list[PhotoView]:
    return photos.list_photos(db, project_id, after, limit)


@router.put("/projects/{project_id}/photos/{filename:name}", status_code=201)
async def put_photo(
    db: Db, project_id: Id, filename: str, request: Request, response: Response, batch: Batch = ""
) -> PhotoView:
    """Raw bytes of one photo. 201 when it is new, 200 when the project had the same bytes already.

    Photos that are sent with the same `batch`, one soon after the other, are one step of undo.
    """
    await run_in_threadpool(projects.check, db, project_id)
    shown = names.shown(filename)
    try:
        async with received(request, db.home.uploads, photos.BYTES_AT_MOST, shown) as upload:
            photo, new = await run_in_threadpool(
                photos.add, db, project_id, filename, upload.path, upload.sha256, batch
            )
    except TooLarge as problem:
        problem.problems.append(FieldProblem(shown, problem.message.removeprefix(f"{shown} ")))
        raise
    response.status_code = 201 if new else 200
    return photo


@router.post("/projects/{project_id}/captions", status_code=202)
def start_captions(db: Db, project_id: Id, body: CaptionJobBody) -> JobStarted:
    job_id = captions.start(
        db,
        project_id,
        body.backend,
        template=body.template,
        url=body.url,
        model=body.model,
        prompt=body.prompt,
        overwrite=body.overwrite,
        preview=body.preview,
        photo_ids=body.photos,
    )
    return JobStarted(job_id=job_id)


@router.get("/captioners")
def list_captioners(db: Db) -> list[dict[str, Any]]:
    """The vision servers that answer on this computer, with their models."""
    return captions.servers(db)


@router.get("/photos/{photo_id}")
def get_photo(db: Db, photo_id: Id) -> PhotoView:
    return photos.get_photo(db, photo_id)


@router.get("/photos/{photo_id}/captions")
def caption_history(db: Db, photo_id: Id) -> list[dict[str, Any]]:
    """Every caption the photo has had, the newest first."""
    history = photos.caption_history(db, photo_id)
    return [{"id": row.id, "text": row.text, "origin": row.origin, "at": row.at} for row in history]


@router.get("/photos/{photo_id}/file", **answers_with("image/*"))
def photo_file(db: Db, photo_id: Id, request: Request, v: str | None = None) -> Response:
    file = photos.file_of(db, photo_id)
    return cached(request, file.path, file.media_type, file.tag, version=v)


@router.get("/photos/{photo_id}/thumb", **answers_with("image/jpeg"))
def photo_thumb(db: Db, photo_id: Id, request: Request, v: str | None = None) -> Response:
    file = photos.thumb_of(db, photo_id)
    return cached(request, file.path, file.media_type, file.tag, version=v)


@router.patch("/photos/{photo_id}")
def change_photo(db: Db, photo_id: Id, body: dict[str, Any] = Body()) -> PhotoView:  # noqa: B008
    """{caption, crop, crops, aside, subject}, any of them, as one step; `photo_changes.change` says what each is."""
    return photo_changes.change(db, photo_id, body)


@router.delete("/photos/{photo_id}", status_code=204)
def delete_photo(db: Db, photo_id: Id) -> None:
    photos.delete(db, photo_id)
