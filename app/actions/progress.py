"""A run's metric events: its curves, thinned for a chart, its scores and its pace.

A `rewind` event, written when a run resumes, voids every earlier row after its `to_step`.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, or_
from sqlmodel import Session, col, select

from app.tables import Event
from core.training.choice import HeldOutScore
from core.training.diagnosis import BANDS, LOSSES_AVERAGED, Diagnosis, Score, diagnose
from core.training.likeness import Drawn

PACE_STEPS = 200  # the pace is that of the newest steps, since a laptop on battery slows down
POINTS_DEFAULT = 1000
POINTS_AT_MOST = 20_000
METRICS = (
    "SELECT kind, step, payload FROM event WHERE job_id = ? AND id > ? AND kind IN ('metric', 'rewind') ORDER BY id"
)
PAYLOADS = json.JSONDecoder(parse_constant=lambda _: None)  # NaN, which older versions wrote


@dataclass(frozen=True, slots=True)
class Curves:
    """Series by name, each a list of [step, value], and the newest event id, to open the event stream after."""

    series: dict[str, list[tuple[int, float]]]
    last_event_id: int


def curves(
    session: Session, job_id: int, names: Sequence[str] = (), after: int = 0, points: int = POINTS_DEFAULT
) -> Curves:
    """The metrics of events above `after`, each series thinned to about `points` values."""
    newest = session.exec(select(func.max(Event.id)).where(Event.job_id == job_id)).one() or after
    rows = session.connection().exec_driver_sql(METRICS, (job_id, after)).all()
    payloads = PAYLOADS.decode(f"[{','.join(text for _, _, text in rows)}]")  # a call for each takes longer
    wanted = frozenset(names)
    found: dict[str, dict[int, float]] = {}
    for (kind, step, _), payload in zip(rows, payloads, strict=True):
        if kind == "rewind":
            for series in found.values():
                for late in [each for each in series if each > payload["to_step"]]:
                    del series[late]
            continue
        for name, value in payload.items():
            if (not wanted or name in wanted) and type(value) in (int, float) and math.isfinite(value):
                found.setdefault(name, {})[step or 0] = float(value)
    return Curves({name: thinned(sorted(series.items()), points) for name, series in found.items()}, newest)


def thinned(series: Sequence[tuple[int, float]], points: int) -> list[tuple[int, float]]:
    """The first and last value, and the lowest and highest of each stretch between: a chart looks the same."""
    points = min(max(points, 4), POINTS_AT_MOST)
    if len(series) <= points:
        return list(series)
    stretches = (points - 2) // 2
    inner = series[1:-1]
    chosen = [series[0]]
    for number in range(stretches):
        stretch = inner[number * len(inner) // stretches : (number + 1) * len(inner) // stretches]
        lowest, highest = min(stretch, key=_value), max(stretch, key=_value)
        chosen += sorted({lowest, highest})
    return [*chosen, series[-1]]


@dataclass(frozen=True, slots=True)
class Scores:
    """What the scores of a run (core/training/events.py, Scored) say."""

    diagnosis: Diagnosis
    held_out: dict[int, float]  # by photo id, the newest score relative to the base; empty where no photo is held out
    learned: dict[int, float]  # by photo id, the training loss relative to the other photos'
    by_step: tuple[HeldOutScore, ...] = ()  # on held-out photos, in order; empty where none is held out


def scores(session: Session, job_id: int) -> Scores:
    """Diagnose the run from its score rows and its newest losses."""
    is_score = func.json_extract(Event.payload, "$.lr").is_(None)  # a step's row has its learning rate
    chosen = select(Event.kind, Event.step, Event.payload).where(Event.job_id == job_id).order_by(col(Event.id))
    found: dict[int, dict[str, float | None]] = {}
    for kind, step, payload in session.execute(
        chosen.where(or_(col(Event.kind) == "rewind", and_(col(Event.kind) == "metric", is_score)))
    ):
        if kind == "rewind":
            found = {each: values for each, values in found.items() if each <= payload["to_step"]}
        else:
            found[step or 0] = payload
    newest = found[max(found)] if found else {}
    name = "held_out" if "held_out" in newest else "trained"
    rows = [
        Score(
            step,
            _number(values.get(name)),
            tuple(_number(values.get(f"{name}/{band}")) for band in range(len(BANDS))),
            _number(values.get(f"{name}_loss")),
        )
        for step, values in sorted(found.items())
        if name in values
    ]
    diagnosis = diagnose(rows, _newest_losses(session, job_id), name == "held_out")
    by_step = tuple(
        HeldOutScore(step, _number(values.get("held_out")), _of_photos("held_out_photo/", values))
        for step, values in sorted(found.items())
        if "held_out" in values
    )
    return Scores(diagnosis, _of_photos("held_out_photo/", newest), _of_photos("photo/", newest), by_step)


def drawn(session: Session, job_id: int) -> list[Drawn]:
    """What the pictures of each step showed, by step; empty for runs that measured none."""
    kinds = or_(col(Event.kind) == "rewind", col(Event.kind) == "measured")
    chosen = select(Event.kind, Event.step, Event.payload).where(Event.job_id == job_id, kinds)
    found: dict[int, Drawn] = {}
    for kind, step, payload in session.execute(chosen.order_by(col(Event.id))):
        if kind == "rewind":
            found = {each: values for each, values in found.items() if each <= payload["to_step"]}
        else:
            found[step or 0] = Drawn.from_json(payload)
    return [found[step] for step in sorted(found)]


def _newest_losses(session: Session, job_id: int) -> list[float | None]:
    """The photos' losses in the newest steps, the oldest first; None where a loss was not a number."""
    is_step = and_(col(Event.kind) == "metric", func.json_extract(Event.payload, "$.lr").is_not(None))
    chosen = select(Event.kind, Event.step, Event.payload).where(Event.job_id == job_id)
    rows = session.execute(chosen.where(or_(col(Event.kind) == "rewind", is_step)).order_by(col(Event.id).desc()))
    found: list[float | None] = []
    before = math.inf
    for kind, step, payload in rows:
        if kind == "rewind":
            before = min(before, payload["to_step"] + 1)
        elif step < before:  # later ones are void
            before = step
            found.append(payload.get("subject_loss", payload.get("loss")))  # older versions wrote the total only
        if len(found) == LOSSES_AVERAGED:
            break
    return found[::-1]


