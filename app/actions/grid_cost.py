"""How long a grid will take, before it is queued.

    seconds of a picture = work * pace          work = sampler steps * evaluations a step * pixels
    seconds of a grid    = start + pictures * seconds of a picture

`pace` is that of the model's newest drawing job with three pictures or more, else a share of the pace of its newest
training on this computer; without either nothing is said.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from app import wording
from app.actions import estimate, models
from app.actions.grids import GridRequest, plan_of
from app.database import Database
from app.jobs.states import Kind
from app.tables import Event, Job
from core.config.resolve import resolve
from core.errors import FieldProblem

JOBS_LOOKED_AT = 20
START_SECONDS = 5.0  # process, model, prompts


@dataclass(frozen=True, slots=True)
class GridCost:
    """What a request would draw, and why it would be refused."""

    pictures: int
    seconds: float | None  # None: no picture and no run of this model has been timed here
    words: str  # "24 pictures, about 40 seconds"
    problems: list[FieldProblem]


def cost(database: Database, request: GridRequest) -> GridCost:
    """The number of pictures, the time they take and every problem for which `grids.create` refuses the request."""
    with database.read() as session:
        plan = plan_of(database, session, request)
        count = len(plan.cells)
        pace = _drawing_pace(session, plan.params) if count else None
    if count and pace is None:
        pace = _training_pace(database, plan.params)
    seconds = START_SECONDS + count * pace * _work(plan.params) if pace is not None else None
    words = wording.plural(count, "picture")
    if seconds is not None:
        words += f", about {wording.rough_duration(seconds)}"
    return GridCost(count, seconds, words, plan.problems)


def _work(params: Mapping[str, Any]) -> float:
    evaluations = 2 if float(params.get("guidance", 1)) > 1 else 1
    return float(params["steps"] * evaluations * params["width"] * params["height"])


def _drawing_pace(session: Session, params: Mapping[str, Any]) -> float | None:
    """Seconds for a unit of work in the model's newest drawing job that had three pictures or more."""
    chosen = select(Job).where(Job.kind == Kind.SAMPLE).order_by(col(Job.id).desc()).limit(JOBS_LOOKED_AT)
    for job in session.exec(chosen).all():
        if job.params.get("model") != params["model"] or not all(job.params.get(each) for each in ("steps", "width")):
            continue
        drawn = select(Event.at).where(Event.job_id == job.id, Event.kind == "sample", Event.attempt == job.attempt)
        times = session.exec(drawn.order_by(col(Event.id))).all()
        gaps = [(after - before).total_seconds() for before, after in itertools.pairwise(times)]
        if len(gaps) >= 2:
            return statistics.median(gaps) / _work(job.params)
    return None


def _training_pace(database: Database, params: Mapping[str, Any]) -> float | None:
    """The same from the pace of a training step, of which one evaluation of the network is a known share."""
    entry = models.find(database, params["model"])
    given = {"sample_steps": 1, "sample_guidance": 1.0}
    config = resolve(given, entry.defaults).config
    pace = estimate.picture_seconds(database, params["model"], config)
    return None if pace is None else pace / config.side_px**2
