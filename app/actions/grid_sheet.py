"""A grid as one picture: the last axis as columns, the others as rows."""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from sqlmodel import Session, col, select

from app.actions import grid_views, projects, runs
from app.database import Database
from app.errors import Conflict
from app.sheet import Row, sheet
from app.tables import Adapter, Grid, Sample
from core.errors import disk_errors_as_problem

SIDE_PX, SIDE_OF_MANY_PX, MANY = 256, 160, 60
_turn = threading.Lock()


@dataclass(frozen=True, slots=True)
class SheetFile:
    """A picture of the grid, and the name to save it under."""

    path: Path
    name: str  # <project>-<run>-grid-<id>.png


def write(database: Database, grid_id: int) -> SheetFile:
    """Write the picture to a temporary file, which the caller deletes. Raises NotFound, Conflict with none drawn."""
    with database.read() as session:
        grid = grid_views.find(session, grid_id)
        drawn = grid_views.samples_of(session, grid)
        title, name = _titles(session, grid)
        labels = _labels(session, grid)
    if not drawn:
        raise Conflict("This grid has no picture yet; wait for its first one.")
    columns = len(list(grid.axes.values())[-1])
    side = SIDE_PX if len(grid.cells) <= MANY else SIDE_OF_MANY_PX
    axes = list(grid.axes)
    with _turn:
        rows = []
        for begin in range(0, len(grid.cells), columns):
            cells = range(begin, begin + columns)
            label = ", ".join(labels[axis][grid.cells[begin][axis]] for axis in axes[:-1])
            rows.append(Row(label, [_picture(database, drawn.get(number), side) for number in cells]))
        heads = [labels[axes[-1]][cell[axes[-1]]] for cell in grid.cells[:columns]]
        page = sheet(title, heads, rows, side)
        with disk_errors_as_problem(database.home.uploads):
            handle, target = tempfile.mkstemp(prefix="grid-", suffix=".png", dir=database.home.uploads)
            with os.fdopen(handle, "wb") as file:
                page.save(file, "PNG", compress_level=3)
    return SheetFile(Path(target), name)


def _picture(database: Database, row: Sample | None, side: int) -> Image.Image | None:
    """The picture in the size of its place; None where there is none, or its file is damaged."""
    if row is None:
        return None
    with suppress(OSError), Image.open(database.home.file(row.file)) as found:
        small = found.convert("RGB")
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        return small
    return None


def _titles(session: Session, grid: Grid) -> tuple[str, str]:
    """The heading and the file's name."""
    project = projects.find(session, grid.project_id).name if grid.project_id is not None else ""
    run = runs.find(session, grid.run_id).name if grid.run_id is not None else ""
    fixed = grid.cells[0]
    parts = [project, run]
    parts += [fixed["prompt"]] if "prompt" not in grid.axes else []
    parts += [f"seed {fixed['seed']}"] if "seed" not in grid.axes else []
    words = [runs.file_word(each) for each in (project, run) if each]
    return " · ".join(each for each in parts if each), f"{'-'.join([*words, 'grid', str(grid.id)])}.png"


def _labels(session: Session, grid: Grid) -> dict[str, dict[Any, str]]:
    """What each value of each axis is called."""
    used = {cell["adapter"] for cell in grid.cells} - {None}
    names = {row.id: row.name for row in session.exec(select(Adapter).where(col(Adapter.id).in_(used)))}
    form = {"checkpoint": "step {}", "strength": "strength {:g}", "prompt": "{}", "seed": "seed {}"}
    found: dict[str, dict[Any, str]] = {axis: {} for axis in grid.axes}
    for cell in grid.cells:
        for axis, labels in found.items():
            value = cell[axis]
            labels[value] = names.get(value, "deleted adapter") if axis == "adapter" else form[axis].format(value)
    return found
