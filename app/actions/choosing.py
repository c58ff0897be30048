"""Choosing among a run's checkpoints: what is known of each, which one the scores suggest, and the user's star.

The starred checkpoint is the run's: what is downloaded, drawn with and shown on its project's card where nobody names a
step. At most one of a run has the star.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, select

from app.actions import runs
from app.database import Database
from app.errors import NotFound
from app.tables import Checkpoint
from core.training.choice import Choice


@dataclass(frozen=True, slots=True)
class CheckpointMeasures:
    """A checkpoint, and how good it is as far as that is known."""

    step: int
    bytes: int
    adapter_bytes: int | None  # None: the file is no longer there
    starred: bool
    held_out: float | None  # loss on held-out photos relative to the base; None: not scored
    held_out_bar: float | None  # its error bar beside the best one's
    likeness: float | None  # these three are not measured yet
    leak: float | None
    variety: float | None


def suggestion(database: Database, run_id: int) -> Choice:
    """Which checkpoint to draw with. Raises NotFound."""
    return runs.get_run(database, run_id).suggestion


def checkpoints(database: Database, run_id: int) -> list[CheckpointMeasures]:
    """The run's checkpoints, the oldest first. Raises NotFound."""
    detail = runs.get_run(database, run_id)
    scored = {each.step: each for each in detail.suggestion.measures}
    return [
        CheckpointMeasures(
            step=each.step,
            bytes=each.bytes,
            adapter_bytes=runs.adapter_bytes(database, run_id, each.step),
            starred=each.starred,
            held_out=scored[each.step].held_out if each.step in scored else None,
            held_out_bar=scored[each.step].bar if each.step in scored else None,
            likeness=None,
            leak=None,
            variety=None,
        )
        for each in detail.checkpoints
    ]


def star(database: Database, run_id: int, step: int, *, starred: bool) -> CheckpointMeasures:
    """Give the star to a checkpoint, which takes it from another one, or take it away. Raises NotFound."""
    with database.write() as session:
        rows = _rows(session, run_id)
        chosen = next((row for row in rows if row.step == step), None)
        if chosen is None:
            raise NotFound(f"There is no checkpoint of step {step}.")
        for row in rows:
            if row is chosen or starred:
                row.pinned = starred and row is chosen
                session.add(row)
    return next(each for each in checkpoints(database, run_id) if each.step == step)


def _rows(session: Session, run_id: int) -> list[Checkpoint]:
    runs.find(session, run_id)
    return list(session.exec(select(Checkpoint).where(Checkpoint.run_id == run_id).order_by(col(Checkpoint.step))))
