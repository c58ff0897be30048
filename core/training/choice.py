"""Chooses the checkpoint to draw with: by the loss on held-out photos, and by what the drawn pictures show.

    score(n)   the loss on held-out photos after step n, at fixed noise, relative to the untouched base; between two
               scores, the value on the line between them                                core/training/validation.py
    lowest     the checkpoint with the lowest score
    bar(n)     sqrt(noise^2 + spread(n)^2 / 2), at least BAR_AT_LEAST: the error bar of score(n) beside that of the best
        noise      the standard deviation of a score around the curve of all scores           core/training/trend.py
        spread(n)  the standard error over photos of their difference to the lowest; 0 for a single photo
    excess(n)  score(n) - score(lowest), at most 1
    worth(n)   likeness gained, less lost variety, less leak, of the pictures of step n     core/training/likeness.py
    merit(n)   worth(n) - EXCESS_WEIGHT excess(n);   without pictures, -score(n)
    best       the checkpoint with the highest merit
    close      those whose error bars overlap that of the best: merit(best) - merit(n) < sqrt 2 * the error bar of that
               difference, which is that of the two parts in squares;   without pictures, < 2 bar(n)
    too close to call   one of them is FAR_SHARE of the run away, or more: nearer ones are much the same adapter

Pictures come first, since they are what the adapter is for. The score on held-out photos sees memorising before they
do, but its part is small: with few photos a subject is only drawn well when its score has long been rising (Pocket with
two photos of a dog: lowest before step 50, a dog from step 350 on; python -m bench.choice). Where pictures are
measured, a checkpoint without them, such as one after the last samples, is not chosen.

Both scores of a difference are of the same photos at the same noise, so what the photos have in common cancels out; and
so it is with pictures of the same prompts and seeds.

Where no photo is held out, merit is worth alone, and the checkpoints after the photos were known by heart
(core/training/diagnosis.py) do not count: from there on only the photos themselves come back.

Pure functions of numbers, without MLX, for the web process too.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.training import gauges, likeness
from core.training.diagnosis import Diagnosis, than_base
from core.training.gauges import Gauge
from core.training.likeness import Drawn, Figures
from core.training.trend import deviation

BAR_AT_LEAST = 0.005  # half a percent of the base's loss: less is no difference that a picture shows
NAMED_AT_MOST = 2  # checkpoints in a sentence
REASONS_AT_MOST = 4  # about other checkpoints
FAR_SHARE = 0.25  # of the newest checkpoint's step
EXCESS_WEIGHT = 0.1

NO_CHECKPOINT = "There is no checkpoint to choose yet."
UNSCORED = (
    "No photo is held out, so no score can say which checkpoint is best; step {} is the newest. "
    "Let the pictures decide."
)
EARLY = "Too early to say which checkpoint is best; step {} is the newest."
BROKEN = "It has diverged, and no checkpoint gives finite losses. Start again with a lower learning rate."
UNSEEN_BY_NONE = (
    "No photo is held out: the pictures are compared with the photos that it is trained on, so what was learned by "
    "heart looks like likeness. Hold out a photo, and let the pictures decide."
)
FEW_PICTURES = "A few small pictures were measured. Look at them, and let your eyes decide."
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
    held_out: float | None  # its score; None where no photo is held out
    bar: float | None
    close: bool  # it may be as good as the best
    words: str  # "14% better than the base, ±0.9, too close to call"
    figures: Figures | None = None  # what its pictures show; None where they were not measured
    gauges: tuple[Gauge, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """Which checkpoint to draw with, and why."""

    step: int | None  # None where nothing can tell
    close_call: bool  # another checkpoint may be as good
    words: str
    reasons: tuple[str, ...]
    measures: tuple[Measure, ...]  # of the checkpoints that have a score, by step


def choose(
    scores: Sequence[HeldOutScore],
    checkpoints: Sequence[int],
    diagnosis: Diagnosis,
    *,
    so_far: bool,
    pictures: Sequence[Drawn] = (),
) -> Choice:
    """Choose among `checkpoints`, steps in order.

    scores    in order; empty where no photo is held out
    so_far    the run goes on, so later checkpoints may be better
    pictures  what those of each step show, in order, the first of step 0; empty where none are measured
    """
    if not checkpoints:
        return Choice(None, False, NO_CHECKPOINT, (), ())
    newest, drawn = checkpoints[-1], _Pictures(pictures, checkpoints)
    if not scores:
        return _by_pictures(checkpoints, drawn, diagnosis, so_far=so_far)
    values = {step: value for step in checkpoints if (value := _at(scores, step, _overall)) is not None}
    finite = {step: value for step, value in values.items() if math.isfinite(value)}
    if not values:
        return Choice(None, False, EARLY.format(newest), (), ())
    if not finite:
        return Choice(None, False, BROKEN, (), ())
    lowest = min(finite, key=lambda step: finite[step])
    bars = {step: _bar(scores, step, lowest) for step in finite}
    best, close = _closest(finite, bars, lowest)
    pictured = [step for step in finite if drawn.figures(step) is not None]
    if pictured:
        excess = {step: min(finite[step] - finite[lowest], 1.0) for step in pictured}
        excess_bars = {step: EXCESS_WEIGHT * math.sqrt(2) * bars[step] for step in pictured}
        best, close = drawn.best({step: -EXCESS_WEIGHT * each for step, each in excess.items()}, excess_bars)
    seen = _seen(scores)
    measures = tuple(
        _measure(step, value, bars[step], step in close, drawn.figures(step), seen) for step, value in finite.items()
    )
    chosen = next(each for each in measures if each.step == best)
    words = _sentence(scores, chosen, lowest, _far(close, best, newest), diagnosis, newest, so_far)
    return Choice(best, bool(_far(close, best, newest)), words, _reasons(scores, best, measures, diagnosis), measures)


def _closest(values: Mapping[int, float], bars: Mapping[int, float], lowest: int) -> tuple[int, set[int]]:
    """The best by scores alone, and those close to it."""
    close = {step for step, value in values.items() if value - values[lowest] < 2 * bars[step]}
    return lowest, close - {lowest}


def _far(close: set[int], best: int, newest: int) -> list[int]:
    return [step for step in sorted(close) if abs(step - best) >= FAR_SHARE * newest]


class _Pictures:
    """What the pictures say of the checkpoints."""

    def __init__(self, pictures: Sequence[Drawn], checkpoints: Sequence[int]) -> None:
        comparable = likeness.comparable(pictures)
        self._base = comparable[0] if comparable and not comparable[0].step else None
        found = {step: likeness.at_step(comparable, step) for step in checkpoints}
        self._of = {step: each for step, each in found.items() if each is not None and self._base is not None}

    def figures(self, step: int) -> Figures | None:
        one = self._of.get(step)
        return likeness.figures(one, self._base) if one is not None and self._base is not None else None

    @property
    def steps(self) -> list[int]:
        return list(self._of)

    def best(self, others: Mapping[int, float], bars: Mapping[int, float]) -> tuple[int, set[int]]:
        """The best of the steps of `others`, and those close to it.

        others   what is added to the worth of each
        bars     the error bars of that, beside another step
        """
        merit = {step: each.worth + others[step] for step in others if (each := self.figures(step)) is not None}
        best = max(merit, key=lambda step: merit[step])
        apart = {step: merit[best] - merit[step] for step in merit if step != best}
        return best, {
            step for step, each in apart.items() if each < math.sqrt(2) * math.hypot(self._bar(step, best), bars[step])
        }

    def _bar(self, step: int, best: int) -> float:
        if self._base is None:
            return math.inf
        return likeness.worth_bar(self._of[step], self._of[best], self._base)


def _by_pictures(checkpoints: Sequence[int], drawn: _Pictures, diagnosis: Diagnosis, *, so_far: bool) -> Choice:
    """Where no photo is held out."""
    newest = checkpoints[-1]
    if not drawn.steps:
        return Choice(None, False, UNSCORED.format(newest), (), ())
    since = diagnosis.since if diagnosis.kind == "memorising" else None
    allowed = dict.fromkeys([step for step in drawn.steps if since is None or step <= since] or drawn.steps[:1], 0.0)
    best, close = drawn.best(allowed, allowed)
    measures = tuple(_measure(step, None, None, step in close, drawn.figures(step), "") for step in drawn.steps)
    far = _far(close, best, newest)
    words = f"Best{' so far' if so_far else ''} by its pictures: step {best}"
    if far:
        words = f"{words}; too close to call beside {_named(far)}"
    elif since is not None and best != newest:
        words = f"{words}; later it knows the photos by heart"
    return Choice(best, bool(far), f"{words}.", (UNSEEN_BY_NONE,), measures)


def _bar(scores: Sequence[HeldOutScore], step: int, lowest: int) -> float:
    noise = deviation([each.relative for each in scores if math.isfinite(each.relative)])
    return max(math.hypot(noise, _spread(scores, step, lowest) / math.sqrt(2)), BAR_AT_LEAST)


def _measure(
    step: int, value: float | None, bar: float | None, close: bool, figures: Figures | None, seen: str
) -> Measure:
    words = [] if value is None or bar is None else [f"{than_base(value)}, ±{100 * bar:.1f}"]
    words += [gauges.likeness_words(figures.likeness)] if figures is not None else []
    words += ["too close to call"] if close else []
    return Measure(step, value, bar, close, ", ".join(words), figures, gauges.gauges_of(value, bar, seen, figures))


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
    chosen: Measure,
    lowest: int,
    far: Sequence[int],
    diagnosis: Diagnosis,
    newest: int,
    so_far: bool,
) -> str:
    best, value, bar = chosen.step, chosen.held_out or 0.0, chosen.bar or 0.0
    rank = f"{'Best' if value < 1 or chosen.figures else 'Nearest'}{' so far' if so_far else ''}"
    lead = f"{rank}: step {best}, {than_base(value)} on {_seen(scores)}"
    if chosen.figures is not None and best != lowest:
        lead = f"{lead}, with pictures {max(round(100 * chosen.figures.gained), 0)}% of the way to the subject"
    if far:
        return f"{lead}; too close to call beside {_named(far)}."
    if diagnosis.kind == "memorising" and best != newest:
        return f"{lead}; later it memorises the others."
    since = next((each.step for each in scores if each.relative <= value + bar), best)
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
        f"With the same noise each time, its loss on {_seen(scores)} is {100 * (chosen.held_out or 0):.1f}% of the "
        f"base’s, give or take {100 * (chosen.bar or 0):.1f}."
    )
    others = sorted((each for each in measures if each.step != best), key=lambda each: abs(each.step - best))
    beside = [
        f"Step {each.step}: {than_base(each.held_out or 0)}, {'too close to call' if each.close else 'behind'}."
        for each in sorted(others[:REASONS_AT_MOST], key=lambda each: each.step)
    ]
    memorised = [f"{diagnosis.title}: {diagnosis.words}"] if diagnosis.kind == "memorising" else []
    return (first, *beside, *memorised, ONLY_LOSS if chosen.figures is None else FEW_PICTURES)
