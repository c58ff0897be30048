"""Training runs: starting, watching, stopping, going on, taking the adapter away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from app.actions import disk, estimate, models, photos, progress, projects
from app.actions.estimate import Suggestion
from app.actions.run_views import RunDetail, RunView, detail_of, list_view
from app.database import Database
from app.errors import Conflict, NotFound
from app.jobs import store
from app.jobs.states import Kind, State
from app.settings import hosts_of, value_of
from app.tables import Adapter, Checkpoint, Photo, Project, Run, Version
from core import files
from core.config.resolve import Resolved, resolve
from core.config.train import TrainConfig
from core.dataset import captions, split
from core.errors import ConfigProblem, DataProblem, FieldProblem, Problem

ADAPTER_FILE = "adapter.safetensors"
LOG_BYTES = 200_000
ID_DIGITS = 19  # numbers with as many may be too large for the database


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """A checkpoint's adapter and the name to save it under."""

    path: Path
    name: str  # <project>-<step>.safetensors


def list_runs(database: Database, project_id: int | None = None, after: int = 0, limit: int = 200) -> list[RunView]:
    """Runs (of one project) with an id above `after`, oldest first. Raises NotFound."""
    with database.read() as session:
        chosen = select(Run).where(col(Run.id) > after).order_by(col(Run.id)).limit(limit)
        if project_id is not None:
            projects.find(session, project_id)
            chosen = chosen.where(Run.project_id == project_id)
        return [list_view(session, row) for row in session.exec(chosen).all()]


def get_run(database: Database, run_id: int) -> RunDetail:
    """Everything the run page shows, but for the curves. Raises NotFound."""
    with database.read() as session:
        return detail_of(session, database.home, find(session, run_id))


def metrics(
    database: Database,
    run_id: int,
    names: tuple[str, ...] = (),
    after: int = 0,
    points: int = progress.POINTS_DEFAULT,
) -> progress.Curves:
    """The curves by name ("loss", "lr" ...), thinned to `points`, and the event id where the stream goes on.

    Raises NotFound.
    """
    with database.read() as session:
        return progress.curves(session, find(session, run_id).job_id, names, after, points)


def create(
    database: Database, project_id: int, knobs: Mapping[str, Any], name: str = "", start_from: Any = None
) -> RunDetail:
    """Freeze the photos, crops and captions, check every knob, and queue the training.

    `start_from` is the id of an adapter to begin with: the run has its layers and its rank then, whatever the knobs.

    Raises NotFound; ConfigProblem naming every wrong knob, and the photos when there are none; DataProblem when only
    the photos are missing.
    """
    with database.read() as session:
        start, trouble = _start(session, start_from, str(knobs.get("model") or TrainConfig().model).strip())
    rank = {"rank": start["rank"], "alpha": start["rank"]} if start else {}
    resolved, problems = _resolved(database, {**knobs, **rank})
    problems += trouble + _machines_trouble(database, resolved)
    with database.write() as session:
        project = projects.find(session, project_id)
        # By name: files that were dropped together arrive in any order, and which photo a step sees depends on it.
        rows = session.exec(select(Photo).where(Photo.project_id == project_id).order_by(col(Photo.name))).all()
        if not rows:
            lack = FieldProblem("photos", "there are none in this project yet; add at least one, better five to twenty")
            if problems:
                raise ConfigProblem("Some settings need another look.", [*problems, lack])
            raise DataProblem("There is nothing to train on yet.", [lack])
        problems += _held_out(resolved, [row.name for row in rows])
        if resolved is None or problems:
            raise ConfigProblem("Some settings need another look.", problems)
        version = Version(project_id=project_id, items=_frozen(session, project, rows))
        session.add(version)
        steps = resolved.config.steps
        params = {"start_from": start} if start else {}
        job = store.enqueue(session, Kind.TRAIN, params, project_id=project_id, steps=steps)
        session.flush()
        config = resolved.as_json()
        run = Run(job_id=int(job.id or 0), project_id=project_id, version_id=int(version.id or 0), config=config)
        run.name = _checked_name(name) if name.strip() else ""
        session.add(run)
        session.flush()
        run.name = run.name or f"Run {run.id}"
        files.write_json(database.home.run(int(run.id or 0)) / "config.json", config)
        session.add(run)
        session.flush()
        return detail_of(session, database.home, run)


def rename(database: Database, run_id: int, name: str) -> RunDetail:
    """Raises NotFound, ConfigProblem."""
    with database.write() as session:
        run = find(session, run_id)
        run.name = _checked_name(name)
        session.add(run)
        return detail_of(session, database.home, run)


