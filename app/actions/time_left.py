"""How long a training still takes, from what its own steps have cost so far.

    time left = steps * pace + sum over the steps to come of cost(what is due after the step)

    pace      seconds from one step's event to the next where nothing is due between them
    due       any of: samples, a checkpoint, scores (core/training/due.py); their costs overlap, since a thread writes
              the files, so each combination has a cost of its own
    cost      seconds from a step's event to the next one, less the pace: the mean of those that were like it

What has not come yet in this run is put together from its parts: the samples of step 0, the scores so far, and the
costs of the newest other run of the model.

Wall clocks jump, and laptops sleep: a gap below zero or far above the others is left out.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from app.jobs.states import State
from app.tables import Event, Job, Run, now
from core.config.train import default_of
from core.training import due

STEPS_READ = 400  # the newest: a laptop on battery slows down
STEPS_AT_LEAST = 3
ROUNDS_READ, SCORES_READ = 200, 24  # events of drawing, and scores
TRIMMED = 0.05  # of the gaps at each end: the first step of a shape compiles
ASLEEP_SECONDS, ASLEEP_TIMES = 300.0, 30.0  # a gap above both, in seconds and in medians, is a computer that slept
OTHER_RUNS = 20
DRAWING, MEASURING = "drawing samples", "drawing pictures to measure"  # phases, core/training/outputs.py
MEASURED = "measured"  # the event that ends a round where pictures are measured
SAMPLES, CHECKPOINT, SCORES = "samples", "checkpoint", "scores"

Due = frozenset[str]
"""What is due after a step, of SAMPLES, CHECKPOINT and SCORES."""


@dataclass(frozen=True, slots=True)
class Plan:
    """When a run scores, saves and draws."""

    steps: int
    score_every: int
    save_every: int
    sample_every: int
    prompts: int

    @staticmethod
    def of(config: Mapping[str, Any], steps: int) -> Plan:
        def value(name: str) -> Any:
            return config[name]["value"] if name in config else default_of(name)

        prompts = len(value("sample_prompts"))
        every = int(value("sample_every")) if prompts else 0
        return Plan(steps, int(value("score_every")), int(value("save_every")), every, prompts)

    def due_at(self, step: int) -> Due:
        rules = (
            (SAMPLES, due.draws(step, self.steps, self.sample_every)),
            (CHECKPOINT, due.saves(step, self.steps, self.save_every)),
            (SCORES, due.scores(step, self.steps, self.score_every)),
        )
        return frozenset(name for name, is_due in rules if is_due)

    def due_after(self, step: int) -> list[Due]:
        """What is due after each step that is still to come, for those where anything is."""
        chosen = {*due.early_scores(self.score_every), self.steps}
        for every in (self.score_every, self.save_every, self.sample_every):
            chosen |= set(range(step - step % every + every, self.steps + 1, every)) if every else set()
        return [self.due_at(each) for each in chosen if step < each <= self.steps]


@dataclass(frozen=True, slots=True)
class Taken:
    """A step's event."""

    attempt: int
    step: int
    at: datetime
    seconds: float  # that the step itself took, by the trainer's monotonic clock


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds, as measured."""

    pace: float
    by_due: Mapping[Due, float]  # beyond the pace
    parts: Mapping[str, float]  # alone

    def of(self, wanted: Due) -> float:
        """The cost of a combination; one that never came is a known part of it, and the rest one by one."""
        inside = [known for known in self.by_due if known <= wanted]
        nearest = max(inside, key=lambda known: (self._alone(known), len(known)), default=Due())
        return self.by_due.get(nearest, 0.0) + self._alone(wanted - nearest)

    def _alone(self, wanted: Due) -> float:
        return sum(self.parts.get(name, 0.0) for name in wanted)


def of_run(session: Session, run: Run, job: Job, at: datetime | None = None) -> float | None:
    """Seconds from `at`, or now, until the run is done; None before its first few steps."""
    if job.state is State.SUCCEEDED:
        return 0.0
    plan = Plan.of(run.config, job.steps)
    costs = measured(session, run, plan, job.attempt)
    if costs is None:
        return None
    total = (job.steps - job.step) * costs.pace + sum(costs.of(each) for each in plan.due_after(job.step))
    if job.state is not State.RUNNING:
        return max(total, 0.0)
    return max(total + _under_way(session, job, costs, plan.due_at(job.step) if job.step else Due(), at or now()), 0.0)


def measured(session: Session, run: Run, plan: Plan, attempt: int) -> Costs | None:
    """What steps and what is due after them cost; None for too few steps."""
    every = _taken(session, run.job_id)
    own = [each for each in every if each.attempt == attempt]
    steps = own if len(own) >= STEPS_AT_LEAST + 1 else every
    gaps = _gaps(steps, plan)
    plain = [seconds for what, seconds in gaps if not what]
    pace = _middle(plain, STEPS_AT_LEAST)
    if pace is None:
        pace = _middle([each.seconds for each in steps[1:]], STEPS_AT_LEAST)
    if pace is None:
        return None
    by_due: dict[Due, list[float]] = {}
    for what, seconds in gaps:
        if what and seconds <= _asleep(pace):
            by_due.setdefault(what, []).append(max(seconds - pace, 0.0))
    means = {what: statistics.fmean(values) for what, values in by_due.items()}
    return Costs(pace, means, _parts(session, run, plan, means))


def _gaps(steps: Sequence[Taken], plan: Plan) -> list[tuple[Due, float]]:
    """Between a step's event and the next one's: what is due there, and the seconds; none where the clock went back."""
    gaps = [
        (plan.due_at(a.step), (b.at - a.at).total_seconds())
        for a, b in itertools.pairwise(steps)
        if (b.attempt, b.step) == (a.attempt, a.step + 1)
    ]
    return [(what, seconds) for what, seconds in gaps if seconds >= 0]


def _parts(session: Session, run: Run, plan: Plan, means: Mapping[Due, float]) -> dict[str, float]:
    """What samples, a checkpoint and scores cost alone."""
    found = {next(iter(what)): seconds for what, seconds in means.items() if len(what) == 1}
    if SAMPLES not in found and plan.sample_every:
        found |= _named(SAMPLES, _round_seconds(session, run.job_id))
    if SCORES not in found:
        found |= _named(SCORES, _score_seconds(session, run.job_id))
    if CHECKPOINT not in found:
        found |= _named(CHECKPOINT, _checkpoint_seconds_of_others(session, run))
    return found


def _named(name: str, seconds: float | None) -> dict[str, float]:
    return {} if seconds is None else {name: seconds}


def _taken(session: Session, job_id: int) -> list[Taken]:
    """The newest steps, the oldest of them first."""
    payload = Event.payload
    rows = session.execute(
        select(Event.attempt, Event.step, Event.at, func.json_extract(payload, "$.seconds"))
        .where(Event.job_id == job_id, Event.kind == "metric", func.json_extract(payload, "$.lr").is_not(None))
        .order_by(col(Event.id).desc())
        .limit(STEPS_READ)
    ).all()
    return [Taken(attempt, step or 0, at, float(seconds or 0.0)) for attempt, step, at, seconds in rows[::-1]]


def _round_seconds(session: Session, job_id: int) -> float | None:
    """Seconds of a round of samples, and of measuring them. The first picture of all also compiles."""
    rounds = _rounds(session, job_id)
    whole = rounds[:-1] or rounds  # the newest may be under way
    seconds = [(each[-1].at - each[0].at).total_seconds() - _warm_up(each) for each in whole]
    return max(statistics.fmean(seconds), 0.0) if seconds else None


def _rounds(session: Session, job_id: int) -> list[list[Event]]:
    """The events of each round of samples, the oldest round first; the newest may be under way."""
    rows = session.exec(_of_drawing(job_id).order_by(col(Event.id).desc()).limit(ROUNDS_READ)).all()[::-1]
    rounds: list[list[Event]] = []
    for row in rows:
        if not rounds or (_is_first(row) and not _is_first(rounds[-1][-1])):
            rounds.append([])
        rounds[-1].append(row)
    return rounds


def _measuring_share(session: Session, job_id: int) -> float:
    """How long measuring took in the rounds before the newest, for each second of drawing their samples."""
    drawing = measuring = 0.0
    for rows in _rounds(session, job_id)[:-1]:
        samples = [row.at for row in rows if row.payload.get("name") == DRAWING]
        drawing += (samples[-1] - samples[0]).total_seconds() - _warm_up(rows) if samples else 0.0
        measuring += (rows[-1].at - samples[-1]).total_seconds() if samples else 0.0
    return max(measuring / drawing, 0.0) if drawing > 0 else 0.0


def _of_drawing(job_id: int) -> SelectOfScalar[Event]:
    """The events of drawing samples and measuring them."""
    named = func.json_extract(Event.payload, "$.name").in_((DRAWING, MEASURING))
    return select(Event).where(
        Event.job_id == job_id, or_(and_(col(Event.kind) == "phase", named), col(Event.kind) == MEASURED)
    )


def _is_first(row: Event) -> bool:
    """Whether it is the event with which a round begins; it comes again until the first picture is drawn."""
    return row.payload.get("name") == DRAWING and row.payload["done"] == 0


def _warm_up(rows: Sequence[Event]) -> float:
    """By how much the first picture of a round took longer than the others."""
    reached: dict[int, datetime] = {}
    for row in rows:
        if row.payload.get("name") == DRAWING:
            reached.setdefault(int(row.payload["done"]), row.at)
    each = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(reached.values())]
    return max(each[0] - statistics.fmean(each[1:]), 0.0) if len(each) > 1 else 0.0


def _score_seconds(session: Session, job_id: int) -> float | None:
    """Seconds from the event before a score to the score. The first one also compiles."""
    before = aliased(Event)
    earlier = (
        select(before.at)
        .where(before.job_id == job_id, before.attempt == Event.attempt, col(before.id) < col(Event.id))
        .order_by(col(before.id).desc())
        .limit(1)
        .correlate(Event)
        .scalar_subquery()
    )
    rate = func.json_extract(Event.payload, "$.lr")
    rows = session.execute(
        select(Event.at, earlier)
        .where(Event.job_id == job_id, Event.kind == "metric", rate.is_(None))
        .order_by(col(Event.id).desc())
        .limit(SCORES_READ)
    ).all()[::-1]
    seconds = [max((at - at_before).total_seconds(), 0.0) for at, at_before in rows if at_before is not None]
    return statistics.fmean(seconds[1:] or seconds) if seconds else None


def _checkpoint_seconds_of_others(session: Session, run: Run) -> float | None:
    """What a checkpoint cost in the newest other run of this model that has saved one between two steps."""
    others = select(Run).where(Run.id != run.id).order_by(col(Run.id).desc()).limit(OTHER_RUNS)
    model = run.config.get("model", {}).get("value")
    for other in session.exec(others):
        job = session.get(Job, other.job_id)
        if job is None or other.config.get("model", {}).get("value") != model:
            continue
        plan = Plan.of(other.config, job.steps)
        gaps = _gaps(_taken(session, other.job_id), plan)
        pace = _middle([seconds for what, seconds in gaps if not what], STEPS_AT_LEAST)
        saving = [seconds for what, seconds in gaps if what == {CHECKPOINT}]
        if pace is not None and saving:
            return max(statistics.fmean(saving) - pace, 0.0)
    return None


def _middle(values: Iterable[float], at_least: int) -> float | None:
    """The mean without the extremes; None for too few."""
    found: Sequence[float] = sorted(max(each, 0.0) for each in values)
    if len(found) < at_least:
        return None
    found = [each for each in found if each <= _asleep(statistics.median(found))]
    cut = int(len(found) * TRIMMED)
    return statistics.fmean(found[cut : len(found) - cut])


def _asleep(usual: float) -> float:
    """The seconds above which a gap is a computer that slept."""
    return max(ASLEEP_SECONDS, ASLEEP_TIMES * usual)


def _under_way(session: Session, job: Job, costs: Costs, here: Due, at: datetime) -> float:
    """What is still to come of what is due after the step just taken, less what has passed of the next step."""
    rate = func.json_extract(Event.payload, "$.lr")
    own = select(Event).where(Event.job_id == job.id, Event.attempt == job.attempt)
    is_step = Event.kind == "metric", rate.is_not(None)
    step = session.exec(own.where(*is_step).order_by(col(Event.id).desc()).limit(1)).first()
    if step is None:
        return 0.0
    since = max((at - step.at).total_seconds(), 0.0)
    if SAMPLES in here:
        rows = session.exec(_of_drawing(int(job.id or 0)).where(col(Event.id) > step.id).order_by(col(Event.id))).all()
        if rows:
            return _left_of_round(session, rows, costs.of(Due({SAMPLES})), at)
    more = costs.pace if job.step < job.steps else 0.0
    return costs.of(here) - min(since, costs.of(here) + more)


def _left_of_round(session: Session, rows: Sequence[Event], usual: float, at: datetime) -> float:
    """Seconds that a round of samples still takes, from its events so far; `usual` is of a whole round."""
    newest = rows[-1]
    drawn = [row for row in rows if row.payload.get("name") == DRAWING]
    if newest.kind == MEASURED or not drawn:
        return 0.0
    done, pictures = int(drawn[-1].payload["done"]), int(drawn[-1].payload["of"])
    changed = next(row.at for row in drawn if row.payload["done"] == done)
    each = (changed - rows[0].at).total_seconds() / done if done else usual / max(pictures, 1)
    rest = pictures * each * _measuring_share(session, int(newest.job_id or 0)) if done else 0.0
    if newest.payload["name"] == MEASURING:
        return max(rest - (at - changed).total_seconds(), 0.0)
    return max((pictures - done) * each + rest - min((at - changed).total_seconds(), each), 0.0)
