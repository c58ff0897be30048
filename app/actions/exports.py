"""Exports of a run's adapter for other programs, written by a job: diffusers, kohya, or merged into the base."""

from __future__ import annotations

import math
import shutil

from sqlmodel import Session, col, select

from app import wording
from app.actions import models, runs
from app.database import Database
from app.errors import Conflict, NotFound
from app.home import Home
from app.jobs import store
from app.jobs.states import Kind, State
from app.tables import Job
from core.adapters import key_maps
from core.errors import ConfigProblem, DiskProblem, FieldProblem
from core.safetensors_file import weight_files

FORMATS = ("diffusers", "kohya", "merged")
STRENGTH_AT_MOST = 4


def export(database: Database, run_id: int, step: int | None, format_name: str, strength: float = 1.0) -> int:
    """Write a checkpoint's adapter in another format, in a job; returns the job's id.

    When the same file was written before and is still there, that job's id is returned. `strength` applies to merged
    files only.

    Raises NotFound, Conflict before the first checkpoint, ConfigProblem for a format that is not possible, DiskProblem
    when there is no room for a merged file.
    """
    adapter = runs.adapter_file(database, run_id, step)
    with database.read() as session:
        run = runs.find(session, run_id)
        model, project_id = str(run.config["model"]["value"]), run.project_id
    _check(database, model, format_name, strength)
    params = {
        "file": database.home.relative(adapter.path),
        "name": f"{adapter.name.removesuffix('.safetensors')}-{format_name}.safetensors",
        "format": format_name,
        "model": model,
        "run": run_id,
        "strength": strength if format_name == "merged" else 1.0,
    }
    with database.write() as session:
        same = _same(session, database.home, params)
        if same is not None:
            return same
        if format_name == "merged":
            _check_room(database, model)
        return int(store.enqueue(session, Kind.EXPORT, params, project_id=project_id).id or 0)


def exported_file(database: Database, job_id: int) -> runs.AdapterFile:
    """The file that an export job has written. Raises NotFound, Conflict while it is not done."""
    with database.read() as session:
        job = store.get(session, job_id)
        if job.kind is not Kind.EXPORT:
            raise NotFound(f"Job {job_id} is not an export.")
        if job.state is not State.SUCCEEDED:
            raise Conflict(f"This export is {wording.STATES[job.state]}; there is no file yet.")
    if not job.result.get("file"):
        raise NotFound(f"There is nothing to download: the files are in {job.result.get('folder', 'another folder')}.")
    path = database.home.file(job.result["file"])
    if not path.is_file():
        raise NotFound("The exported file is no longer there; export it again.")
    return runs.AdapterFile(path, job.result["name"])


def _check(database: Database, model: str, format_name: str, strength: float) -> None:
    problems = []
    if format_name not in FORMATS:
        problems.append(FieldProblem("format", f"is {format_name!r}; it can be {' or '.join(FORMATS)}"))
    if not math.isfinite(strength) or not 0 < abs(strength) <= STRENGTH_AT_MOST:
        words = f"is {strength:g}; it can be -{STRENGTH_AT_MOST} to {STRENGTH_AT_MOST}, and not 0"
        problems.append(FieldProblem("strength", words))
    if format_name in ("kohya", "merged"):
        family = models.family_of(database, model)
        if format_name == "kohya" and family not in key_maps.FAMILIES:
            problems.append(FieldProblem("format", f"is kohya, which has no keys for {family}; choose diffusers"))
    if problems:
        raise ConfigProblem("The file cannot be written like this.", problems)


def _check_room(database: Database, model: str) -> None:
    """Raise DiskProblem unless the disk has room for a copy of the model's transformer."""
    files = weight_files(models.folder_of(database, model) / "transformer", "diffusion_pytorch_model")
    needed, free = sum(path.stat().st_size for path in files), shutil.disk_usage(database.home.exports).free
    if needed > free:
        raise DiskProblem(
            f"The merged file takes {wording.size(needed)}, and {wording.size(free)} are free. Free some space."
        )


def _same(session: Session, home: Home, params: dict[str, object]) -> int | None:
    """The job that has written this file or will; a file older than its checkpoint does not count."""
    states = (State.QUEUED, State.RUNNING, State.SUCCEEDED)
    chosen = select(Job).where(Job.kind == Kind.EXPORT, col(Job.state).in_(states)).order_by(col(Job.id).desc())
    for job in session.exec(chosen).all():
        if job.params != params:
            continue
        if job.state is not State.SUCCEEDED:
            return int(job.id or 0)
        written, source = home.file(job.result["file"]), home.file(str(params["file"]))
        if written.is_file() and written.stat().st_mtime >= source.stat().st_mtime:
            return int(job.id or 0)
    return None
