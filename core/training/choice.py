"""Chooses the checkpoint to draw with: by the loss on held-out photos, and by what the drawn pictures show.

    score(n)   the loss on held-out photos after step n, at fixed noise, relative to the untouched base; between two
               scores, the value on the line between them                                core/training/validation.py
    lowest     the checkpoint with the lowest score
    bar(n)     sqrt(noise^2 + spread(n)^2 / 2), at least BAR_AT_LEAST: the error bar of score(n) beside that of the best
        noise      the standard deviation of a score around the curve of all scores           core/training/trend.py
        spread(n)  the standard error over photos of their difference to the lowest; 0 for a single photo
    in reach   the checkpoints whose error bar overlaps that of the lowest: score(n) - score(lowest) < 2 bar(n)

    worth(n)   likeness gained, less leak, less lost variety, of the pictures of step n    core/training/likeness.py
    best       the one in reach with the highest worth, where that is above the worth of the lowest by more than
               2 worth_bar; else, and without pictures, the lowest
    close      those in reach whose worth is not below that of the best by more than 2 worth_bar
    too close to call   one of them is NEAR_SHARE of the run away or more: nearer ones are nearly the same adapter

Both scores of a difference are of the same photos at the same noise, so what the photos have in common cancels out; and
so it is with pictures of the same prompts and seeds.

Where no photo is held out, all checkpoints are in reach, but not those that came after the photos were known by heart
(core/training/diagnosis.py): from there on only the photos themselves come back.

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
NEAR_SHARE = 0.15  # of the newest checkpoint's step

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
    in_reach = [step for step, value in finite.items() if step == lowest or value - finite[lowest] < 2 * bars[step]]
    best = drawn.best(in_reach, lowest)
    close = {step for step in in_reach if step != best and not drawn.is_behind(step, best)}
    measures = tuple(
        _measure(step, value, bars[step], step in close, drawn.figures(step), _seen(scores))
        for step, value in finite.items()
    )
    far = [step for step in sorted(close) if abs(step - best) >= NEAR_SHARE * newest]
    words = _sentence(scores, best, lowest, finite[best], bars[best], far, diagnosis, newest, so_far)
    return Choice(best, bool(far), words, _reasons(scores, best, measures, diagnosis), measures)


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

    def best(self, steps: Sequence[int], otherwise: int) -> int:
        """The one with the highest worth, if that is surely above that of `otherwise`."""
        worth = {step: each.worth for step in steps if (each := self.figures(step)) is not None}
        if otherwise not in worth:
            return otherwise
        found = max(worth, key=lambda step: worth[step])
        return found if self.is_behind(otherwise, found) else otherwise

    def is_behind(self, step: int, best: int) -> bool:
        """Whether its pictures are surely worth less than those of the best; False where that is not known."""
        one, other = self._of.get(step), self._of.get(best)
        if one is None or other is None or self._base is None:
            return False
        difference = likeness.figures(other, self._base).worth - likeness.figures(one, self._base).worth
        return difference > 2 * likeness.worth_bar(one, other, self._base)


def _by_pictures(checkpoints: Sequence[int], drawn: _Pictures, diagnosis: Diagnosis, *, so_far: bool) -> Choice:
    """Where no photo is held out."""
    newest = checkpoints[-1]
    if not drawn.steps:
        return Choice(None, False, UNSCORED.format(newest), (), ())
    since = diagnosis.since if diagnosis.kind == "memorising" else None
    in_reach = [step for step in drawn.steps if since is None or step <= since] or drawn.steps[:1]
    worth = {step: each.worth for step in drawn.steps if (each := drawn.figures(step)) is not None}
    best = max(in_reach, key=lambda step: worth[step])
    close = {step for step in in_reach if step != best and not drawn.is_behind(step, best)}
    measures = tuple(_measure(step, None, None, step in close, drawn.figures(step), "") for step in drawn.steps)
    far = [step for step in sorted(close) if abs(step - best) >= NEAR_SHARE * newest]
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
    best: int,
    lowest: int,
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
    if best != lowest:
        return f"{lead}, and its pictures are better than those of step {lowest}."
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
