"""Adapters to draw with: the checkpoints of runs, and imported files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlmodel import Session, col, select

from app.actions import disk, models, runs
from app.database import Database
from app.errors import Conflict, NotFound
from app.tables import Adapter, Checkpoint, Project
from core import safetensors_file
from core.adapters import key_maps
from core.errors import AdapterProblem, disk_errors_as_problem

BYTES_AT_MOST = 2 * 2**30
TRIGGER_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class AdapterView:
    """One adapter."""

    id: int
    name: str
    model: str
    run_id: int | None  # None for an imported one
    project_id: int | None
    step: int | None
    rank: int
    trigger: str
    class_word: str
    sha256: str
    file_url: str
    created_at: datetime


def list_adapters(database: Database, after: int = 0, limit: int = 500) -> list[AdapterView]:
    """Adapters with an id above `after`, oldest first."""
    with database.read() as session:
        chosen = select(Adapter).where(col(Adapter.id) > after).order_by(col(Adapter.id)).limit(limit)
        return [_view(session, row) for row in session.exec(chosen).all()]


def get_adapter(database: Database, adapter_id: int) -> AdapterView:
    """Raises NotFound."""
    with database.read() as session:
        return _view(session, find(session, adapter_id))


def import_file(database: Database, name: str, upload: Path, sha256: str, model: str) -> tuple[AdapterView, bool]:
    """Import the adapter file at `upload` (moved from there); False when the same bytes were here already.

    Its trigger is read from the header. Only the header is checked, against the key maps of the reader
    (core/adapters/key_maps.py). Whether its layers fit the model shows when it is loaded to draw.

    Raises AdapterProblem, NotFound for an unknown model, ModelProblem for a broken one, DiskProblem.
    """
    header = _header_of(upload, name)
    rank = key_maps.largest_rank(header, key_maps.factor_pairs(header, models.family_of(database, model), name))
    trigger = trigger_of(header)
    with database.write() as session:
        same = session.exec(select(Adapter).where(Adapter.sha256 == sha256, col(Adapter.run_id).is_(None))).first()
        if same is not None:
            same.trigger = same.trigger or trigger  # earlier versions did not read it
            session.add(same)
            return _view(session, same), False
    target = database.home.adapters / f"{sha256}.safetensors"
    with disk_errors_as_problem(target):
        os.replace(upload, target)
    shown = Path(name.replace("\\", "/")).name.removesuffix(".safetensors").strip()[:100] or "adapter"
    with database.write() as session:
        row = Adapter(name=shown, model=model, file=database.home.relative(target), sha256=sha256, rank=rank)
        row.trigger = trigger
        session.add(row)
        session.flush()
        return _view(session, row), True


def trigger_of(header: safetensors_file.Header) -> str:
    """The trigger that a file names, as ours do; empty if it names none."""
    text = header.metadata.get(key_maps.TRIGGER, "")
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:TRIGGER_CHARACTERS].strip()


def rename(database: Database, adapter_id: int, name: str) -> AdapterView:
    """Rename an imported adapter. Raises NotFound, ConfigProblem, and Conflict for one of a run."""
    with database.write() as session:
        row = find(session, adapter_id)
        if row.run_id is not None:
            raise Conflict("This adapter belongs to a run; rename the run instead.")
        row.name = runs.checked_name(name, "adapter")
        session.add(row)
        return _view(session, row)


def delete(database: Database, adapter_id: int) -> None:
    """Remove an imported adapter; its file goes to the trash. Raises NotFound, Conflict for one of a run."""
    with database.write() as session:
        row = find(session, adapter_id)
        if row.run_id is not None:
            raise Conflict("This adapter belongs to a run; delete the run to remove it.")
        unreferenced = disk.files_of_adapter(database.home, row)
        session.delete(row)
    unreferenced.to_trash(f"adapter {row.name}")


def file_of(database: Database, adapter_id: int) -> runs.AdapterFile:
    """The file and the name to save it under. Raises NotFound."""
    with database.read() as session:
        view = _view(session, row := find(session, adapter_id))
    if view.run_id is not None:
        return runs.adapter_file(database, view.run_id, view.step)
    path = database.home.file(row.file)
    if not path.is_file():
        raise NotFound(f"The file of {row.name} is no longer there.")
    return runs.AdapterFile(path, f"{runs.file_word(row.name)}.safetensors")


def find(session: Session, adapter_id: int) -> Adapter:
    """Raises NotFound."""
    row = session.get(Adapter, adapter_id)
    if row is None:
        raise NotFound(f"There is no adapter {adapter_id}.")
    return row


def _header_of(path: Path, name: str) -> safetensors_file.Header:
    """The header of an uploaded file, which messages call `name`. Raises AdapterProblem."""
    try:
        return safetensors_file.read_header(path, AdapterProblem)
    except AdapterProblem as problem:
        raise AdapterProblem(problem.message.replace(path.name, name), problem.problems) from problem


def _view(session: Session, row: Adapter) -> AdapterView:
    run = runs.find(session, row.run_id) if row.run_id is not None else None
    project = session.get(Project, run.project_id) if run else None
    checkpoint = session.get(Checkpoint, row.checkpoint_id) if row.checkpoint_id is not None else None
    return AdapterView(
        id=int(row.id or 0),
        name=row.name,
        model=row.model,
        run_id=row.run_id,
        project_id=run.project_id if run else None,
        step=checkpoint.step if checkpoint else None,
        rank=row.rank,
        trigger=project.trigger if project else row.trigger,
        class_word=project.class_word if project else "",
        sha256=row.sha256,
        file_url=f"/api/adapters/{row.id}/file",
        created_at=row.created_at,
    )
