"""Pictures drawn with finished adapters: drawing, listing, favourites, deleting and taking that back."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from app.actions import adapters, models, runs
from app.actions.picture_plan import plan
from app.actions.run_views import SampleView, sample_view
from app.actions.unreferenced import UnreferencedFiles
from app.database import Database
from app.errors import Conflict, NotFound
from app.jobs import store
from app.jobs.states import Kind
from app.tables import Adapter, Checkpoint, Removed, Sample
from core.config import drawing_limits
from core.config.choices import BITS
from core.config.drawing_limits import LIMITS
from core.dataset import photos as reading
from core.errors import ConfigProblem, FieldProblem
from core.hub import catalog

PROMPT_CHARACTERS = 1000
PICTURES_AT_MOST = 64  # of one drawing
THUMB_SIDE_PX = 448
REFUSED = "The picture cannot be drawn like this."
Number = int | float | str
"""A number, or the text that somebody typed for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRequest:
    """What to draw. None stands for the model's own value, and for a random seed."""

    model: str = "pocket"
    prompt: str = ""
    adapters: Sequence[Mapping[str, Any]] = ()  # {"id"} or {"run", "step"?}, with "strength" or several "strengths"
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


def draw(database: Database, request: PictureRequest, again: int | None = None) -> int:
    """Queue the pictures; returns the job's id. Every combination of the adapters' strengths is drawn with each seed.

    `again` is the picture that is to be drawn once more: the job compares the two. Raises ConfigProblem, naming every
    wrong field.
    """
    here = models.names(database)
    numbers, problems = read_numbers(request, here)
    entry = models.find(database, request.model) if request.model in here else None
    with database.write() as session:
        stack, project_id = _stack(session, database, request, problems)
        if problems or entry is None:
            raise ConfigProblem(REFUSED, problems)
        combinations = [list(each) for each in product(*(each.pop("strengths") for each in stack))]
        adapted = any(any(each) for each in combinations)
        side = int(entry.drawing["side_px"])
        params = {
            "model": request.model,
            "prompt": " ".join(request.prompt.split()),
            "adapters": stack if combinations else [],
            "strengths": combinations or [[]],
            "seed": secrets.randbelow(LIMITS["seed"][1] + 1),
            "steps": int(entry.drawing["steps"]),
            "guidance": float(entry.drawing["guidance"]),
            "base_precision": request.base_precision,
            "width": side,
            "height": side,
            **numbers,
            "without": request.without and adapted,
        }
        if again is not None:
            params["again"] = again
        pictures = len(plan(params))
        if pictures > PICTURES_AT_MOST:
            message = f"and the strengths make {pictures} pictures; {PICTURES_AT_MOST} can be drawn at once"
            raise ConfigProblem(REFUSED, [FieldProblem("count", message)])
        return int(store.enqueue(session, Kind.SAMPLE, params, project_id=project_id, steps=pictures).id or 0)


def _stack(
    session: Session, database: Database, request: PictureRequest, problems: list[FieldProblem]
) -> tuple[list[dict[str, Any]], int | None]:
    """The adapters with their files, each with its "strengths", and the newest project among theirs; adds problems."""
    stack: list[dict[str, Any]] = []
    project_id = None
    for index, chosen in enumerate(request.adapters):
        row, strength, problem = chosen_adapter(session, chosen)
        strengths, trouble = _strengths(chosen, strength, optional=request.without)
        problem = problem or trouble
        if problem or row is None:
            problems.append(FieldProblem(f"adapters.{index}", problem))
            continue
        if not catalog.adapters_fit(row.model, request.model):
            problems.append(FieldProblem(f"adapters.{index}", f"was made for {row.model}, not for {request.model}"))
        if row.run_id is not None:
            project_id = runs.find(session, row.run_id).project_id
        given = {"id": row.id, "file": row.file, "sha256": row.sha256, "strength": next(iter(strengths), 0.0)}
        stack.append({**given, "strengths": strengths, **adapters.settings_of(database, row)})
    return stack, project_id


def file_of(database: Database, sample_id: int) -> Path:
    """The PNG of a picture or a sample. Raises NotFound."""
    with database.read() as session:
        path = database.home.file(find(session, sample_id).file)
    if not path.is_file():
        raise NotFound("The file of this picture is no longer there.")
    return path


def thumb_of(database: Database, sample_id: int) -> Path:
    """A small JPEG of a picture, made when it is first asked for. Raises NotFound, DataProblem, DiskProblem."""
    path = database.home.thumb(f"picture-{sample_id}")
    if not path.is_file():
        reading.write_thumb(file_of(database, sample_id), path, THUMB_SIDE_PX)
    return path


def set_favourite(database: Database, sample_id: int, favourite: bool) -> SampleView:
    """Raises NotFound."""
    with database.write() as session:
        row = find(session, sample_id)
        row.favourite = favourite
        session.add(row)
        return sample_view(row)


def delete(database: Database, sample_id: int) -> None:
    """Remove a picture; its file goes to the trash, from which `restore` takes it back. Raises NotFound."""
    home = database.home
    with database.write() as session:
        row = find(session, sample_id)
        session.add(Removed(id=sample_id, job_id=row.job_id, row=row.model_dump(mode="json")))
        session.delete(row)
    path = home.root / row.file
    deleted = UnreferencedFiles(others=[path, home.thumb(f"picture-{sample_id}")])
    moved = deleted.to_trash(database, f"picture {sample_id}")
    with database.write() as session:
        removed = session.get(Removed, sample_id)
        if removed is not None and path in moved:
            removed.trash = home.relative(moved[path])
            session.add(removed)


def restore(database: Database, sample_id: int) -> SampleView:
    """Bring back a picture that was deleted; nothing changes for one that is there.

    Raises NotFound for one that never was, Conflict once the trash was emptied or what it belonged to is gone.
    """
    home = database.home
    with database.write() as session:
        there = session.get(Sample, sample_id)
        if there is not None:
            return sample_view(there)
        removed = session.get(Removed, sample_id)
        if removed is None:
            raise NotFound(f"There is no picture {sample_id} to bring back.")
        row = Sample.model_validate(removed.row)
        session.add(row)
        session.delete(removed)
        try:
            session.flush()
        except IntegrityError:
            raise Conflict("The run of this picture is no longer there, so it cannot be brought back.") from None
        _from_trash(home.file(removed.trash) if removed.trash else None, home.file(row.file))
        return sample_view(row)


def _from_trash(trashed: Path | None, path: Path) -> None:
    """Move a file back. Raises Conflict when it is in neither place."""
    if trashed is not None and trashed.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(trashed, path)
    elif not path.is_file():
        raise Conflict("The trash was emptied, and this picture with it.")


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


def _strengths(chosen: Mapping[str, Any], first: float, *, optional: bool) -> tuple[list[float], str]:
    """The strengths of one entry of `adapters`, each once, or ([], the problem with them). `first` is its "strength".

    They are `optional` where a picture without adapters is requested.
    """
    given = chosen.get("strengths", [first])
    if not isinstance(given, list):
        return [], f"has the strengths {given!r}; they must be a list"
    read = [drawing_limits.read("strength", each) for each in given]
    troubles = [trouble.removeprefix("is ") for _, trouble in read if trouble]
    if troubles:
        return [], f"has the strength {'; and '.join(troubles)}"
    if not given and not optional:
        return [], "has no strength; choose one or more"
    return list(dict.fromkeys(float(value) for value, _ in read)), ""