def stop(database: Database, run_id: int, *, at_once: bool = False) -> State:
    """Finish the step, save and end; or (`at_once`) drop the step. Returns the state now. Raises NotFound, Conflict."""
    with database.write() as session:
        return store.stop(session, find(session, run_id).job_id, at_once=at_once).state


def resume(database: Database, run_id: int, steps: int | None = None, activations: str | None = None) -> State:
    """Go on from the last checkpoint; `steps` is how many the run should have in all, `activations` the knob.

    Raises NotFound, Conflict when it has not ended, ConfigProblem for a wrong knob or when there is no step left.
    """
    given = {"steps": steps, "activations": activations}
    here = models.names(database)
    with database.write() as session:
        run = find(session, run_id)
        job = store.get(session, run.job_id)
        values = {knob: entry["value"] for knob, entry in run.config.items()}
        changes = {name: value for name, value in given.items() if value not in (None, values.get(name))}
        if changes:
            config = resolve(values | changes, choices={"model": here}).config
            changes = {name: getattr(config, name) for name in changes}
        wanted = changes.get("steps", job.steps)
        done = _newest_step(session, run_id)
        if wanted <= done:
            words = f"is {wanted}, and {done} are done; to go on, the run needs more"
            raise ConfigProblem("There is no step left to take.", [FieldProblem("steps", words)])
        store.requeue(session, run.job_id, steps=wanted)
        run.config = run.config | {name: {"value": value, "source": "user"} for name, value in changes.items()}
        session.add(run)
        session.flush()
        files.write_json(database.home.run(run_id) / "config.json", run.config)
        return State.QUEUED


def save(database: Database, run_id: int) -> State:
    """Ask for a checkpoint after this step. Raises NotFound, Conflict when it does not run."""
    with database.write() as session:
        return store.request(session, find(session, run_id).job_id, save=True).state


def sample(database: Database, run_id: int) -> State:
    """Ask for sample pictures after this step. Raises NotFound, Conflict when it does not run."""
    with database.write() as session:
        return store.request(session, find(session, run_id).job_id, sample=True).state


def delete(database: Database, run_id: int) -> None:
    """Remove a run with its samples and checkpoints; its folder goes to the trash. Raises NotFound, Conflict."""
    with database.write() as session:
        run = find(session, run_id)
        job = store.get(session, run.job_id)
        if job.state is State.RUNNING:
            raise Conflict(f"{run.name} is running; stop it first.")
        version = session.get(Version, run.version_id)
        exported = disk.files_of_exports(session, database.home, run_id)
        loose = disk.Loose(database.home, others=[database.home.run(run_id), *exported])
        for item in version.items if version else ():
            home, sha256 = database.home, item["sha256"]
            loose.photos[sha256] = [home.photo(sha256, item["extension"]), home.thumb(sha256)]
        label = f"run {run.name}"
        session.delete(job)
        if version is not None:
            session.delete(version)
        session.flush()
        loose.keep_referenced(session)
    loose.to_trash(label)


def adapter_file(database: Database, run_id: int, step: int | None = None) -> AdapterFile:
    """The newest checkpoint's adapter, or step N's. Raises NotFound, Conflict before the first checkpoint."""
    with database.read() as session:
        run = find(session, run_id)
        checkpoints = select(Checkpoint).where(Checkpoint.run_id == run_id).order_by(col(Checkpoint.step).desc())
        rows = session.exec(checkpoints).all()
        if not rows:
            raise Conflict("This run has not saved a checkpoint yet; try again after its first one.")
        chosen = next((row for row in rows if step is None or row.step == step), None)
        if chosen is None:
            steps = ", ".join(str(row.step) for row in reversed(rows))
            raise NotFound(f"There is no checkpoint of step {step}; there is {steps}.")
        project = projects.find(session, run.project_id)
    path = database.home.file(chosen.folder) / ADAPTER_FILE
    if not path.is_file():
        raise NotFound(f"The file of step {chosen.step} is no longer there.")
    return AdapterFile(path, f"{file_word(project.name)}-{chosen.step}.safetensors")


def find(session: Session, run_id: int) -> Run:
    """Raises NotFound."""
    row = session.get(Run, run_id)
    if row is None:
        raise NotFound(f"There is no run {run_id}.")
    return row


def file_word(name: str) -> str:
    """A project's name as part of a file name: letters, digits and single dashes."""
    word = "".join(c if c.isalnum() else "-" for c in name).strip("-")
    while "--" in word:
        word = word.replace("--", "-")
    return word[:60] or "adapter"


