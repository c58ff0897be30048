"""What was drawn, for the darkroom: one drawing for each press of Draw, with its pictures and those to come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from app import wording
from app.actions import adapters, models, runs
from app.actions import jobs as jobs_of
from app.actions.picture_plan import plan
from app.actions.run_views import picture_url
from app.database import Database
from app.jobs import store
from app.jobs.states import Kind, State, Stop
from app.tables import Event, Grid, Job, Sample

GOING = (State.QUEUED, State.RUNNING)
TIMED = 12  # newest drawings that the time of the next is read from
DIFFERENCES = {"model": "the model’s files", "device": "the device", "mlx": "the version of MLX"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """One drawn picture."""

    id: int
    place: int  # among those of its drawing
    prompt: str  # of a grid's picture; empty for the drawing's own
    url: str
    thumb_url: str
    label: str  # "0.8", "0.8 + 1", "without" or "base"; of a grid's picture "step 300, 0.8"
    seed: int
    width: int
    height: int
    favourite: bool
    file_name: str  # to save it under


@dataclass(frozen=True, slots=True)
class PlaceView:
    """Where a picture will be."""

    place: int
    label: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingView:
    """What one press on Draw made."""

    job_id: int
    state: State
    prompt: str
    words: str  # "Waiting for its turn", "drawing", "stopped, 5 minutes ago"
    drawn_with: str  # "Miso, Run 1, step 300 and Red can (imported)"
    model: str  # its title
    can_stop: bool
    error: str  # empty without one
    width: int
    height: int
    pictures: list[PictureView]
    to_come: list[PlaceView]
    form: dict[str, Any]  # the form as it was filled in; empty for a grid
    grid: int | None  # the grid that its pictures are the cells of


@dataclass(frozen=True, slots=True)
class Pace:
    """How long drawing takes with a model, measured on the newest drawings."""

    start_seconds: float  # until the first picture is begun
    seconds: float  # of one sampler step of a picture of a million pixels


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture of a drawing, as it is planned."""

    place: int
    seed: int
    label: str
    prompt: str = ""


class Drawn(NamedTuple):
    """The columns of a picture that a drawing shows: recipes are long, and read when a picture is opened."""

    id: int
    place: int
    seed: int
    width: int
    height: int
    favourite: bool


def list_drawings(database: Database) -> list[DrawingView]:
    """Every drawing that has pictures, waits, runs, or failed and was not dismissed; the newest first."""
    with database.read() as session:
        jobs = session.exec(select(Job).where(Job.kind == Kind.SAMPLE).order_by(col(Job.id).desc())).all()
        drawn = _pictures(session, col(Sample.run_id).is_(None))
    shown = [job for job in jobs if job.id in drawn or job.state in GOING or jobs_of.failure_shown(job)]
    return _views(database, shown, drawn)


def get_drawing(database: Database, job_id: int) -> DrawingView | None:
    """One of them; None when there is nothing of it to show. Raises NotFound."""
    with database.read() as session:
        job = store.get(session, job_id)
        drawn = _pictures(session, col(Sample.job_id) == job_id)
    is_shown = drawn or job.state in GOING or jobs_of.failure_shown(job)
    return _views(database, [job], drawn)[0] if job.kind is Kind.SAMPLE and is_shown else None


def paces(database: Database) -> dict[str, Pace]:
    """By model. One without a finished drawing is left out."""
    with database.read() as session:
        done = select(Job).where(Job.kind == Kind.SAMPLE, Job.state == State.SUCCEEDED).order_by(col(Job.id).desc())
        jobs = session.exec(done.limit(TIMED)).all()
        ids = [job.id for job in jobs]
        of_these = select(Event).where(col(Event.job_id).in_(ids), col(Event.kind).in_(("phase", "sample")))
        events: dict[int | None, list[Event]] = {each: [] for each in ids}
        for event in session.exec(of_these.order_by(col(Event.id))):
            events[event.job_id].append(event)
    starts: dict[str, list[float]] = {}
    steps: dict[str, list[float]] = {}
    for job in jobs:
        timed = list(_timed(job, events[job.id]))
        if timed and job.started_at is not None:
            model = str(job.params["model"])
            begun = next(each.at for each in events[job.id] if each.payload.get("name") == "drawing")
            starts.setdefault(model, []).append(max((begun - job.started_at).total_seconds(), 0.0))
            size = job.params["width"] * job.params["height"] / 1e6
            steps.setdefault(model, []).extend(each / (size * job.params["steps"]) for each in timed)
    return {model: Pace(median(starts[model]), median(each)) for model, each in steps.items()}


def _timed(job: Job, events: Sequence[Event]) -> Iterator[float]:
    """The seconds of each of its pictures that was really drawn: those without the adapters may be copies."""
    copies = {each.place for each in plan(job.params) if each.label == "without"}
    for before, after in pairwise(events):
        if before.payload.get("name") != "drawing" or after.kind != "sample" or before.attempt != after.attempt:
            continue
        if int(before.payload["done"]) not in copies:
            yield (after.at - before.at).total_seconds()


def _pictures(session: Session, which: ColumnElement[bool]) -> dict[int, list[Drawn]]:
    """The pictures of each job that has any, in the order in which they were drawn."""
    columns = (Sample.id, Sample.prompt_id, Sample.seed, Sample.width, Sample.height, Sample.favourite)
    query = select_columns(col(Sample.job_id), *map(col, columns)).where(which).order_by(col(Sample.id))
    found: dict[int, list[Drawn]] = {}
    for job_id, *values in session.connection().execute(query):
        found.setdefault(job_id, []).append(Drawn(*values))
    return found


