"""Pictures drawn with finished adapters: drawing, listing, deleting."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from app.actions import adapters, models, runs
from app.actions.run_views import SampleView, sample_view
from app.actions.unreferenced import UnreferencedFiles
from app.database import Database
from app.errors import NotFound
from app.jobs import store
from app.jobs.states import Kind
from app.tables import Adapter, Checkpoint, Sample
from core.config import drawing_limits
from core.config.choices import BITS
from core.config.drawing_limits import LIMITS
from core.errors import ConfigProblem, FieldProblem
from core.hub import catalog

PROMPT_CHARACTERS = 1000
Number = int | float | str
"""A number, or the text that somebody typed for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRequest:
    """What to draw. None stands for the model's own value, and for a random seed."""

    model: str = "pocket"
    prompt: str = ""
    adapters: Sequence[Mapping[str, Any]] = ()  # {"id", "strength"} or {"run", "step"?, "strength"}
    seed: Number | None = None
    count: Number = 1  # pictures: with this seed, the next number, ...
    steps: Number | None = None
    guidance: Number | None = None
    width: Number | None = None
    height: Number | None = None
    base_precision: str = "full"  # of core.config.choices.BasePrecision
    without: bool = False  # also each picture without the adapters, to compare; nothing more where every strength is 0


def list_pictures(database: Database, after: int = 0, limit: int = 200) -> list[SampleView]:
    """Pictures with an id above `after`, oldest first. Samples of runs are not among them."""
    with database.read() as session:
        chosen = select(Sample).where(col(Sample.run_id).is_(None), col(Sample.id) > after)
        return [sample_view(row) for row in session.exec(chosen.order_by(col(Sample.id)).limit(limit)).all()]


def draw(database: Database, request: PictureRequest) -> int:
    """Queue the pictures; returns the job's id. Raises ConfigProblem, naming every wrong field."""
    here = models.names(database)
    numbers, problems = read_numbers(request, here)
    entry = models.find(database, request.model) if request.model in here else None
    with database.write() as session:
        stack: list[dict[str, Any]] = []
        project_id = None
        for index, chosen in enumerate(request.adapters):
            row, strength, problem = chosen_adapter(session, chosen)
            if problem or row is None:
                problems.append(FieldProblem(f"adapters.{index}", problem))
                continue
            if not catalog.adapters_fit(row.model, request.model):
                problems.append(FieldProblem(f"adapters.{index}", f"was made for {row.model}, not for {request.model}"))
            if row.run_id is not None:
                project_id = runs.find(session, row.run_id).project_id
            given = {"id": row.id, "file": row.file, "sha256": row.sha256, "strength": strength}
            stack.append({**given, **adapters.settings_of(database, row)})
        if problems or entry is None:
            raise ConfigProblem("The picture cannot be drawn like this.", problems)
        side = int(entry.drawing["side_px"])
        params = {
            "model": request.model,
            "prompt": " ".join(request.prompt.split()),
            "adapters": stack,
            "seed": secrets.randbelow(LIMITS["seed"][1] + 1),
            "steps": int(entry.drawing["steps"]),
            "guidance": float(entry.drawing["guidance"]),
            "base_precision": request.base_precision,
            "width": side,
            "height": side,
            **numbers,
            "without": request.without and any(each["strength"] for each in stack),
        }
        steps = numbers["count"] * (2 if params["without"] else 1)
        return int(store.enqueue(session, Kind.SAMPLE, params, project_id=project_id, steps=steps).id or 0)


def file_of(database: Database, sample_id: int) -> Path:
    """The PNG of a picture or a sample. Raises NotFound."""
    with database.read() as session:
        path = database.home.file(find(session, sample_id).file)
    if not path.is_file():
        raise NotFound("The file of this picture is no longer there.")
    return path


def delete(database: Database, sample_id: int) -> None:
    """Remove a picture; its file goes to the trash. Raises NotFound."""
    with database.write() as session:
        row = find(session, sample_id)
        deleted = UnreferencedFiles(others=[database.home.root / row.file])
        session.delete(row)
    deleted.to_trash(database, f"picture {sample_id}")


def find(session: Session, sample_id: int) -> Sample:
    """Raises NotFound."""
    row = session.get(Sample, sample_id)
    if row is None:
        raise NotFound(f"There is no picture {sample_id}.")
    return row


def read_numbers(request: PictureRequest, here: Sequence[str]) -> tuple[dict[str, Any], list[FieldProblem]]:
    """The numbers that were given, by field, and every problem with the request apart from its adapters."""
    problems: list[FieldProblem] = []
    if request.model not in here:
        problems.append(FieldProblem("model", f"is {request.model!r}; it can be {' or '.join(here)}"))
    if trouble := prompt_trouble(request.prompt):
        problems.append(FieldProblem("prompt", trouble))
    if request.base_precision not in BITS:
        problems.append(FieldProblem("base_precision", f"is {request.base_precision!r}; it can be {', '.join(BITS)}"))
    given: dict[str, Number | None] = {
        "seed": request.seed,
        "count": request.count,
        "steps": request.steps,
        "guidance": request.guidance,
        "width": request.width,
        "height": request.height,
    }
    read = {field: drawing_limits.read(field, value) for field, value in given.items() if value is not None}
    problems += [FieldProblem(field, message) for field, (_, message) in read.items() if message]
    return {field: value for field, (value, _) in read.items()}, problems


def prompt_trouble(prompt: str) -> str:
    """What is wrong with a prompt; empty if nothing is."""
    if len(prompt) > PROMPT_CHARACTERS:
        return f"has {len(prompt)} characters; at most {PROMPT_CHARACTERS}"
    return "" if prompt.strip() else "is empty; describe the picture"


def chosen_adapter(session: Session, chosen: Mapping[str, Any]) -> tuple[Adapter | None, float, str]:
    """(row, strength, "") of one entry of `adapters`, or (None, 0, the problem with it)."""
    strength, trouble = drawing_limits.read("strength", chosen.get("strength", 1.0))
    if trouble:
        return None, 0, f"has the strength {trouble.removeprefix('is ')}"
    odd = [key for key in ("id", "run", "step") if type(chosen.get(key)) not in (int, type(None))]
    if odd:
        return None, 0, f"has the {odd[0]} {chosen[odd[0]]!r}; it must be a whole number"
    if chosen.get("id") is not None:
        row = session.get(Adapter, chosen["id"])
    else:
        query = select(Adapter).join(Checkpoint).where(Adapter.run_id == chosen.get("run"))
        if chosen.get("step") is not None:
            query = query.where(Checkpoint.step == chosen["step"])
        starred_first = (col(Checkpoint.pinned).desc(), col(Checkpoint.step).desc())
        row = session.exec(query.order_by(*starred_first).limit(1)).first()
    return (row, strength, "") if row is not None else (None, 0, "is not there; choose another adapter or checkpoint")
