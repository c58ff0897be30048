"""JSON: drawing pictures, what was drawn, and what becomes of a picture."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel

from app.actions import drawings, pictures, recipes
from app.actions.drawings import DrawingView
from app.actions.pictures import Number, PictureRequest
from app.actions.recipes import RecipeView
from app.actions.run_views import SampleView
from app.routes.api_projects import JobStarted
from app.routes.files import answers_with, cached
from app.routes.given import After, Db, Id, Limit, StrictRoute

router = APIRouter(prefix="/api", tags=["pictures"], route_class=StrictRoute)


class PictureBody(BaseModel):
    """What to draw; fields left out take the model's own value, the seed a random one.

    A number may be text, as somebody typed it. An adapter is `{"id"}` or `{"run", "step"?}`, with a `strength`, or with
    several `strengths`: every combination is drawn with each seed.
    """

    prompt: str
    model: str = "pocket"
    adapters: list[dict[str, Any]] = []
    seed: Number | None = None
    count: Number = 1
    steps: Number | None = None
    guidance: Number | None = None
    width: Number | None = None
    height: Number | None = None
    base_precision: str = "full"
    without: bool = False

    def as_request(self) -> PictureRequest:
        return PictureRequest(
            prompt=self.prompt,
            model=self.model,
            adapters=self.adapters,
            seed=self.seed,
            count=self.count,
            steps=self.steps,
            guidance=self.guidance,
            width=self.width,
            height=self.height,
            base_precision=self.base_precision,
            without=self.without,
        )


class PictureChange(BaseModel):
    favourite: bool


@router.get("/pictures")
def list_pictures(db: Db, after: After = 0, limit: Limit = 200) -> list[SampleView]:
    return pictures.list_pictures(db, after, limit)


@router.post("/pictures", status_code=202)
def draw_pictures(db: Db, body: PictureBody) -> JobStarted:
    return JobStarted(job_id=pictures.draw(db, body.as_request()))


@router.get("/pictures/{sample_id}/file", **answers_with("image/png"))
def picture_file(db: Db, sample_id: Id, request: Request) -> Response:
    path = pictures.file_of(db, sample_id)
    stat = path.stat()
    return cached(request, path, "image/png", f"{sample_id}-{stat.st_mtime_ns:x}-{stat.st_size:x}")


@router.get("/pictures/{sample_id}/thumb", **answers_with("image/jpeg"))
def picture_thumb(db: Db, sample_id: Id, request: Request) -> Response:
    """A small JPEG of the picture."""
    path = pictures.thumb_of(db, sample_id)
    return cached(request, path, "image/jpeg", f"thumb-{sample_id}-{path.stat().st_mtime_ns:x}")


@router.get("/pictures/{sample_id}/recipe")
def picture_recipe(db: Db, sample_id: Id) -> RecipeView:
    """All that it takes to draw the picture, and the request that draws it again."""
    return recipes.of_picture(db, sample_id)


@router.post("/pictures/{sample_id}/again", status_code=202)
def draw_again(db: Db, sample_id: Id) -> JobStarted:
    """Draw the picture once more from its recipe; the job's result says whether both are the same, bit for bit."""
    return JobStarted(job_id=recipes.again(db, sample_id))


@router.patch("/pictures/{sample_id}")
def change_picture(db: Db, sample_id: Id, body: PictureChange) -> SampleView:
    return pictures.set_favourite(db, sample_id, body.favourite)


@router.delete("/pictures/{sample_id}", status_code=204)
def delete_picture(db: Db, sample_id: Id) -> None:
    pictures.delete(db, sample_id)


@router.post("/pictures/{sample_id}/restore")
def restore_picture(db: Db, sample_id: Id) -> SampleView:
    """Bring a deleted picture back, as long as the trash was not emptied."""
    return pictures.restore(db, sample_id)


@router.post("/recipes")
def read_recipe(db: Db, recipe: dict[str, Any] = Body()) -> PictureRequest:  # noqa: B008
    """The request that draws the picture of a recipe, as the text "recipe" of a PNG has it."""
    return recipes.request_of(db, recipe)


@router.get("/drawings")
def list_drawings(db: Db) -> list[DrawingView]:
    """What was drawn, the newest first: one drawing for each request, with its pictures and those to come."""
    return drawings.list_drawings(db)


@router.get("/drawings/{job_id}")
def get_drawing(db: Db, job_id: Id) -> DrawingView | None:
    return drawings.get_drawing(db, job_id)
