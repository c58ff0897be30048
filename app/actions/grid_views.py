"""Grids as they are shown: each cell with its picture, as far as it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.actions import disk
from app.actions.run_views import picture_url
from app.database import Database
from app.errors import Conflict, NotFound
from app.jobs import store
from app.jobs.states import State
from app.tables import Adapter, Checkpoint, Grid, Sample


@dataclass(frozen=True, slots=True)
class GridPicture:
    """One cell of a grid."""

    number: int  # the `prompt_id` of its picture, also in the `sample` event
    checkpoint: int | None  # step
    adapter: int | None  # id; None: the model as it is
    strength: float
    prompt: str
    seed: int
    starred: bool  # its checkpoint has the star of its run
    id: int | None  # of the picture
    url: str | None  # None: not drawn yet
    width: int | None
    height: int | None
    problem: str  # why there is no picture and will be none; empty otherwise


@dataclass(frozen=True, slots=True)
class GridView:
    """One grid."""

    id: int
    job_id: int
    project_id: int | None
    run_id: int | None
    state: State  # of its job
    phase: str
    error: dict[str, Any] | None
    axes: dict[str, list[Any]]  # by name, the slowest first
    pictures: list[GridPicture]
    settings: dict[str, Any]  # model, steps, guidance, width, height, base_precision: as in a request
    created_at: datetime


SETTINGS = ("model", "steps", "guidance", "width", "height", "base_precision")


def list_grids(
    database: Database, after: int = 0, limit: int = 200, *, run_id: int | None = None, project_id: int | None = None
) -> list[GridView]:
    """Grids with an id above `after`, oldest first."""
    chosen = select(Grid).where(col(Grid.id) > after).order_by(col(Grid.id)).limit(limit)
    if run_id is not None:
        chosen = chosen.where(Grid.run_id == run_id)
    if project_id is not None:
        chosen = chosen.where(Grid.project_id == project_id)
    with database.read() as session:
        return [_view(session, row) for row in session.exec(chosen).all()]


def get_grid(database: Database, grid_id: int) -> GridView:
    """Raises NotFound."""
    with database.read() as session:
        return _view(session, find(session, grid_id))


def delete(database: Database, grid_id: int) -> None:
    """Remove a grid and its pictures, whose files go to the trash. Raises NotFound, Conflict while it is drawn."""
    with database.write() as session:
        row = find(session, grid_id)
        job = store.get(session, row.job_id)
        if job.state is State.RUNNING:
            raise Conflict("This grid is being drawn; stop it first.")
        drawn = session.exec(select(Sample).where(Sample.job_id == row.job_id)).all()
        others = [database.home.file(each.file) for each in drawn]
        unreferenced = disk.UnreferencedFiles(database.home, others=others)
        session.delete(job)  # cascades to the grid, its pictures and the events
    unreferenced.to_trash(f"grid {grid_id}")


def drawn_with(database: Database, run_id: int, step: int) -> str | None:
    """The address of the newest picture that was drawn with this checkpoint, beside the run's samples."""
    hashes = select(Checkpoint.sha256).where(Checkpoint.run_id == run_id, Checkpoint.step == step)
    used = func.json_extract(Sample.recipe, "$.adapters[0].sha256")
    drawn = select(Sample.id).where(col(Sample.run_id).is_(None), Sample.adapter_strength != 0, used.in_(hashes))
    with database.read() as session:
        newest = session.exec(drawn.order_by(col(Sample.id).desc())).first()
    return picture_url(newest) if newest is not None else None


def find(session: Session, grid_id: int) -> Grid:
    """Raises NotFound."""
    row = session.get(Grid, grid_id)
    if row is None:
        raise NotFound(f"There is no grid {grid_id}.")
    return row


def samples_of(session: Session, grid: Grid) -> dict[int, Sample]:
    """Its pictures by the number of the cell."""
    return {row.prompt_id: row for row in session.exec(select(Sample).where(Sample.job_id == grid.job_id))}


def _view(session: Session, grid: Grid) -> GridView:
    job = store.get(session, grid.job_id)
    drawn = samples_of(session, grid)
    used = {cell["adapter"] for cell in grid.cells}
    starred_ones = (
        select(Adapter.id)
        .join(Checkpoint, col(Checkpoint.id) == col(Adapter.checkpoint_id))
        .where(col(Adapter.id).in_(used), col(Checkpoint.pinned))
    )
    starred = set(session.exec(starred_ones).all())
    return GridView(
        id=int(grid.id or 0),
        job_id=grid.job_id,
        project_id=grid.project_id,
        run_id=grid.run_id,
        state=job.state,
        phase=job.phase,
        error=job.error,
        axes=grid.axes,
        pictures=[
            _picture(number, cell, drawn.get(number), cell["adapter"] in starred, grid.problems.get(str(number), ""))
            for number, cell in enumerate(grid.cells)
        ],
        settings={name: job.params.get(name) for name in SETTINGS},
        created_at=grid.created_at,
    )


def _picture(number: int, cell: dict[str, Any], row: Sample | None, starred: bool, problem: str) -> GridPicture:
    return GridPicture(
        number=number,
        checkpoint=cell["checkpoint"],
        adapter=cell["adapter"],
        strength=cell["strength"],
        prompt=cell["prompt"],
        seed=cell["seed"],
        starred=starred,
        id=row.id if row is not None else None,
        url=picture_url(int(row.id or 0)) if row is not None else None,
        width=row.width if row is not None else None,
        height=row.height if row is not None else None,
        problem=problem if row is None else "",
    )
