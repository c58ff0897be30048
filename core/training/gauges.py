"""The measures of a checkpoint as gauges for people: a value with its error bar on a scale, beside that of the base.

    held-out photos   1 - score                    -20% to 40%
    likeness, leak    as a share of the way from the base to the photos among themselves   -25% to 125%
    variety           of the base's                0% to 150%

Pure functions of numbers, without MLX, for the web process too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.training.diagnosis import than_base
from core.training.likeness import SHARE_OF, Figure, Figures

LEAKS, STIFF = 0.15, 0.9  # the leak, and the variety as a share of the photos', from which a gauge warns


@dataclass(frozen=True, slots=True)
class Gauge:
    """One measure; places are in percent of the scale."""

    name: Literal["held_out", "likeness", "leak", "variety"]
    label: str
    words: str  # "0.71, ±0.04"
    at: float
    low: float  # of the error bar
    high: float
    base: float
    photos: float | None  # of the photos among themselves
    warns: bool
    why: str


def gauges_of(value: float | None, bar: float | None, seen: str, figures: Figures | None) -> tuple[Gauge, ...]:
    """Those that are known: `value` and `bar` of the score on the photos that `seen` names, and the pictures'."""
    found = [_held_out(value, bar, seen)] if value is not None and bar is not None else []
    if figures is not None:
        found.append(_likeness(figures))
        found += [_leak(figures.leak)] if figures.leak is not None else []
        found += [_variety(figures.variety)] if figures.variety is not None else []
    return tuple(found)


def likeness_words(figure: Figure) -> str:
    """ "likeness 0.71, ±0.04"."""
    return f"likeness {figure.value:.2f}{_bar(figure.bar, 1, 2)}"


def _held_out(value: float, bar: float, seen: str) -> Gauge:
    why = (
        f"With the same noise each time, its guess for {seen} is {than_base(value).removesuffix(' than the base')} "
        "than the base’s. The tick is the base."
    )
    if round(100 * abs(1 - value)) == 0:
        why = f"With the same noise each time, its guess for {seen} is as good as the base’s, which the tick shows."
    words = f"{than_base(value).removesuffix(' than the base')}{_bar(bar, 100, 0)}"
    return _gauge(
        "held_out", "Photos it has never seen", words, 1 - value, bar, (-0.2, 0.4), 0.0, None, value >= 1, why
    )


def _likeness(figures: Figures) -> Gauge:
    of = figures.likeness
    gap = max(of.photos - of.base, SHARE_OF)
    share, bar = (of.value - of.base) / gap, None if of.bar is None else of.bar / gap
    photos = "the photos that it has never seen" if figures.held_out else "the photos that it is trained on"
    why = (
        f"How near the drawn pictures come to {photos}: 1 is the same, the base has {of.base:.2f} (left tick), and the "
        f"photos among themselves {of.photos:.2f} (right tick)."
    )
    words = f"{of.value:.2f}{_bar(of.bar, 1, 2)}"
    return _gauge("likeness", "Looks like the subject", words, share, bar, (-0.25, 1.25), 0.0, 1.0, share <= 0, why)


def _leak(of: Figure) -> Gauge:
    why = (
        f"Pictures of the class alone, without the trigger, have moved {_percent(of.value)} of the way from the base’s "
        "to your subject. Class protection in the settings lowers it."
    )
    words = f"{_percent(of.value)} leak{_bar(of.bar, 100, 0)}"
    warns = of.value > LEAKS
    return _gauge("leak", "The class keeps its looks", words, of.value, of.bar, (-0.25, 1.25), 0.0, None, warns, why)


def _variety(of: Figure) -> Gauge:
    stiff = of.value < STIFF * of.photos
    why = (
        f"The drawn pictures differ from one another {_percent(of.value)} as much as the base’s (the outer tick); the "
        f"photos among themselves, {_percent(of.photos)}."
    ) + (" Less than the photos: some of it was learned by heart. A lower strength gives part of it back." * stiff)
    words = f"{_percent(of.value)} of the base’s{_bar(of.bar, 100, 0)}"
    return _gauge("variety", "Still free to vary", words, of.value, of.bar, (0.0, 1.5), 1.0, of.photos, stiff, why)


def _gauge(
    name: Literal["held_out", "likeness", "leak", "variety"],
    label: str,
    words: str,
    value: float,
    bar: float | None,
    scale: tuple[float, float],
    base: float,
    photos: float | None,
    warns: bool,
    why: str,
) -> Gauge:
    def place(at: float) -> float:
        return round(100 * min(max((at - scale[0]) / (scale[1] - scale[0]), 0.0), 1.0), 1)

    spread = bar or 0.0
    ends = place(value - spread), place(value + spread)
    return Gauge(
        name, label, words, place(value), *ends, place(base), None if photos is None else place(photos), warns, why
    )


def _bar(bar: float | None, times: int, digits: int) -> str:
    return "" if bar is None else f", ±{times * bar:.{digits}f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"
