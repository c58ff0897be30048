"""Choosing among a run's checkpoints: what is known of each, which one the scores suggest, and the user's star.

The starred checkpoint is the run's: what is downloaded, drawn with and shown on its project's card where nobody names a
step. At most one of a run has the star.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, select

from app.actions import runs
from app.actions.run_views import CheckpointView
from app.database import Database
from app.errors import NotFound
from app.tables import Checkpoint
from core.training.choice import Choice, Measure


@dataclass(frozen=True, slots=True)
class CheckpointMeasures:
    """A checkpoint, and how good it is as far as that is known."""

    step: int
    bytes: int
    adapter_bytes: int | None  # None: the file is no longer there
    starred: bool
    held_out: float | None  # loss on held-out photos relative to the base; None: not scored
    held_out_bar: float | None  # its error bar beside the best one's
    likeness: float | None  # of the pictures drawn at its step (core/training/likeness.py); None: not measured
    likeness_bar: float | None
    leak: float | None
    leak_bar: float | None
    variety: float | None
    variety_bar: float | None


def suggestion(database: Database, run_id: int) -> Choice:
    """Which checkpoint to draw with. Raises NotFound."""
    return runs.get_run(database, run_id).suggestion


def checkpoints(database: Database, run_id: int) -> list[CheckpointMeasures]:
    """The run's checkpoints, the oldest first. Raises NotFound."""
    detail = runs.get_run(database, run_id)
    measured = {each.step: each for each in detail.suggestion.measures}
    return [
        _measures(each, runs.adapter_bytes(database, run_id, each.step), measured.get(each.step))
        for each in detail.checkpoints
    ]


def _measures(of: CheckpointView, adapter_bytes: int | None, measure: Measure | None) -> CheckpointMeasures:
    figures = measure.figures if measure else None
    likeness, leak, variety = (
        (None, None) if figure is None else (figure.value, figure.bar)
        for figure in ((figures.likeness, figures.leak, figures.variety) if figures else (None, None, None))
    )
    return CheckpointMeasures(
        step=of.step,
        bytes=of.bytes,
        adapter_bytes=adapter_bytes,
        starred=of.starred,
        held_out=measure.held_out if measure else None,
        held_out_bar=measure.bar if measure else None,
        likeness=likeness[0],
        likeness_bar=likeness[1],
        leak=leak[0],
        leak_bar=leak[1],
        variety=variety[0],
        variety_bar=variety[1],
    )


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
