"""The checkpoints of a run on the disk: what they take, deleting and restoring them, and keeping only some.

always kept    the starred one, the newest, which the run resumes from, and the best by its score
thinned to N   of the others the one that is closest to its neighbours goes, until N are left: an even spread
deleted        the folder goes to the trash with the rows in it, so that `restore` brings all of it back
by itself      with the setting `keep_checkpoints` a run thins its own whenever it saves, for good
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session, col, select

from app.actions import disk, run_views, runs
from app.database import Database
from app.errors import Conflict, NotFound
from app.home import Home
from app.jobs.states import Kind, State
from app.settings import value_of
from app.tables import Adapter, Checkpoint, Job
from core import files
from core.errors import ConfigProblem, DiskProblem, FieldProblem

ROWS = "rows.json"  # in the folder of a deleted checkpoint
KEPT_AT_LEAST = 2
SETTING = "keep_checkpoints"


@dataclass(frozen=True, slots=True)
class RunDisk:
    """Bytes that a run takes."""

    checkpoints: int
    rest: int  # samples and log
    free: int  # on the disk
    spare_steps: list[int]  # that go when only those that are always kept stay, two at least
    spare_bytes: int


@dataclass(frozen=True, slots=True)
class Removed:
    """Checkpoints that were deleted."""

    steps: list[int]
    bytes: int


def disk_use(database: Database, run_id: int) -> RunDisk:
    """What the run takes, and what thinning it would free. Raises NotFound."""
    with database.read() as session:
        rows, always = _rows(session, run_id)
        spare = _surplus(session, rows, always, KEPT_AT_LEAST)
    home = database.home
    checkpoints = sum(row.bytes for row in rows)
    folder, whole = home.run(run_id), disk.size_of(home.run(run_id))
    rest = max(whole - disk.size_of(folder / "checkpoints"), 0)
    free = shutil.disk_usage(home.root).free
    return RunDisk(checkpoints, rest, free, [row.step for row in spare], sum(row.bytes for row in spare))


def delete(database: Database, run_id: int, step: int) -> Removed:
    """Move a checkpoint to the trash. Raises NotFound, Conflict for one that is needed."""
    with database.write() as session:
        rows, _ = _rows(session, run_id)
        row = next((each for each in rows if each.step == step), None)
        if row is None:
            raise NotFound(f"There is no checkpoint of step {step}.")
        _check_unneeded(session, row, rows)
        folder = _remove_rows(session, database.home, row)
    disk.UnreferencedFiles(database.home, others=[folder]).to_trash(f"run {run_id}, step {step}")
    return Removed([step], row.bytes)


def thin(database: Database, run_id: int, keep: int) -> Removed:
    """Move all but `keep` checkpoints to the trash; those that are needed stay. Raises NotFound, ConfigProblem."""
    if keep < KEPT_AT_LEAST:
        problem = FieldProblem("keep", f"is {keep}; at least {KEPT_AT_LEAST} are kept")
        raise ConfigProblem("The checkpoints cannot be thinned like this.", [problem])
    with database.write() as session:
        rows, always = _rows(session, run_id)
        going = _surplus(session, rows, always, keep)
        folders = [_remove_rows(session, database.home, row) for row in going]
    disk.UnreferencedFiles(database.home, others=folders).to_trash(f"run {run_id}, checkpoints")
    return Removed([row.step for row in going], sum(row.bytes for row in going))


def thin_as_set(session: Session, home: Home, run_id: int) -> tuple[list[int], list[Path]]:
    """Delete the rows of what the setting does not keep; returns the steps, and the folders to delete for good."""
    keep = value_of(session, SETTING)
    if not keep:
        return [], []
    rows, always = _rows(session, run_id)
    going = _surplus(session, rows, always, keep)
    return [row.step for row in going], [_remove_rows(session, home, row) for row in going]


def restore(database: Database, run_id: int, step: int) -> None:
    """Bring a deleted checkpoint back from the trash.

    Raises NotFound once the trash was emptied, Conflict when it is there or the run has begun again before it.
    """
    home = database.home
    with database.write() as session:
        rows, _ = _rows(session, run_id)
        if any(row.step == step for row in rows):
            raise Conflict(f"The checkpoint of step {step} is there.")
        if not rows or step > rows[-1].step:
            raise Conflict(f"The run has begun again before step {step}, so its checkpoint stays in the trash.")
        place = home.run(run_id) / "checkpoints" / str(step)
        trashed = sorted(home.trash.glob(f"*/{place.relative_to(home.root)}/{ROWS}"))
        if not trashed:
            raise NotFound(f"The checkpoint of step {step} is not in the trash any more.")
        found = json.loads(trashed[-1].read_text(encoding="utf-8"))
        session.add(Checkpoint.model_validate(found["checkpoint"]))
        session.flush()
        session.add_all(Adapter.model_validate(each) for each in found["adapters"])
        session.flush()
        place.parent.mkdir(parents=True, exist_ok=True)
        trashed[-1].parent.rename(place)
    (place / ROWS).unlink(missing_ok=True)


def kept_evenly(steps: Sequence[int], always: set[int], keep: int) -> list[int]:
    """Which of `steps`, ascending, stay: those of `always`, and others so that `keep` are left, evenly spread."""
    left = list(steps)
    while len(left) > keep:
        between = [
            (left[place + 1] - left[place - 1], left[place])
            for place in range(1, len(left) - 1)
            if left[place] not in always
        ]
        first = [(left[1] - 0, left[0])] if left[0] not in always and len(left) > 1 else []
        if not (between or first):
            break
        left.remove(min(first + between)[1])
    return left


def _surplus(session: Session, rows: Sequence[Checkpoint], always: set[int], keep: int) -> list[Checkpoint]:
    needed = always | {row.step for row in rows if _waiting_run(session, row) is not None}
    kept = kept_evenly([row.step for row in rows], needed, max(keep, KEPT_AT_LEAST))
    return [row for row in rows if row.step not in kept]


def _rows(session: Session, run_id: int) -> tuple[list[Checkpoint], set[int]]:
    """The run's checkpoints in order, and the steps of those that are always kept. Raises NotFound."""
    run = runs.find(session, run_id)
    chosen = select(Checkpoint).where(Checkpoint.run_id == run_id).order_by(col(Checkpoint.step))
    rows = list(session.exec(chosen))
    best = run_views.detail_of(session, run).suggestion.step if rows else None
    always = {row.step for row in rows if row.pinned or row is rows[-1] or row.step == best}
    return rows, always


