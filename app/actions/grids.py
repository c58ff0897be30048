"""Grids: pictures over one to three axes (checkpoint, adapter, strength, prompt, seed), drawn by one job.

    the adapter of a cell    the checkpoint axis, of the run       the adapter axis, by id
                             else the run's own: the starred checkpoint, else the newest
                             else the first of `adapters`; none of these: the model as it is
    beside it                the other `adapters`, each at its own strength, in every cell
    an axis left out         the request's own prompt, seed and strength

The axes vary in the order that they are given, the last one fastest. The job gives way to a waiting run after each
picture (app/worker/sheets.py).
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, col, select

from app.actions import adapters, models, pictures
from app.actions.pictures import Number, PictureRequest
from app.database import Database
from app.jobs import store
from app.jobs.states import Kind
from app.tables import Adapter, Checkpoint, Grid, Project, Run
from core.config import drawing_limits
from core.config.drawing_limits import GRID_AXES, GRID_AXES_AT_MOST, GRID_PICTURES_AT_MOST, LIMITS
from core.errors import ConfigProblem, FieldProblem
from core.hub import catalog

NO_ADAPTER = "pocket"  # the model to draw with where nothing names one


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRequest:
    """What to draw. None stands for the model's own value, and for a random seed."""

    axes: Mapping[str, Any]
    project_id: int | None = None
    run_id: int | None = None  # whose checkpoints are drawn with
    adapters: Sequence[Mapping[str, Any]] = ()  # {"id", "strength"} or {"run", "step"?, "strength"}
    model: str | None = None
    prompt: str = ""
    seed: Number | None = None
    strength: Number | None = None
    steps: Number | None = None
    guidance: Number | None = None
    width: Number | None = None
    height: Number | None = None
    base_precision: str = "full"  # of core.config.choices.BasePrecision


@dataclass(frozen=True, slots=True)
class Subject:
    """The adapter that a cell is drawn with; of a run, with the step of its checkpoint."""

    row: Adapter | None = None  # None: none
    step: int | None = None
    strength: float = 1.0


@dataclass(slots=True)
class Plan:
    """A request as it was read: the cells, what the job draws them with, and every problem."""

    axes: dict[str, list[Any]] = field(default_factory=dict)
    cells: list[dict[str, Any]] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)  # of the job
    project_id: int | None = None
    problems: list[FieldProblem] = field(default_factory=list)

    def add_problem(self, name: str, message: str) -> None:
        self.problems.append(FieldProblem(name, message))


def create(database: Database, request: GridRequest) -> Grid:
    """Queue the job that draws the grid. Raises ConfigProblem, naming every wrong field."""
    with database.write() as session:
        plan = plan_of(database, session, request)
        if plan.problems:
            raise ConfigProblem("The grid cannot be drawn like this.", plan.problems)
        job = store.enqueue(session, Kind.SAMPLE, plan.params, project_id=plan.project_id, steps=len(plan.cells))
        grid = Grid(job_id=int(job.id or 0), project_id=plan.project_id, run_id=request.run_id)
        grid.axes, grid.cells = plan.axes, plan.cells
        session.add(grid)
        session.flush()
        job.params = job.params | {"grid": grid.id}
        session.add(job)
        session.flush()
        return grid


def plan_of(database: Database, session: Session, request: GridRequest) -> Plan:
    """The cells of a request and every problem with it; changes nothing."""
    plan = Plan()
    _read_axes(request, plan)
    run = _run(session, request, plan)
    subjects = _subjects(session, request, run, plan)
    beside = _beside(session, request, plan)
    model = request.model or _model(database, run, subjects)
    chosen = [each.row for each in (*subjects, *beside) if each.row is not None]
    for name in dict.fromkeys(row.model for row in chosen):
        if not catalog.adapters_fit(name, model):
            plan.add_problem("model", f"is {model!r}, and an adapter was made for {name}")
    if "strength" in plan.axes and not chosen:
        plan.add_problem("axes.strength", "varies the strength of an adapter, and none is chosen")
    options = _options(database, request, plan, model)
    order = [{"checkpoint": "adapter"}.get(name, name) for name in plan.axes]
    order += [name for name in ("adapter", "strength", "prompt", "seed") if name not in order]
    options["adapter"] = subjects
    if "strength" not in plan.axes:
        given = request.strength
        options["strength"] = [_number(plan, "strength", given)] if given is not None else [subjects[0].strength]
    for values in itertools.product(*(options[name] for name in order)) if not plan.problems else ():
        plan.cells.append(_cell(dict(zip(order, values, strict=True))))
    plan.params |= {"adapters": _files(database, chosen), "fixed": [_used(each) for each in beside]}
    plan.project_id = request.project_id if run is None else run.project_id
    return plan


