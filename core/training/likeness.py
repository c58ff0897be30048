"""What the pictures drawn at a step say of the adapter: likeness, leak and variety, each with an error bar.

    s_i(n)       likeness of picture i, whose prompt has the trigger, to the photos          core/vision/drawn.py
    b_i(n)       likeness of picture i of the bare class: the same prompt and seed without the trigger
    d_i(n)       distance of picture i from the others with the trigger
    s*, b*, d*   the same of the photos among themselves; step 0 is the base, or the adapter that the run began with

    likeness(n)  = mean s_i(n)                                  bar  sd(s_i(n)) / sqrt(I)
    leak(n)      = mean (b_i(n) - b_i(0)) / (b* - mean b_i(0))  bar  sd(b_i(n) - b_i(0)) / sqrt(I) / (b* - mean b_i(0))
                   0: the class looks as before; 1: it looks like the subject, as much as the photos do
    variety(n)   = mean d_i(n) / mean d_i(0) = v                bar  sd(d_i(n) - v d_i(0)) / sqrt(I) / mean d_i(0)
                   1: as different as the base's pictures; v* = d* / mean d_i(0): as the photos among themselves
    gained(n)    = (likeness(n) - likeness(0)) / (s* - likeness(0))
    lost(n)      = max(min(1, v*) - variety(n), 0): pictures of one subject need not differ more than its photos do
    worth(n)     = gained(n) - lost(n) - LEAK_WEIGHT * max(leak(n), 0)                                       0 at step 0

A difference of two steps is one of the same prompts and seeds, so its bar comes from the differences of the pictures:
sd(s_i(m) - s_i(n)) / sqrt(I), and so on; the bars of the three parts of a worth add in squares. sd is the standard
deviation over pictures, with I - 1; of a single picture it is unknown, and taken to be infinite. Shares are of at least
SHARE_OF: where the base is as like the photos as they are to each other, no share means anything.

Pure functions of numbers, without MLX and numpy, for the web process too.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

LEAK_WEIGHT = 0.25  # most people draw with the trigger; for them likeness and variety count for more
SHARE_OF = 0.02  # the least likeness, or distance, that is divided by


@dataclass(frozen=True, slots=True)
class Drawn:
    """The pictures of one step; pictures of other steps have the same prompts and seeds in the same order."""

    step: int
    likeness: tuple[float, ...]  # s_i
    bare: tuple[float, ...]  # b_i
    distance: tuple[float, ...]  # d_i; empty for a single picture
    photos: tuple[float, float, float]  # s*, b*, d*
    held_out: bool  # s is of held-out photos alone

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Drawn:
        """Raises KeyError, TypeError or ValueError for the JSON of something else."""
        likeness, bare, distance = (tuple(map(float, value[name])) for name in ("likeness", "bare", "distance"))
        s, b, d = map(float, value["photos"])
        return cls(int(value["step"]), likeness, bare, distance, (s, b, d), bool(value["held_out"]))


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure of one step, and what to compare it with."""

    value: float
    bar: float | None  # None: unknown, of a single picture
    base: float  # of step 0
    photos: float  # of the photos among themselves


@dataclass(frozen=True, slots=True)
class Figures:
    """What the pictures of one step say; None where too few were drawn."""

    likeness: Figure
    leak: Figure | None
    variety: Figure | None
    gained: float  # likeness, as a share of the way from the base to the photos
    worth: float
    held_out: bool


def at_step(drawn: Sequence[Drawn], step: int) -> Drawn | None:
    """The pictures' figures at a step, between two drawings on the line between them; None outside of these."""
    for earlier, later in itertools.pairwise(drawn):
        if earlier.step < step < later.step:
            share = (step - earlier.step) / (later.step - earlier.step)
            likeness, bare, distance = (
                tuple(one * (1 - share) + other * share for one, other in zip(before, after, strict=True))
                for before, after in (
                    (earlier.likeness, later.likeness),
                    (earlier.bare, later.bare),
                    (earlier.distance, later.distance),
                )
            )
            return Drawn(step, likeness, bare, distance, later.photos, later.held_out)
    return next((each for each in drawn if each.step == step), None)


def comparable(drawn: Sequence[Drawn]) -> list[Drawn]:
    """Those with as many pictures as the newest, by step: a resumed run may draw other prompts than before."""
    if not drawn:
        return []
    shape = [len(each) for each in (drawn[-1].likeness, drawn[-1].bare, drawn[-1].distance)]
    return [each for each in drawn if [len(one) for one in (each.likeness, each.bare, each.distance)] == shape]


def figures(now: Drawn, base: Drawn) -> Figures:
    """`base` is of step 0, of the same pictures."""
    likeness = _figure(
        statistics.fmean(now.likeness), _error(now.likeness), statistics.fmean(base.likeness), now.photos[0]
    )
    leak, variety = _leak(now, base), _variety(now, base)
    gained = (likeness.value - likeness.base) / max(likeness.photos - likeness.base, SHARE_OF)
    leaked = LEAK_WEIGHT * max(leak.value, 0.0) if leak else 0.0
    lost = max(min(1.0, variety.photos) - variety.value, 0.0) if variety else 0.0
    return Figures(likeness, leak, variety, gained, gained - lost - leaked, now.held_out)


def worth_bar(one: Drawn, other: Drawn, base: Drawn) -> float:
    """The error bar of the difference of two steps' worth."""
    parts = [_error(_differences(one.likeness, other.likeness)) / _gap(base.likeness, one.photos[0])]
    leaks, varieties = [_leak(each, base) for each in (one, other)], [_variety(each, base) for each in (one, other)]
    if any(each is not None and each.value > 0 for each in leaks):
        parts.append(LEAK_WEIGHT * _error(_differences(one.bare, other.bare)) / _gap(base.bare, one.photos[1]))
    if any(each is not None and each.value < min(1.0, each.photos) for each in varieties):
        mean = max(statistics.fmean(base.distance), SHARE_OF)
        parts.append(_error(_differences(one.distance, other.distance)) / mean)
    return math.hypot(*parts)


def _leak(now: Drawn, base: Drawn) -> Figure | None:
    if not now.bare:
        return None
    moved, gap = _differences(now.bare, base.bare), _gap(base.bare, now.photos[1])
    return _figure(statistics.fmean(moved) / gap, _error(moved) / gap, 0.0, 1.0)


def _variety(now: Drawn, base: Drawn) -> Figure | None:
    if not now.distance:
        return None
    mean = max(statistics.fmean(base.distance), SHARE_OF)
    ratio = statistics.fmean(now.distance) / mean
    bar = _error([one - ratio * other for one, other in zip(now.distance, base.distance, strict=True)]) / mean
    return _figure(ratio, bar, 1.0, now.photos[2] / mean)


def _figure(value: float, bar: float, base: float, photos: float) -> Figure:
    return Figure(value, bar if math.isfinite(bar) else None, base, photos)


def _gap(base: Sequence[float], photos: float) -> float:
    return max(photos - statistics.fmean(base), SHARE_OF)


def _differences(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]


def _error(values: Sequence[float]) -> float:
    """The standard error of their mean."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