def _check_unneeded(session: Session, row: Checkpoint, rows: Sequence[Checkpoint]) -> None:
    """Raises Conflict with what the checkpoint is needed for."""
    if row.pinned:
        raise Conflict(f"Step {row.step} has your star. Take the star away, or give it to another step, to delete it.")
    if row is rows[-1]:
        raise Conflict(f"Step {row.step} is the newest: the run resumes from it. Delete the run to remove everything.")
    waiting = _waiting_run(session, row)
    if waiting is not None:
        raise Conflict(f"A run that waits begins with step {row.step}; let it start first.")


def _waiting_run(session: Session, row: Checkpoint) -> Job | None:
    """A training that has not begun yet and starts from this checkpoint's adapter."""
    adapters = set(session.exec(select(Adapter.id).where(Adapter.checkpoint_id == row.id)))
    chosen = select(Job).where(Job.kind == Kind.TRAIN, col(Job.state).in_((State.QUEUED, State.RUNNING)))
    jobs = (job for job in session.exec(chosen) if job.params.get("start_from", {}).get("id") in adapters)
    return next(jobs, None)


def _remove_rows(session: Session, home: Home, row: Checkpoint) -> Path:
    """Delete the rows, and write them into the folder, which is returned. Raises DiskProblem."""
    adapters = session.exec(select(Adapter).where(Adapter.checkpoint_id == row.id)).all()
    folder = home.file(row.folder)
    if folder.is_dir():
        content = {
            "checkpoint": row.model_dump(mode="json"),
            "adapters": [each.model_dump(mode="json") for each in adapters],
        }
        files.write_json(folder / ROWS, content)
    session.delete(row)  # the adapters' rows with it
    session.flush()
    return folder


def delete_for_good(folders: Sequence[Path]) -> None:
    """Raises DiskProblem."""
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DiskProblem(f"{folder} could not be deleted: {error.strerror}.") from error