def _cell(values: Mapping[str, Any]) -> dict[str, Any]:
    subject: Subject = values["adapter"]
    return {
        "checkpoint": subject.step,
        "adapter": subject.row.id if subject.row is not None else None,
        "strength": values["strength"] if subject.row is not None else 0.0,
        "prompt": values["prompt"],
        "seed": values["seed"],
    }


def _read_axes(request: GridRequest, plan: Plan) -> None:
    """The axes with their values as numbers and texts, and how many pictures they make."""
    unknown = [name for name in request.axes if name not in GRID_AXES]
    for name in unknown:
        plan.add_problem(f"axes.{name[:40]}", f"is no axis; an axis can be {', '.join(GRID_AXES)}")
    if not 1 <= len(request.axes) - len(unknown) <= GRID_AXES_AT_MOST:
        plan.add_problem("axes", f"has {len(request.axes)} axes; give 1 to {GRID_AXES_AT_MOST}")
    if "checkpoint" in request.axes and "adapter" in request.axes:
        plan.add_problem("axes.adapter", "is an axis beside checkpoint; a checkpoint is an adapter, so choose one")
    count = 1
    for name, given in request.axes.items():
        if name in unknown:
            continue
        if not isinstance(given, list) or not given:
            plan.add_problem(f"axes.{name}", "is empty; give a list of values" if given == [] else "must be a list")
            continue
        if len(given) > GRID_PICTURES_AT_MOST:
            plan.add_problem(f"axes.{name}", f"has {len(given)} values; at most {GRID_PICTURES_AT_MOST}")
            continue
        plan.axes[name] = [value for each in given if (value := _value(plan, name, each)) is not None]
        twice = [each for number, each in enumerate(plan.axes[name]) if each in plan.axes[name][:number]]
        if twice:
            plan.add_problem(f"axes.{name}", f"has {twice[0]!r} twice")
        count *= len(given)
    if count > GRID_PICTURES_AT_MOST:
        plan.add_problem("axes", f"make {count} pictures; at most {GRID_PICTURES_AT_MOST}. Take some values out")


def _value(plan: Plan, axis: str, given: Any) -> Any:
    """One value of an axis, of text too; None for what is no whole number."""
    if axis == "prompt":
        text = " ".join(given.split()) if isinstance(given, str) else ""
        trouble = pictures.prompt_trouble(text)
        if trouble:
            plan.add_problem("axes.prompt", f"has a prompt that {trouble}")
        return text
    if axis in ("strength", "seed"):
        return _number(plan, axis, given, f"axes.{axis}")
    text = str(given)
    if isinstance(given, bool) or not text.isdecimal() or len(text) > 18:
        plan.add_problem(f"axes.{axis}", f"has {text[:20]!r}; it must be a whole number")
        return None
    return int(text)


def _number(plan: Plan, name: str, given: Any, place: str = "") -> Any:
    value, trouble = drawing_limits.read(name, given)
    if trouble:
        plan.add_problem(place or name, f"has a value that {trouble}" if place else trouble)
    return value


def _run(session: Session, request: GridRequest, plan: Plan) -> Run | None:
    """The run of the request, which must be one of the project."""
    other = request.project_id is not None and session.get(Project, request.project_id) is None
    if other:
        plan.add_problem("project_id", f"is {request.project_id}; there is no such project")
    run = session.get(Run, request.run_id) if request.run_id is not None else None
    if request.run_id is not None and run is None:
        plan.add_problem("run_id", f"is {request.run_id}; there is no such run")
    elif run is not None and not other and request.project_id not in (None, run.project_id):
        plan.add_problem("run_id", f"is {request.run_id}, a run of another project")
    if "checkpoint" in plan.axes and request.run_id is None:
        plan.add_problem("axes.checkpoint", "needs the run whose checkpoints they are; give its run_id")
    return run


def _subjects(session: Session, request: GridRequest, run: Run | None, plan: Plan) -> list[Subject]:
    """What the cells are drawn with: one for each value of the axis, else a single one."""
    if "checkpoint" in plan.axes:
        return _checkpoints(session, run, plan)
    if "adapter" in plan.axes:
        return [_adapter(session, number, plan) for number in plan.axes["adapter"]] or [Subject()]
    if run is not None:
        return [_chosen(session, {"run": run.id}, plan, "run_id")]
    if request.run_id is not None:
        return [Subject()]
    if request.adapters:
        return [_chosen(session, request.adapters[0], plan, "adapters.0")]
    return [Subject(strength=0.0)]


