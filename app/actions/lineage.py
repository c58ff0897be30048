"""Which run a run began from, and the runs that began from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from app.jobs.states import State
from app.tables import Adapter, Checkpoint, Job, Run


@dataclass(frozen=True, slots=True)
class Relative:
    """A run on the other side of a beginning."""

    run_id: int | None  # None: it was deleted since
    name: str
    step: int | None  # of the checkpoint that the later run began with
    without: list[str]  # names of the photos that were set aside in between


def of_start(
    session: Session, start: dict[str, Any] | None, without: Sequence[str]
) -> tuple[int | None, dict[str, Any]]:
    """`Run.parent_id` and `Run.parent` of a run that begins with the adapter `start`, if that is of another run."""
    row = session.get(Adapter, start["id"]) if start else None
    earlier = session.get(Run, row.run_id) if row is not None and row.run_id is not None else None
    if row is None or earlier is None:
        return None, {}
    saved = session.get(Checkpoint, row.checkpoint_id) if row.checkpoint_id is not None else None
    step = saved.step if saved is not None else None
    return earlier.id, {"name": earlier.name, "step": step, "without": list(without)}


def parent_of(session: Session, run: Run) -> Relative | None:
    """The run that this one began from, by its name of today."""
    if not run.parent:
        return None
    earlier = session.get(Run, run.parent_id) if run.parent_id is not None else None
    name = earlier.name if earlier is not None else run.parent["name"]
    return Relative(run.parent_id if earlier else None, name, run.parent["step"], list(run.parent["without"]))


def children_of(session: Session, run: Run) -> list[Relative]:
    """The runs that began from this one, the oldest first."""
    rows = session.exec(select(Run).where(Run.parent_id == run.id).order_by(col(Run.id)))
    return [Relative(row.id, row.name, row.parent["step"], list(row.parent["without"])) for row in rows]


def waiting_for(session: Session, run: Run) -> str:
    """The name of a run that still needs an adapter of this one: it has not ended, and saved nothing yet; else ""."""
    of_child = select(Run.name).join(Job, col(Job.id) == Run.job_id).where(Run.parent_id == run.id)
    going_on = of_child.where(col(Job.state).in_([State.QUEUED, State.RUNNING]))
    saved = select(Checkpoint.id).where(Checkpoint.run_id == Run.id).exists()
    return session.exec(going_on.where(~saved)).first() or ""
