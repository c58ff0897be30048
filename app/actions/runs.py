"""Training runs: listing, stopping, resuming, deleting, and the adapters they have saved."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from app.actions import lineage, models, progress, projects, unreferenced
from app.actions.run_views import RunDetail, RunView, detail_of, list_view
from app.database import Database
from app.errors import Conflict, NotFound
from app.jobs import store
from app.jobs.states import State
from app.tables import Checkpoint, Run, Version
from core import files
from core.config.resolve import resolve
from core.errors import ConfigProblem, FieldProblem

ADAPTER_FILE = "adapter.safetensors"
LOG_BYTES = 200_000
NUMBERED = re.compile(r"Run (\d{1,9})")  # the name of a run that nobody named


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter file and the name to save it under."""

    path: Path
    name: str  # <project>-<run>-<step>.safetensors


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
        return detail_of(session, find(session, run_id))


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


def rename(database: Database, run_id: int, name: str) -> RunDetail:
    """Raises NotFound, ConfigProblem."""
    with database.write() as session:
        run = find(session, run_id)
        run.name = checked_name(name)
        session.add(run)
        return detail_of(session, run)


def stop(database: Database, run_id: int, *, at_once: bool = False) -> State:
    """Let the run finish its step, save and end, or (`at_once`) drop the step. Raises NotFound, Conflict."""
    with database.write() as session:
        return store.stop(session, find(session, run_id).job_id, at_once=at_once).state


def resume(database: Database, run_id: int, steps: int | str | None = None, activations: str | None = None) -> State:
    """Queue an ended run again, to go on from its last checkpoint.

    `steps` is how many the run should have in all, as a number or as typed, `activations` the knob of that name; None
    leaves them as they are.

    Raises NotFound, Conflict when it has not ended, ConfigProblem for a wrong knob or when no work is left.
    """
    here = models.names(database)
    with database.write() as session:
        run = find(session, run_id)
        changes, total = _resumed(session, run, here, steps, activations)
        store.requeue(session, run.job_id, steps=total)
        run.config = run.config | {name: {"value": value, "source": "user"} for name, value in changes.items()}
        session.add(run)
        session.flush()
        files.write_json(database.home.run(run_id) / "config.json", run.config)
        return State.QUEUED


def check_resume(
    database: Database, run_id: int, steps: int | str | None = None, activations: str | None = None
) -> list[FieldProblem]:
    """Every problem that `resume` would raise ConfigProblem for; changes nothing. Raises NotFound."""
    here = models.names(database)
    with database.read() as session:
        try:
            _resumed(session, find(session, run_id), here, steps, activations)
        except ConfigProblem as problem:
            return problem.problems
    return []


def _resumed(
    session: Session, run: Run, here: Sequence[str], steps: int | str | None, activations: str | None
) -> tuple[dict[str, Any], int]:
    """The knobs that change when a run goes on, and its steps in all. Raises ConfigProblem."""
    job = store.get(session, run.job_id)
    values = {knob: entry["value"] for knob, entry in run.config.items()}
    given: dict[str, Any] = {"steps": steps, "activations": activations}
    changes = {name: value for name, value in given.items() if value not in (None, "", values.get(name))}
    if changes:
        config = resolve(values | changes, choices={"model": tuple(here)}).config
        read = {name: getattr(config, name) for name in changes}
        changes = {name: value for name, value in read.items() if value != values.get(name)}
    total = int(changes.get("steps", job.steps))
    done = _newest_step(session, int(run.id or 0))
    # A run that ended early after its last step has the samples of that step still to draw.
    if total < done or (total == done and job.state is State.SUCCEEDED):
        words = f"is {total}, and {done} are done; to go on, the run needs more"
        message = f"All {done} steps are done. Enter a larger number of steps."
        raise ConfigProblem(message, [FieldProblem("steps", words)])
    return changes, total


def save(database: Database, run_id: int) -> State:
    """Request a checkpoint after this step. Raises NotFound, Conflict when it does not run."""
    with database.write() as session:
        return store.request(session, find(session, run_id).job_id, save=True).state


def sample(database: Database, run_id: int) -> State:
    """Request samples after this step. Raises NotFound, Conflict when it does not run."""
    with database.write() as session:
        return store.request(session, find(session, run_id).job_id, sample=True).state


