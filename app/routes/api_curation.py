"""JSON: curating a project's photos: the review, changes of many photos, undo, masks, versions, archives."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from app.actions import archive_in, archive_out, bulk_edits, edits, masks, photo_changes, projects, review, versions
from app.actions.archive_in import ArchiveAdded
from app.actions.archive_out import Layout
from app.actions.bulk_edits import Edited
from app.actions.edits import Done, EditView
from app.actions.photo_views import PhotoView, SubjectView
from app.actions.review import Pick, ReviewView
from app.actions.versions import Difference, VersionView
from app.routes.files import StreamedFile, answers_with, cached, received
from app.routes.given import ID_AT_MOST, After, Db, Id, Limit, StrictRoute

router = APIRouter(prefix="/api", tags=["curation"], route_class=StrictRoute)
VersionId = Annotated[int, Query(ge=0, le=ID_AT_MOST, description="0 is the set as it is now.")]


class EditBody(BaseModel):
    """One change of many photos; `app/actions/bulk_edits.py` lists the keys of `set`."""

    photos: Any = None
    set: Any = None
    preview: bool = False


class ReviewStarted(BaseModel):
    job_id: int | None


class Forgotten(BaseModel):
    steps: int


@router.get("/projects/{project_id}/review")
def get_review(db: Db, project_id: Id) -> ReviewView:
    return review.get(db, project_id)


@router.post("/projects/{project_id}/review", status_code=202)
def start_review(db: Db, project_id: Id) -> ReviewStarted:
    """Review the photos, where that has not been done and no job is at it. Adding photos starts one by itself."""
    return ReviewStarted(job_id=review.start(db, project_id))


@router.get("/projects/{project_id}/pick")
def pick_best(db: Db, project_id: Id, count: Annotated[str, Query(max_length=40)]) -> Pick:
    """The best `count` photos, as a proposal: `edit` is what to send to /edits to set the others aside."""
    return review.pick(db, project_id, count)


@router.post("/projects/{project_id}/edits")
def edit_photos(db: Db, project_id: Id, body: EditBody) -> Edited:
    """Change many photos as one step that can be undone; with `preview` only say what would change."""
    return bulk_edits.apply(db, project_id, body.photos, body.set, preview=body.preview)


@router.get("/projects/{project_id}/edits")
def list_edits(db: Db, project_id: Id, after: After = 0, limit: Limit = 1000) -> list[EditView]:
    """The steps that can be undone, and those that were and can be redone, the newest first."""
    return edits.history(db, project_id, after, limit)


@router.delete("/projects/{project_id}/edits")
def forget_edits(db: Db, project_id: Id) -> Forgotten:
    """Forget every step: deleted photos are moved to the trash, and nothing before this can be undone."""
    return Forgotten(steps=edits.forget(db, project_id))


@router.post("/projects/{project_id}/undo")
def undo(db: Db, project_id: Id) -> Done:
    return edits.undo(db, project_id)


@router.post("/projects/{project_id}/redo")
def redo(db: Db, project_id: Id) -> Done:
    return edits.redo(db, project_id)


@router.post("/photos/{photo_id}/captions/{caption_id}/restore")
def restore_caption(db: Db, photo_id: Id, caption_id: Id) -> PhotoView:
    """Write a caption of the photo's history again."""
    return photo_changes.restore_caption(db, photo_id, caption_id)


@router.get("/photos/{photo_id}/subject")
def get_subject(db: Db, photo_id: Id) -> SubjectView:
    return review.subject(db, photo_id)


@router.get("/photos/{photo_id}/mask", **answers_with("image/png"))
def get_mask(db: Db, photo_id: Id, request: Request, v: str | None = None) -> Response:
    """8-bit grey, of the photo's size as seen: 255 subject, 128 background, 0 ignored. X-Mask-Source: you, found."""
    mask = masks.get(db, photo_id)
    response = cached(request, mask.path, "image/png", mask.sha256, version=v)
    response.headers["X-Mask-Source"] = mask.source
    return response


@router.put("/photos/{photo_id}/mask")
async def put_mask(db: Db, photo_id: Id, request: Request) -> PhotoView:
    """Raw bytes of a PNG of the photo's size; greys count as the nearest of 255, 128 and 0."""
    async with received(request, db.home.uploads, masks.BYTES_AT_MOST, "The mask") as upload:
        return await run_in_threadpool(masks.put, db, photo_id, upload.path)


@router.delete("/photos/{photo_id}/mask")
def delete_mask(db: Db, photo_id: Id) -> PhotoView:
    """Remove your own mask; the one that was found counts again."""
    return masks.delete(db, photo_id)


@router.get("/projects/{project_id}/versions")
def list_versions(db: Db, project_id: Id, after: After = 0, limit: Limit = 200) -> list[VersionView]:
    """The sets that runs were made with, oldest first."""
    return versions.list_versions(db, project_id, after, limit)


@router.get("/projects/{project_id}/versions/difference")
def version_difference(db: Db, project_id: Id, before: VersionId, after: VersionId = versions.NOW) -> Difference:
    """What changed from one version to another: photos added and removed, captions, crops, masks."""
    return versions.difference(db, project_id, before, after)


@router.put("/projects/{project_id}/archive")
async def put_archive(db: Db, project_id: Id, request: Request) -> ArchiveAdded:
    """Raw bytes of a zip: photos, captions and masks in the layout of kohya's scripts, ai-toolkit or any folders."""
    await run_in_threadpool(projects.check, db, project_id)
    async with received(request, db.home.uploads, archive_in.BYTES_AT_MOST, "The archive") as upload:
        return await run_in_threadpool(archive_in.add, db, project_id, upload.path)


@router.get("/projects/{project_id}/archive", **answers_with("application/zip"))
def get_archive(db: Db, project_id: Id, layout: Layout = Layout.AI_TOOLKIT) -> Response:
    """The photos that are not set aside, with captions and masks, as a zip."""
    made = archive_out.write(db, project_id, layout)
    return StreamedFile(made.path, made.name)