def _start(session: Session, adapter_id: Any, model: str) -> tuple[dict[str, Any] | None, list[FieldProblem]]:
    """What the job has to know of the adapter that a run begins with, or what is wrong with it."""
    if adapter_id in (None, ""):
        return None, []
    number = str(adapter_id)
    row = session.get(Adapter, int(number)) if number.isdecimal() and len(number) < ID_DIGITS else None
    if row is None:
        return None, [FieldProblem("start_from", f"is {adapter_id!r}; there is no such adapter")]
    if row.model != model:
        return None, [FieldProblem("start_from", f"was made for {row.model}, not for {model}")]
    return {"id": row.id, "name": row.name, "file": row.file, "sha256": row.sha256, "rank": row.rank}, []


def _resolved(database: Database, knobs: Mapping[str, Any]) -> tuple[Resolved | None, list[FieldProblem]]:
    """The knobs laid over the model's own, or every problem with them."""
    known = models.names(database, to_train=True)
    wanted = str(knobs.get("model") or TrainConfig().model).strip()
    try:
        defaults = models.find(database, wanted).defaults if wanted in known else {}
        return resolve(knobs, defaults, {"model": known}), []
    except ConfigProblem as problem:
        return None, problem.problems
    except Problem as problem:
        return None, [FieldProblem("model", problem.message)]


def _held_out(resolved: Resolved | None, names: list[str]) -> list[FieldProblem]:
    """What is wrong with the choice of held-out photos."""
    try:
        split.held_out(resolved.config.held_out if resolved is not None else "none", names)
    except ConfigProblem as problem:
        return problem.problems
    return []


def _machines_trouble(database: Database, resolved: Resolved | None) -> list[FieldProblem]:
    """What is wrong with the number of machines, given the hosts file of the settings."""
    wanted = resolved.config.machines if resolved else 1
    if wanted == 1:
        return []
    with database.read() as session:
        path = value_of(session, "hosts_file")
    try:
        hosts = hosts_of(path)
    except ConfigProblem as problem:
        return [FieldProblem("machines", f"is {wanted}. {problem}")]
    if hosts is None:
        return [FieldProblem("machines", f"is {wanted}, and the settings name no hosts file")]
    if wanted > len(hosts.entries):
        return [FieldProblem("machines", f"is {wanted}; the hosts file names {len(hosts.entries)}")]
    return []


def _frozen(session: Session, project: Project, rows: list[Photo]) -> list[dict[str, Any]]:
    ids = [int(row.id or 0) for row in rows]
    written, crops = photos.newest_captions(session, ids), photos.newest_crops(session, ids)
    template = captions.fill(value_of(session, "caption_template"), project.trigger, project.class_word)
    return [
        {
            "photo_id": row.id,
            "sha256": row.sha256,
            "extension": row.extension,
            "name": row.name,
            "crop": photos.crop_json(crops.get(int(row.id or 0))),
            "caption": (written[int(row.id or 0)].text if int(row.id or 0) in written else "") or template,
        }
        for row in rows
    ]


def _newest_step(session: Session, run_id: int) -> int:
    steps = select(Checkpoint.step).where(Checkpoint.run_id == run_id).order_by(col(Checkpoint.step).desc()).limit(1)
    return session.exec(steps).first() or 0


def _checked_name(name: str) -> str:
    text = " ".join(name.split())
    if not text or len(text) > projects.NAME_CHARACTERS or not text.isprintable():
        words = f"is {name!r}; it can have 1 to {projects.NAME_CHARACTERS} characters"
        raise ConfigProblem("The run needs another name.", [FieldProblem("name", words)])
    return text


def suggest(database: Database, project_id: int, model: str, knobs: Mapping[str, Any] | None = None) -> Suggestion:
    """How many steps suit the project's photos, and how long the run will take.

    Raises NotFound, ConfigProblem for knobs out of range.
    """
    with database.read() as session:
        project = projects.find(session, project_id)
        rows = session.exec(select(Photo).where(Photo.project_id == project_id)).all()
        told = [item["caption"] for item in _frozen(session, project, rows)]
    return estimate.suggest(database, model, len(rows), knobs, told, project.trigger)


def log_text(database: Database, run_id: int) -> str:
    """The end of the run's log file. Raises NotFound."""
    with database.read() as session:
        find(session, run_id)
    path = database.home.run(run_id) / "log.txt"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - LOG_BYTES, 0))
        return file.read().decode(errors="replace")