def _beside(session: Session, request: GridRequest, plan: Plan) -> list[Subject]:
    """The adapters that every cell is drawn with, beside its own."""
    first = 0 if request.run_id is not None or "adapter" in plan.axes else 1
    numbered = list(enumerate(request.adapters))[first:]
    return [_chosen(session, given, plan, f"adapters.{number}") for number, given in numbered]


def _checkpoints(session: Session, run: Run | None, plan: Plan) -> list[Subject]:
    chosen = select(Checkpoint.step, Adapter).join(Adapter, col(Adapter.checkpoint_id) == col(Checkpoint.id))
    of_run = chosen.where(Checkpoint.run_id == (run.id if run is not None else None))
    there = dict(session.exec(of_run.order_by(col(Checkpoint.step))).all())
    missing = [step for step in plan.axes["checkpoint"] if step not in there]
    if missing and run is not None:
        words = f"there is {', '.join(str(step) for step in there)}" if there else "this run has none yet"
        plan.add_problem("axes.checkpoint", f"has {', '.join(str(step) for step in missing)}; {words}")
    return [Subject(there.get(step), step) for step in plan.axes["checkpoint"]] or [Subject()]


def _adapter(session: Session, number: int, plan: Plan) -> Subject:
    row = session.get(Adapter, number)
    if row is None:
        plan.add_problem("axes.adapter", f"has {number}; there is no such adapter")
    return _subject(session, row)


def _chosen(session: Session, given: Mapping[str, Any], plan: Plan, place: str) -> Subject:
    """The adapter that is named by its id, or by its run."""
    row, strength, trouble = pictures.chosen_adapter(session, given)
    if trouble:
        plan.add_problem(place, trouble)
    return _subject(session, row, strength)


def _subject(session: Session, row: Adapter | None, strength: float = 1.0) -> Subject:
    checkpoint = session.get(Checkpoint, row.checkpoint_id) if row is not None and row.checkpoint_id else None
    return Subject(row, checkpoint.step if checkpoint is not None else None, strength)


def _model(database: Database, run: Run | None, subjects: Sequence[Subject]) -> str:
    """The one that the adapter is best drawn with."""
    named = next((each.row.model for each in subjects if each.row is not None), None)
    named = named or (str(run.config["model"]["value"]) if run is not None else NO_ADAPTER)
    return models.draws_with(database, named)


def _options(database: Database, request: GridRequest, plan: Plan, model: str) -> dict[str, list[Any]]:
    """Prompts, seeds and strengths; fills in the sampler's numbers of the job and adds the problems with them."""
    here = models.names(database)
    drawn = PictureRequest(
        model=model,
        prompt=plan.axes["prompt"][0] if "prompt" in plan.axes else request.prompt,
        seed=request.seed,
        steps=request.steps,
        guidance=request.guidance,
        width=request.width,
        height=request.height,
        base_precision=request.base_precision,
    )
    numbers, problems = pictures.read_numbers(drawn, here)
    plan.problems += [each for each in problems if each.field != "prompt" or "prompt" not in plan.axes]
    best = models.find(database, model).drawing if model in here else {"side_px": 0, "steps": 0, "guidance": 0}
    seed = numbers.pop("seed", None)
    numbers.pop("count", None)
    prompt = " ".join(drawn.prompt.split())
    options = {
        "prompt": plan.axes.get("prompt", [prompt]),
        "seed": plan.axes.get("seed", [secrets.randbelow(LIMITS["seed"][1] + 1) if seed is None else seed]),
        "strength": plan.axes.get("strength", []),
    }
    plan.params = {
        "model": model,
        "base_precision": request.base_precision,
        "prompt": prompt,  # these three are of the first picture, for the list of drawings
        "seed": options["seed"][0],
        "count": 1,
        "without": False,
        "steps": int(best["steps"]),
        "guidance": float(best["guidance"]),
        "width": int(best["side_px"]),
        "height": int(best["side_px"]),
        **numbers,
    }
    return options


def _files(database: Database, rows: Sequence[Adapter]) -> list[dict[str, Any]]:
    """The adapters of all cells, as the job reads and the recipes name them."""
    return [
        {"id": row.id, "name": row.name, "file": row.file, "sha256": row.sha256, "strength": 1.0}
        | adapters.settings_of(database, row)
        for row in {row.id: row for row in rows}.values()
    ]


def _used(subject: Subject) -> dict[str, Any]:
    return {"id": subject.row.id if subject.row is not None else None, "strength": subject.strength}
