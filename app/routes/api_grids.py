"""JSON: grids of pictures over checkpoints, adapters, strengths, prompts and seeds."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from app.actions import grid_cost, grid_sheet, grid_views, grids
from app.actions.grid_cost import GridCost
from app.actions.grid_views import GridView
from app.actions.grids import GridRequest
from app.actions.pictures import Number
from app.routes.files import StreamedFile, answers_with
from app.routes.given import ID_AT_MOST, After, Db, Id, Limit, StrictRoute

router = APIRouter(prefix="/api", tags=["grids"], route_class=StrictRoute)
MaybeId = Annotated[int | None, Query(ge=1, le=ID_AT_MOST)]


class GridBody(BaseModel):
    """What to draw; fields left out take the model's own value, the seed a random one.

    A number may be text, as somebody typed it.
    """

    axes: dict[str, Any] = Field(
        description="One to three of checkpoint (steps), adapter (ids), strength, prompt and seed, each a list."
    )
    project_id: int | None = None
    run_id: int | None = Field(default=None, description="The run whose checkpoints are drawn with.")
    adapters: list[dict[str, Any]] = []
    model: str | None = None
    prompt: str = ""
    seed: Number | None = None
    strength: Number | None = None
    steps: Number | None = None
    guidance: Number | None = None
    width: Number | None = None
    height: Number | None = None
    base_precision: str = "full"

    def as_request(self) -> GridRequest:
        return GridRequest(
            axes=self.axes,
            project_id=self.project_id,
            run_id=self.run_id,
            adapters=self.adapters,
            model=self.model,
            prompt=self.prompt,
            seed=self.seed,
            strength=self.strength,
            steps=self.steps,
            guidance=self.guidance,
            width=self.width,
            height=self.height,
            base_precision=self.base_precision,
        )


class GridStarted(BaseModel):
    grid_id: int
    job_id: int


@router.post("/grids", status_code=202)
def draw_grid(db: Db, body: GridBody) -> GridStarted:
    """Draw a grid in a job that lets waiting runs go first, after each picture."""
    grid = grids.create(db, body.as_request())
    return GridStarted(grid_id=int(grid.id or 0), job_id=grid.job_id)


@router.post("/grids/check")
def check_grid(db: Db, body: GridBody) -> GridCost:
    """How many pictures the same body would draw, how long that takes, and every problem with it; changes nothing."""
    return grid_cost.cost(db, body.as_request())


@router.get("/grids")
def list_grids(
    db: Db, after: After = 0, limit: Limit = 200, run: MaybeId = None, project: MaybeId = None
) -> list[GridView]:
    return grid_views.list_grids(db, after, limit, run_id=run, project_id=project)


@router.get("/grids/{grid_id}")
def get_grid(db: Db, grid_id: Id) -> GridView:
    return grid_views.get_grid(db, grid_id)


@router.delete("/grids/{grid_id}", status_code=204)
def delete_grid(db: Db, grid_id: Id) -> None:
    grid_views.delete(db, grid_id)


@router.get("/grids/{grid_id}/sheet", **answers_with("image/png"))
def grid_as_picture(db: Db, grid_id: Id) -> Response:
    """The whole grid as one picture, with its rows and columns named."""
    found = grid_sheet.write(db, grid_id)
    return StreamedFile(found.path, found.name, "image/png")
