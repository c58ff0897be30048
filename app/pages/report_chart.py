"""A chart as SVG that stands within a page: lines over steps, in a box of WIDTH x HEIGHT. No script draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 28
POINTS_AT_MOST = 500  # of a line: more cannot be seen at this size
TICKS = 5

Series = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or the same values as dots too."""

    kind: str  # a CSS class: raw, smooth or score
    points: str  # of a polyline


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that the template writes."""

    title: str
    words: str  # the chart in a sentence, for those who cannot see it
    lines: tuple[Line, ...]
    steps: tuple[Tick, ...]
    values: tuple[Tick, ...]
    marks: tuple[float, ...]  # where checkpoints were saved
    shown: float | None  # where the checkpoint is that the report shows


def chart(
    title: str,
    words: str,
    series: Sequence[tuple[str, Series]],
    steps: int,
    marks: Sequence[int],
    shown: int | None,
    *,
    percent: bool = False,
) -> Chart | None:
    """A chart of these (kind, values); None when there is nothing to draw."""
    every = [value for _, values in series for _, value in values]
    if not every:
        return None
    low, high = _range(every)

    def x(step: float) -> float:
        return round(LEFT + step / max(steps, 1) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    lines = tuple(
        Line(kind, " ".join(f"{x(step)},{y(value)}" for step, value in _thinned(values))) for kind, values in series
    )
    along = nice(0, steps)
    return Chart(
        title=title,
        words=words,
        lines=lines,
        steps=tuple(Tick(x(step), f"{step:,.0f}") for step in along),
        values=tuple(Tick(y(value), f"{value:.0%}" if percent else f"{value:.3g}") for value in nice(low, high)),
        marks=tuple(x(step) for step in marks),
        shown=None if shown is None else x(shown),
    )


def smoothed(values: Series, weight: float = 0.9) -> list[tuple[int, float]]:
    """Exponential moving average with bias correction: m = (1 - w) sum w^i x_(n-i) / (1 - w^n)."""
    mean = mass = 0.0
    found = []
    for step, value in values:
        mean = weight * mean + (1 - weight) * value
        mass = weight * mass + (1 - weight)
        found.append((step, mean / mass))
    return found


def nice(low: float, high: float) -> list[float]:
    """Round numbers within a range, about TICKS of them."""
    width = 10 ** math.floor(math.log10(max(high - low, 1e-12) / TICKS))
    gap = next(width * times for times in (1, 2, 5, 10) if (high - low) / (width * times) <= TICKS)
    first = math.ceil(low / gap - 1e-9)
    return [number * gap for number in range(first, math.floor(high / gap + 1e-9) + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The middle 98% of the values with some air, so that outliers do not flatten the rest."""
    ordered = sorted(values)
    low, high = (ordered[round(share * (len(ordered) - 1))] for share in (0.01, 0.99))
    air = (high - low or abs(high) or 1.0) * 0.08
    return max(0.0, low - air), high + air


def _thinned(values: Series) -> Series:
    if len(values) <= POINTS_AT_MOST:
        return values
    return [values[round(n * (len(values) - 1) / (POINTS_AT_MOST - 1))] for n in range(POINTS_AT_MOST)]
