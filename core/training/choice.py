"""Chooses the checkpoint to draw with, from the scores on held-out photos (core/training/validation.py).

    score(n)   the loss on held-out photos after step n, at fixed noise, relative to the untouched base; between two
               scores, the value on the line between them
    best       the checkpoint with the lowest score
    bar(n)     sqrt(noise^2 + spread(n)^2 / 2), at least BAR_AT_LEAST: the error bar of score(n) beside that of the best
        noise      the standard deviation of a score around the curve of all scores           core/training/trend.py
        spread(n)  the standard error over photos of their difference to the best checkpoint; 0 for a single photo
    close      the checkpoints whose error bar overlaps that of the best: score(n) - score(best) < 2 bar(n)
    since      the earliest score within one bar of the best: the steps after it have gained little

Both scores of a difference are of the same photos at the same noise, so what the photos have in common cancels out.

Pure functions of numbers, without MLX, for the web process too.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.training.diagnosis import Diagnosis, than_base
from core.training.trend import deviation

BAR_AT_LEAST = 0.005  # half a percent of the base's loss: less is no difference that a picture shows
NAMED_AT_MOST = 2  # checkpoints in a sentence
REASONS_AT_MOST = 4  # about other checkpoints

NO_CHECKPOINT = "There is no checkpoint to choose yet."
UNSCORED = (
    "No photo is held out, so no score can say which checkpoint is best; step {} is the newest. "
    "Let the pictures decide."
)
EARLY = "Too early to say which checkpoint is best; step {} is the newest."
BROKEN = "It has diverged, and no checkpoint gives finite losses. Start again with a lower learning rate."
ONLY_LOSS = "Only the prediction error is compared here, not what the pictures look like. Let the pictures decide."


@dataclass(frozen=True, slots=True)
class HeldOutScore:
    """One score on held-out photos, relative to the base; infinite where not finite."""

    step: int
    relative: float  # over all photos
    photos: Mapping[int, float]  # by photo


@dataclass(frozen=True, slots=True)
class Measure:
    """A checkpoint beside the best one."""

    step: int
    held_out: float  # its score
    bar: float
    close: bool  # its error bar overlaps that of the best
    words: str  # "14% better than the base, ±0.9, too close to call"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which checkpoint to draw with, and why."""

    step: int | None  # None where no score can tell
    close_call: bool  # another checkpoint may be as good
    words: str
    reasons: tuple[str, ...]
    measures: tuple[Measure, ...]  # of the checkpoints that have a score, by step


def choose(scores: Sequence[HeldOutScore], checkpoints: Sequence[int], diagnosis: Diagnosis, *, so_far: bool) -> Choice:
    """Choose among `checkpoints`, steps in order.

    scores   in order; empty where no photo is held out
    so_far   the run goes on, so later checkpoints may be better
    """
    if not checkpoints:
        return Choice(None, False, NO_CHECKPOINT, (), ())
    newest = checkpoints[-1]
    if not scores:
        return Choice(None, False, UNSCORED.format(newest), (), ())
    values = {step: value for step in checkpoints if (value := _at(scores, step, _overall)) is not None}
    finite = {step: value for step, value in values.items() if math.isfinite(value)}
    if not values:
        return Choice(None, False, EARLY.format(newest), (), ())
    if not finite:
        return Choice(None, False, BROKEN, (), ())
    best = min(finite, key=lambda step: finite[step])
    measures = tuple(_measure(scores, step, value, best, finite[best]) for step, value in finite.items())
    close = [each.step for each in measures if each.close and each.step != best]
    bar = next(each.bar for each in measures if each.step == best)
    words = _sentence(scores, best, finite[best], bar, close, diagnosis, newest, so_far)
    return Choice(best, bool(close), words, _reasons(scores, best, measures, diagnosis), measures)


def _measure(scores: Sequence[HeldOutScore], step: int, value: float, best: int, lowest: float) -> Measure:
    noise = deviation([each.relative for each in scores if math.isfinite(each.relative)])
    bar = max(math.hypot(noise, _spread(scores, step, best) / math.sqrt(2)), BAR_AT_LEAST)
    close = step == best or value - lowest < 2 * bar
    words = f"{than_base(value)}, ±{100 * bar:.1f}{', too close to call' if close and step != best else ''}"
    return Measure(step, value, bar, close, words)


def _spread(scores: Sequence[HeldOutScore], step: int, best: int) -> float:
    """The standard error over photos of the difference between two checkpoints."""
    differences = []
    for photo in scores[0].photos:
        here, there = (_at(scores, each, _of_photo(photo)) for each in (step, best))
        if here is not None and there is not None and math.isfinite(here - there):
            differences.append(here - there)
    return statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0


def _overall(score: HeldOutScore) -> float:
    return score.relative


def _of_photo(photo: int) -> Callable[[HeldOutScore], float]:
    return lambda score: score.photos.get(photo, math.inf)


def _at(scores: Sequence[HeldOutScore], step: int, value: Callable[[HeldOutScore], float]) -> float | None:
    """The value at a step; None before the first score, and more than an interval after the last."""
    for earlier, later in itertools.pairwise(scores):
        if step in (earlier.step, later.step):
            return value(earlier if step == earlier.step else later)
        if earlier.step < step < later.step:
            share = (step - earlier.step) / (later.step - earlier.step)
            return value(earlier) * (1 - share) + value(later) * share
    last = scores[-1].step
    gap = last - scores[-2].step if len(scores) > 1 else 0
    return value(scores[-1]) if last <= step <= last + gap else None


def _sentence(
    scores: Sequence[HeldOutScore],
    best: int,
    value: float,
    bar: float,
    close: Sequence[int],
    diagnosis: Diagnosis,
    newest: int,
    so_far: bool,
) -> str:
    rank = "Best" if value < 1 else "Nearest"
    lead = f"{rank}{' so far' if so_far else ''}: step {best}, {than_base(value)} on {_seen(scores)}"
    if close:
        return f"{lead}; too close to call beside {_named(close)}."
    if diagnosis.kind == "memorising" and best != newest:
        return f"{lead}; later it memorises the others."
    since = next(each.step for each in scores if each.relative <= value + bar)
    return f"{lead}; it has gained little since step {since}." if 0 < since < best else f"{lead}."


def _named(steps: Sequence[int]) -> str:
    if len(steps) <= NAMED_AT_MOST:
        return " and ".join(f"step {step}" for step in steps)
    return f"{len(steps)} others, steps {steps[0]} to {steps[-1]}"


def _seen(scores: Sequence[HeldOutScore]) -> str:
    photos = len(scores[0].photos)
    return "the photo it has never seen" if photos == 1 else f"the {photos} photos it has never seen"


def _reasons(
    scores: Sequence[HeldOutScore], best: int, measures: Sequence[Measure], diagnosis: Diagnosis
) -> tuple[str, ...]:
    chosen = next(each for each in measures if each.step == best)
    first = (
        f"With the same noise each time, its loss on {_seen(scores)} is {100 * chosen.held_out:.1f}% of the base’s, "
        f"give or take {100 * chosen.bar:.1f}."
    )
    others = sorted((each for each in measures if each.step != best), key=lambda each: abs(each.step - best))
    beside = [
        f"Step {each.step}: {than_base(each.held_out)}, {'too close to call' if each.close else 'clearly behind'}."
        for each in sorted(others[:REASONS_AT_MOST], key=lambda each: each.step)
    ]
    memorised = [f"{diagnosis.title}: {diagnosis.words}"] if diagnosis.kind == "memorising" else []
    return (first, *beside, *memorised, ONLY_LOSS)