def delete(database: Database, run_id: int) -> None:
    """Remove a run with its samples, checkpoints and adapters for good; their files go to the trash.

    Raises NotFound, Conflict.
    """
    with database.write() as session:
        run = find(session, run_id)
        job = store.get(session, run.job_id)
        if job.state is State.RUNNING:
            raise Conflict(f"{run.name} is running; stop it first.")
        if waiting := lineage.waiting_for(session, run):
            words = "has no checkpoint of its own yet. Wait for its first one, or stop it"
            raise Conflict(f"{waiting} begins from {run.name} and {words}, before you delete {run.name}.")
        version = session.get(Version, run.version_id)
        exported = unreferenced.files_of_exports(session, database.home, run_id)
        deleted = unreferenced.UnreferencedFiles(others=[database.home.run(run_id), *exported])
        for item in version.items if version else ():
            for sha256 in {item["sha256"], item.get("mask")} - {None}:
                deleted.photos[sha256] = unreferenced.files_of_hash(database.home, sha256)
        label = f"run {run.name}"
        session.delete(job)  # cascades to the run, its samples, checkpoints and adapters, and the events
        if version is not None:
            session.delete(version)
    deleted.to_trash(database, label)


def adapter_file(database: Database, run_id: int, step: int | None = None) -> AdapterFile:
    """The starred checkpoint's adapter, else the newest one's, or step N's.

    Raises NotFound, Conflict before the first checkpoint.
    """
    with database.read() as session:
        run = find(session, run_id)
        checkpoints = select(Checkpoint).where(Checkpoint.run_id == run_id).order_by(col(Checkpoint.step).desc())
        rows = session.exec(checkpoints).all()
        if not rows:
            raise Conflict("This run has not saved a checkpoint yet; try again after its first one.")
        starred = next((row.step for row in rows if row.pinned), rows[0].step)
        wanted = starred if step is None else step
        chosen = next((row for row in rows if row.step == wanted), None)
        if chosen is None:
            steps = ", ".join(str(row.step) for row in reversed(rows))
            raise NotFound(f"There is no checkpoint of step {wanted}; there is {steps}.")
        project = projects.find(session, run.project_id)
    path = database.home.file(chosen.folder) / ADAPTER_FILE
    if not path.is_file():
        raise NotFound(f"The file of step {chosen.step} is no longer there.")
    return AdapterFile(path, f"{file_word(project.name)}-{file_word(run.name)}-{chosen.step}.safetensors")


def starred_step(database: Database, run_id: int) -> int | None:
    """The step of the run's checkpoint with the star."""
    with database.read() as session:
        chosen = select(Checkpoint.step).where(Checkpoint.run_id == run_id, col(Checkpoint.pinned))
        return session.exec(chosen).first()


def adapter_bytes(database: Database, run_id: int, step: int) -> int | None:
    """The size of the file that `adapter_file` offers for a checkpoint; None if it is no longer there."""
    path = database.home.run(run_id) / "checkpoints" / str(step) / ADAPTER_FILE
    return path.stat().st_size if path.is_file() else None


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


def find(session: Session, run_id: int) -> Run:
    """Raises NotFound."""
    row = session.get(Run, run_id)
    if row is None:
        raise NotFound(f"There is no run {run_id}.")
    return row


def file_word(name: str) -> str:
    """A name as part of a file name: letters, digits and single dashes."""
    word = "".join(c if c.isalnum() else "-" for c in name).strip("-")
    while "--" in word:
        word = word.replace("--", "-")
    return word[:60] or "adapter"


def _newest_step(session: Session, run_id: int) -> int:
    steps = select(Checkpoint.step).where(Checkpoint.run_id == run_id).order_by(col(Checkpoint.step).desc()).limit(1)
    return session.exec(steps).first() or 0


def next_name(session: Session, project_id: int) -> str:
    """ "Run 1" for the first run of a project, then one more than the highest number, and than there are runs."""
    names = session.exec(select(Run.name).where(Run.project_id == project_id)).all()
    numbers = [int(found[1]) for name in names if (found := NUMBERED.fullmatch(name))]
    return f"Run {max([*numbers, len(names)]) + 1}"


def checked_name(name: str, subject: str = "run") -> str:
    """The name without surplus spaces. Raises ConfigProblem, saying that the `subject` needs another one."""
    text = " ".join(name.split())
    if not text or len(text) > projects.NAME_CHARACTERS or not text.isprintable():
        words = f"is {name!r}; it can have 1 to {projects.NAME_CHARACTERS} characters"
        raise ConfigProblem(f"The {subject} needs another name.", [FieldProblem("name", words)])
    return text
