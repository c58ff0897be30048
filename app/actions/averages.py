"""The mean of several checkpoints of a run: an adapter of its own, written by a job and listed with the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, select

from app.actions import runs
from app.actions.adapters import AdapterView, get_adapter
from app.database import Database
from app.jobs import store
from app.jobs.states import Kind
from app.tables import Adapter, Checkpoint, Project
from core.errors import ConfigProblem, FieldProblem

STEPS_AT_LEAST, STEPS_AT_MOST = 2, 16
KEY = "average"  # among the parameters of an export job: the steps


def average(database: Database, run_id: int, steps: Sequence[Any], name: str = "") -> int:
    """Queue the job that writes the mean; returns its id. Raises NotFound, ConfigProblem with every problem."""
    problems: list[FieldProblem] = []
    with database.write() as session:
        run = runs.find(session, run_id)
        project = session.get_one(Project, run.project_id)
        chosen = select(Checkpoint).where(Checkpoint.run_id == run_id).order_by(col(Checkpoint.step))
        there = {row.step: row for row in session.exec(chosen)}
        wanted = sorted({step for step in steps if isinstance(step, int) and step in there})
        missing = [step for step in steps if step not in wanted]
        if missing:
            known = ", ".join(str(step) for step in there) or "none yet"
            problems.append(
                FieldProblem("steps", f"has {', '.join(str(each)[:20] for each in missing)}; there is {known}")
            )
        elif not STEPS_AT_LEAST <= len(wanted) <= STEPS_AT_MOST:
            words = f"has {len(wanted)} checkpoints; a mean needs {STEPS_AT_LEAST} to {STEPS_AT_MOST} different ones"
            problems.append(FieldProblem("steps", words))
        title = f"{project.name}, {run.name}, mean of {', '.join(str(step) for step in wanted)}"
        try:
            title = runs.checked_name(name, "adapter") if name.strip() else title
        except ConfigProblem as problem:
            problems += problem.problems
        if problems:
            raise ConfigProblem("These checkpoints have no mean.", problems)
        params = {
            KEY: wanted,
            "files": [f"{there[step].folder}/{runs.ADAPTER_FILE}" for step in wanted],
            "run": run_id,
            "model": str(run.config["model"]["value"]),
            "name": title,
            "trigger": project.trigger,
        }
        return int(store.enqueue(session, Kind.EXPORT, params, project_id=run.project_id).id or 0)


def of_run(database: Database, run_id: int) -> list[AdapterView]:
    """The means of a run's checkpoints, the oldest first. Raises NotFound."""
    with database.read() as session:
        runs.find(session, run_id)
        ids = _ids(session, run_id)
    return [get_adapter(database, number) for number in ids]


def _ids(session: Session, run_id: int) -> list[int]:
    own = select(Adapter.id).where(Adapter.run_id == run_id, col(Adapter.checkpoint_id).is_(None))
    return [int(number or 0) for number in session.exec(own.order_by(col(Adapter.id)))]
