"""Setting up a training run: the suggestion for its form, the check of its settings, and creating it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session

from app.actions import edits, estimate, lineage, photos, projects, runs, versions
from app.actions.estimate import Suggestion
from app.actions.photo_views import active
from app.actions.run_check import RunRequest, examine_request
from app.actions.run_presets import Chosen
from app.actions.run_views import RunDetail, detail_of
from app.database import Database
from app.jobs import store
from app.jobs.states import Kind
from app.tables import Run, Version
from core import files
from core.errors import ConfigProblem, DataProblem, FieldProblem


def suggest(database: Database, project_id: int, model: str, knobs: Mapping[str, Any] | None = None) -> Suggestion:
    """How many steps suit the project's photos, and how long the run will take.

    Raises NotFound, ConfigProblem for knobs out of range.
    """
    with database.read() as session:
        project = projects.find(session, project_id)
        rows = session.exec(active(project_id)).all()
        captions = [item["caption"] for item in versions.frozen(session, project, rows)]
    return estimate.suggest(database, model, len(rows), knobs, captions, project.trigger)


NO_PRESETS = Chosen()


def check(
    database: Database,
    project_id: int,
    knobs: Mapping[str, Any],
    name: str = "",
    start_from: Any = None,
    chosen: Chosen = NO_PRESETS,
) -> list[FieldProblem]:
    """Every problem for which `create` would refuse this run, in the order of the form. Raises NotFound."""
    request = _request(database, project_id, knobs, name, start_from, chosen)
    with database.read() as session:
        projects.find(session, project_id)
        return request.problems([row.name for row in session.exec(active(project_id))])


def create(
    database: Database,
    project_id: int,
    knobs: Mapping[str, Any],
    name: str = "",
    start_from: Any = None,
    chosen: Chosen = NO_PRESETS,
    *,
    aside: Sequence[int] = (),
    without: Sequence[str] = (),
) -> RunDetail:
    """Check everything that a run may fail for, freeze the photos that are not set aside, and queue the training.

    `start_from` is the id of an adapter to start from; its layers and rank override the knobs. The presets and the
    configuration that are `chosen` lie under the knobs (core/config/resolve.py). The photos with the ids `aside` are
    set aside first, as a step that can be undone; `without` are the names of those that the run whose adapter this is
    had, for its lineage.

    Raises NotFound; ConfigProblem naming every wrong knob, and the photos when there are none; DataProblem when only
    the photos are missing.
    """
    request = _request(database, project_id, knobs, name, start_from, chosen)
    class_hashes = _class_hashes(request)
    with database.write() as session:
        project = projects.find(session, project_id)
        _set_aside(session, project_id, aside)
        rows = session.exec(active(project_id)).all()
        problems = request.problems([row.name for row in rows])
        if [each.field for each in problems] == ["photos"]:
            raise DataProblem("There is nothing to train on yet.", problems)
        if problems:
            raise ConfigProblem("Some settings need another look.", problems)
        version = Version(project_id=project_id, items=versions.frozen(session, project, rows))
        session.add(version)
        params: dict[str, Any] = {"start_from": request.start} if request.start else {}
        params |= request.presets
        params |= {"class_pictures": class_hashes} if class_hashes else {}
        job = store.enqueue(session, Kind.TRAIN, params, project_id=project_id, steps=request.resolved.config.steps)
        session.flush()
        config = request.resolved.as_json()
        run = Run(job_id=int(job.id or 0), project_id=project_id, version_id=int(version.id or 0), config=config)
        run.name = request.name or runs.next_name(session, project_id)
        run.parent_id, run.parent = lineage.of_start(session, request.start, without)
        session.add(run)
        session.flush()
        files.write_json(database.home.run(int(run.id or 0)) / "config.json", config)
        session.add(run)
        session.flush()
        return detail_of(session, run)


def _request(
    database: Database, project_id: int, knobs: Mapping[str, Any], name: str, start_from: Any, chosen: Chosen
) -> RunRequest:
    """Raises NotFound for the project."""
    with database.read() as session:
        projects.find(session, project_id)
        count = len(session.exec(active(project_id)).all())
    return examine_request(database, knobs, name, start_from, chosen, count)


def _set_aside(session: Session, project_id: int, photo_ids: Sequence[int]) -> None:
    """As a step that can be undone."""
    if not photo_ids:
        return
    rows = [photos.find(session, number) for number in photo_ids]
    words = f"{rows[0].name} set aside" if len(rows) == 1 else f"{len(rows)} photos set aside"
    with edits.step(session, project_id, words, photo_ids):
        for row in rows:
            row.aside = True
            session.add(row)


def _class_hashes(request: RunRequest) -> list[str]:
    """The hashes of the user's own class pictures; a problem with them joins the others of the request."""
    if "class_folder" in {each.field for each in request.problems(["a photo"])}:
        return []  # the request is refused for it
    try:
        return request.class_hashes()
    except ConfigProblem as problem:
        request.others.extend(problem.problems)
        return []