def _of_photos(prefix: str, values: Mapping[str, float | None]) -> dict[int, float]:
    return {int(name.removeprefix(prefix)): _number(value) for name, value in values.items() if name.startswith(prefix)}


def _number(value: float | None) -> float:
    """JSON has no infinity: null stands for any value that was not finite."""
    return math.inf if value is None else value


def newest_loss(session: Session, job_id: int) -> float | None:
    """The loss of the last step taken."""
    payload = session.exec(
        select(Event.payload)
        .where(Event.job_id == job_id, Event.kind == "metric", func.json_extract(Event.payload, "$.loss").is_not(None))
        .order_by(col(Event.id).desc())
        .limit(1)
    ).first()
    return None if payload is None else payload["loss"]


def seconds_per_step(session: Session, job_id: int, attempt: int) -> float | None:
    """The median time between two steps of an attempt, so that samples and checkpoints do not count."""
    taken = _step_times(session, job_id, attempt)
    gaps = [
        (later - earlier).total_seconds() / (next_step - step)
        for (step, earlier), (next_step, later) in itertools.pairwise(taken)
        if next_step > step
    ]
    return statistics.median(gaps) if len(gaps) >= 3 else None


def _step_times(session: Session, job_id: int, attempt: int) -> list[tuple[int, datetime]]:
    """(step, time) of the newest steps, the oldest of them first."""
    rows: Iterable[tuple[int, datetime]] = session.execute(
        select(Event.step, Event.at)
        .where(
            Event.job_id == job_id,
            Event.attempt == attempt,
            Event.kind == "metric",
            func.json_extract(Event.payload, "$.loss").is_not(None),
        )
        .order_by(col(Event.id).desc())
        .limit(PACE_STEPS)
    )
    return [(step, at) for step, at in rows][::-1]


def _value(point: tuple[int, float]) -> float:
    return point[1]