def _views(database: Database, jobs: Sequence[Job], drawn: Mapping[int, list[Drawn]]) -> list[DrawingView]:
    names = adapters.labels(database)
    titles = {name: models.title(database, name) for name in {str(job.params.get("model", "")) for job in jobs}}
    of_grids = [job.id for job in jobs if "grid" in job.params]
    with database.read() as session:
        grids = {row.job_id: row for row in session.exec(select(Grid).where(col(Grid.job_id).in_(of_grids)))}
    views = []
    for job in jobs:
        job_id = int(job.id or 0)
        grid = grids.get(job_id)
        cells = _cells_of_grid(grid, names) if grid is not None else _cells(job.params)
        views.append(_view(job, grid, cells, drawn.get(job_id, []), names, titles))
    return views


def _cells(params: Mapping[str, Any]) -> list[Cell]:
    return [Cell(each.place, each.seed, each.label) for each in plan(params)]


def _cells_of_grid(grid: Grid, names: Mapping[int, str]) -> list[Cell]:
    """Each named by what varies in the grid, apart from its prompt and seed."""
    words = {
        "checkpoint": lambda cell: f"step {cell['checkpoint']}",
        "adapter": lambda cell: names.get(cell["adapter"], "a deleted adapter"),
        "strength": lambda cell: f"{cell['strength']:g}",
    }
    varies = [axis for axis in grid.axes if axis in words] or ["strength"]
    return [
        Cell(number, cell["seed"], ", ".join(words[axis](cell) for axis in varies), cell["prompt"])
        for number, cell in enumerate(grid.cells)
    ]


def _view(
    job: Job,
    grid: Grid | None,
    cells: Sequence[Cell],
    rows: Sequence[Drawn],
    names: Mapping[int, str],
    titles: Mapping[str, str],
) -> DrawingView:
    params = job.params
    title = titles[str(params.get("model", ""))]
    used = [_name(each, names) for each in params.get("adapters") or ()]
    together = " and ".join(used) or f"{title} without an adapter"
    there = {row.place for row in rows} if grid is not None else set(range(job.step))
    return DrawingView(
        job_id=int(job.id or 0),
        state=job.state,
        prompt=str(params.get("prompt", "")),
        words=_words(job),
        drawn_with=together if grid is None else f"grid of {' by '.join(grid.axes)}",
        model=title,
        can_stop=job.state in GOING and job.stop is Stop.NONE,
        error=wording.error(job.error) if jobs_of.failure_shown(job) else "",
        width=int(params.get("width", 0)),
        height=int(params.get("height", 0)),
        pictures=[_picture(cells, used, title, row) for row in rows],
        to_come=[
            PlaceView(each.place, each.label, each.seed)
            for each in cells
            if job.state in GOING and each.place not in there
        ],
        form=_form(params) if grid is None else {},
        grid=grid.id if grid is not None else None,
    )


def _form(params: Mapping[str, Any]) -> dict[str, Any]:
    """The request that a drawing was made with, for "Use again"."""
    without = bool(params.get("without"))
    stack = params.get("adapters") or []
    adapted = [each.strengths for each in plan(params) if each.label != "without" or not without]
    chosen = [
        {"id": adapter.get("id"), "strengths": list(dict.fromkeys(strengths))}
        for adapter, strengths in zip(stack, zip(*adapted, strict=True), strict=bool(stack))
    ]
    kept = ("model", "prompt", "seed", "steps", "guidance", "width", "height")
    return {
        **{name: params.get(name) for name in kept},
        "adapters": chosen,
        "count": params.get("count", 1),
        "without": without,
        "base_precision": params.get("base_precision", "full"),
    }


def _words(job: Job) -> str:
    """How far a drawing is, or when it was made, how it ended, and how it compares with the one that it repeats."""
    if job.state is State.QUEUED:
        return wording.QUEUED
    if job.state is State.RUNNING:
        return (job.phase or "starting") if job.stop is Stop.NONE else "stopping"
    when = wording.ago(job.created_at)
    if "same" in job.result:
        return f"drawn again {when}: {_comparison(job.result)}"
    return when if job.state is State.SUCCEEDED else f"{wording.STATES[job.state]}, {when}"


def _comparison(result: Mapping[str, Any]) -> str:
    if result["same"]:
        return "the same, bit for bit"
    others = [DIFFERENCES.get(each, each) for each in result.get("differs", ())]
    return f"not the same, since {' and '.join(others)} changed" if others else "not the same"


def _name(chosen: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """An adapter of a drawing: by its hash once it is deleted."""
    deleted = f"a deleted adapter ({str(chosen.get('sha256', ''))[:12]}…)"
    return names.get(int(chosen.get("id") or 0), deleted)


def _picture(cells: Sequence[Cell], used: Sequence[str], title: str, row: Drawn) -> PictureView:
    cell = cells[row.place] if row.place < len(cells) else Cell(row.place, row.seed, "")
    label = cell.label
    strength = [] if label in ("base", "without", "1", "") else [f"strength {label}"]
    words = [*([title] if label in ("base", "without") else used), *strength, f"seed {row.seed}"]
    return PictureView(
        id=row.id,
        place=row.place,
        prompt=cell.prompt,
        url=picture_url(row.id),
        thumb_url=f"/api/pictures/{row.id}/thumb",
        label=label,
        seed=row.seed,
        width=row.width,
        height=row.height,
        favourite=row.favourite,
        file_name=f"{runs.file_word(' '.join(words))}.png",
    )
