"""Setting up a training run: the suggestion for its form, and creating it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session

from app.actions import estimate, models, projects, runs, versions
from app.actions.estimate import Suggestion
from app.actions.photo_views import active
from app.actions.run_views import RunDetail, detail_of
from app.database import Database
from app.jobs import store
from app.jobs.states import Kind
from app.settings import hosts_of, value_of
from app.tables import Adapter, Run, Version
from core import files
from core.config.resolve import Resolved, resolve
from core.config.train import TrainConfig
from core.dataset import split
from core.errors import ConfigProblem, DataProblem, FieldProblem, Problem

ID_DIGITS = 19  # numbers with as many may be too large for the database


def suggest(database: Database, project_id: int, model: str, knobs: Mapping[str, Any] | None = None) -> Suggestion:
    """How many steps suit the project's photos, and how long the run will take.

    Raises NotFound, ConfigProblem for knobs out of range.
    """
    with database.read() as session:
        project = projects.find(session, project_id)
        rows = session.exec(active(project_id)).all()
        captions = [item["caption"] for item in versions.frozen(session, project, rows)]
    return estimate.suggest(database, model, len(rows), knobs, captions, project.trigger)


def create(
    database: Database, project_id: int, knobs: Mapping[str, Any], name: str = "", start_from: Any = None
) -> RunDetail:
    """Check every knob, freeze the photos that are not set aside with crops, masks, captions; queue the training.

    `start_from` is the id of an adapter to start from; its layers and rank override the knobs.

    Raises NotFound; ConfigProblem naming every wrong knob, and the photos when there are none; DataProblem when only
    the photos are missing.
    """
    model = str(knobs.get("model") or TrainConfig().model).strip()
    with database.read() as session:
        start, problems = _start(session, start_from, model)
    rank = {"rank": start["rank"], "alpha": start["rank"]} if start else {}
    resolved, wrong_knobs = _resolved(database, {**knobs, **rank}, model)
    problems = wrong_knobs + problems
    if resolved is not None:
        problems += _machines_problems(database, resolved.config.machines)
    with database.write() as session:
        project = projects.find(session, project_id)
        rows = session.exec(active(project_id)).all()
        if not rows:
            lack = FieldProblem("photos", "there are none in this project yet; add at least one, better five to twenty")
            if problems:
                raise ConfigProblem("Some settings need another look.", [*problems, lack])
            raise DataProblem("There is nothing to train on yet.", [lack])
        problems += _held_out_problems(resolved, [row.name for row in rows])
        if resolved is None or problems:
            raise ConfigProblem("Some settings need another look.", problems)
        version = Version(project_id=project_id, items=versions.frozen(session, project, rows))
        session.add(version)
        params = {"start_from": start} if start else {}
        steps = resolved.config.steps
        job = store.enqueue(session, Kind.TRAIN, params, project_id=project_id, steps=steps)
        session.flush()
        config = resolved.as_json()
        run = Run(job_id=int(job.id or 0), project_id=project_id, version_id=int(version.id or 0), config=config)
        run.name = runs.checked_name(name) if name.strip() else ""
        session.add(run)
        session.flush()
        run.name = run.name or f"Run {run.id}"
        files.write_json(database.home.run(int(run.id or 0)) / "config.json", config)
        session.add(run)
        session.flush()
        return detail_of(session, run)


def _start(session: Session, adapter_id: Any, model: str) -> tuple[dict[str, Any] | None, list[FieldProblem]]:
    """The adapter to start from, as the job's parameters have it, or the problems with it."""
    if adapter_id in (None, ""):
        return None, []
    number = str(adapter_id)
    row = session.get(Adapter, int(number)) if number.isdecimal() and len(number) < ID_DIGITS else None
    if row is None:
        return None, [FieldProblem("start_from", f"is {adapter_id!r}; there is no such adapter")]
    if row.model != model:
        return None, [FieldProblem("start_from", f"was made for {row.model}, not for {model}")]
    return {"id": row.id, "name": row.name, "file": row.file, "sha256": row.sha256, "rank": row.rank}, []


def _resolved(database: Database, knobs: Mapping[str, Any], model: str) -> tuple[Resolved | None, list[FieldProblem]]:
    """The knobs over the model's defaults, or every problem with them."""
    known = models.names(database, to_train=True)
    try:
        defaults = models.find(database, model).defaults if model in known else {}
        return resolve(knobs, defaults, {"model": known}), []
    except ConfigProblem as problem:
        return None, problem.problems
    except Problem as problem:
        return None, [FieldProblem("model", problem.message)]


def _held_out_problems(resolved: Resolved | None, names: Sequence[str]) -> list[FieldProblem]:
    """The problems with the choice of held-out photos; also without resolved knobs, that nothing would be left."""
    try:
        split.held_out(resolved.config.held_out if resolved is not None else "none", names)
    except ConfigProblem as problem:
        return problem.problems
    return []


def _machines_problems(database: Database, machines: int) -> list[FieldProblem]:
    """The problems with the number of machines, given the hosts file of the settings."""
    if machines == 1:
        return []
    with database.read() as session:
        path = value_of(session, "hosts_file")
    try:
        hosts = hosts_of(path)
    except ConfigProblem as problem:
        return [FieldProblem("machines", f"is {machines}. {problem}")]
    if hosts is None:
        return [FieldProblem("machines", f"is {machines}, and the settings name no hosts file")]
    if machines > len(hosts.entries):
        return [FieldProblem("machines", f"is {machines}; the hosts file names {len(hosts.entries)}")]
    return []
