"""What the scores of a run say, in words: still learning, flat, memorising since step N, diverged.

    score(n)     loss at step n, at fixed noise, relative to the untouched base          core/training/validation.py
    lowest       where the trend of the scores is: (step, score); chance: how far a score is off by itself    trend.py

    diverged     the last three steps or the last score no number; or the photos' training loss three times the base's;
                 or the score above 1.5 while that training loss is no lower than the base's loss
    memorising   since the lowest, when the last two scores are above it by 0.04, by 3 chances and by a quarter of
                 what had been gained
    flat         since the first score within 0.005 of the lowest, when half of the run, and four scores, have gone by
    learning     none of these

A photo that is trained on can only get better: its scores cannot show memorising as it begins. Once half of the base's
loss on it is gone it is known by heart, since most of that loss is what noise hides and nobody can guess.

Pure functions of the numbers, without MLX: the web process asks them too.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from core.training.trend import chance, lowest

Kind = Literal["early", "learning", "flat", "memorising", "diverged"]
BANDS = ("low noise", "medium-low noise", "medium-high noise", "high noise")
SCORES_AT_LEAST = 4  # with the one of step 0, before anything but divergence is said
STEPS_AT_LEAST = 20
RISE, GAIN = 0.04, 0.005
CHANCES, GIVEN_BACK = 3.0, 0.25
BY_HEART = 0.5
WORSE, FAR_WORSE = 1.5, 3.0
PHOTOS_AT_LEAST, STANDS_OUT = 4, math.log(1.3)  # of photos, before one stands out, and by how much it has to
BAD_STEPS, LOSSES_AVERAGED = 3, 20
STILL, SCORES_LATER = 1 / 2, 4  # without a gain: flat


@dataclass(frozen=True, slots=True)
class Score:
    """One scoring: relative to the base, over all bands and by band, and the loss; infinite where it is no number."""

    step: int
    relative: float
    bands: tuple[float, ...]
    loss: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the numbers mean."""

    kind: Kind
    since: int | None  # the step from which on it is so, for flat and memorising
    title: str  # "Memorising since step 120"
    words: str  # what that means and what to do, a sentence or two
    bands: tuple[str, ...]  # "High noise: 14% better than the base", one for each band; from much noise to little


def judge(scores: Sequence[Score], losses: Sequence[float | None], held_out: bool) -> Verdict:
    """The verdict on a run.

    scores    the first is of step 0, or of the adapter that the run began with
    losses    of the photos in the newest training steps, the oldest of them first; None: no number. The term of the
              class pictures is not in them, since the base's loss has no such term
    held_out  whether the scores are of photos that the run does not learn from
    """
    if not scores:
        return Verdict("early", None, "Too early to say", EARLY, ())
    bands = tuple(
        f"{name.capitalize()}: {_band_words([score.step for score in scores], [score.bands[band] for score in scores])}"
        for band, name in reversed(list(enumerate(BANDS)))
    )
    steps, values = [score.step for score in scores], [score.relative for score in scores]
    if _diverged(scores, losses):
        return Verdict("diverged", None, "Diverged", DIVERGED, bands)
    if len(scores) < SCORES_AT_LEAST or steps[-1] < STEPS_AT_LEAST:
        return Verdict("early", None, "Too early to say", EARLY, bands)
    since = _risen_since(steps, values)
    if held_out and since is not None:
        title = f"Memorising since step {since}" if since else "Memorising from the first steps on"
        return Verdict("memorising", since, title, MEMORISING.format(than_base(values[-1])), bands)
    if not held_out and values[-1] < BY_HEART:
        known = next(step for step, value in zip(steps, values, strict=True) if value < BY_HEART)
        return Verdict("memorising", known, f"Known by heart since step {known}", BY_HEART_WORDS, bands)
    seen = UNSEEN if held_out else SEEN
    flat = _flat_since(steps, values)
    if flat is not None:
        return Verdict("flat", flat, f"Flat since step {flat}", f"{FLAT} {seen.format(than_base(values[-1]))}", bands)
    return Verdict("learning", None, "Still learning", seen.format(than_base(values[-1])), bands)


EARLY = f"Words come with the third score, and not before step {STEPS_AT_LEAST}."
DIVERGED = (
    "It does worse than the untouched base, on the photos that it trains on too. Stop it, and start again with a lower "
    "learning rate."
)
MEMORISING = (
    "Photos that it has never seen have been getting worse since then and are now {}: it learns its own photos by "
    "heart. An earlier checkpoint, a lower learning rate or more photos follow prompts better. Let the pictures decide."
)
BY_HEART_WORDS = (
    "More than half of the loss on a photo that it trains on is gone, so it is known by heart. Hold a photo out to see "
    "since when that is at the cost of everything else."
)
FLAT = "More steps change little."
UNSEEN = "On photos that it has never seen it is {}."
SEEN = "On a photo that it trains on it is {}. Hold a photo out to see whether it learns more than its own photos."


def outliers(relative: Mapping[int, float]) -> set[int]:
    """The photos whose training loss stands out from the others': look whether they show the subject.

    relative    by photo, core/training/photo_losses.py
    """
    if len(relative) < PHOTOS_AT_LEAST:
        return set()
    logs = {photo: math.log(value) for photo, value in relative.items() if 0 < value < math.inf}
    middle = statistics.median(logs.values())
    spread = statistics.median(abs(value - middle) for value in logs.values()) / 0.6745
    return {photo for photo, value in logs.items() if value - middle > max(STANDS_OUT, CHANCES * spread)}


def _risen_since(steps: Sequence[int], values: Sequence[float]) -> int | None:
    """The step of the lowest score, if it has been left for good."""
    step, low = lowest(steps, values)
    margin = max(RISE, CHANCES * chance(values), GIVEN_BACK * (values[0] - low))
    after = [value for at, value in zip(steps, values, strict=True) if at > step]
    return round(step) if len(after) >= 2 and min(after[-2:]) > low + margin else None


def _flat_since(steps: Sequence[int], values: Sequence[float]) -> int | None:
    """The step since which nothing was gained, if that is long ago."""
    at = next(index for index, value in enumerate(values) if value <= min(values) + GAIN)
    return steps[at] if steps[at] <= STILL * steps[-1] and len(values) - at > SCORES_LATER else None


def _diverged(scores: Sequence[Score], losses: Sequence[float | None]) -> bool:
    if len(losses) >= BAD_STEPS and all(loss is None for loss in losses[-BAD_STEPS:]):
        return True
    if not math.isfinite(scores[-1].relative):
        return True
    finite = [loss for loss in losses[-LOSSES_AVERAGED:] if loss is not None]
    if len(finite) < LOSSES_AVERAGED // 2:
        return False
    times = statistics.fmean(finite) * scores[0].relative / scores[0].loss  # of the base's loss
    return times > FAR_WORSE or (scores[-1].relative > WORSE and times >= 1)


def _band_words(steps: Sequence[int], values: Sequence[float]) -> str:
    """How a band stands, and whether it still gains."""
    words = than_base(values[-1])
    if len(values) < SCORES_AT_LEAST or steps[-1] < STEPS_AT_LEAST or not math.isfinite(values[-1]):
        return words
    if (since := _risen_since(steps, values)) is not None:
        return f"{words}, getting worse since step {since}"
    if (since := _flat_since(steps, values)) is not None:
        return f"{words}, no gain since step {since}"
    return words


def than_base(relative: float) -> str:
    """0.86 -> "14% better than the base"."""
    percent = round(100 * abs(1 - relative)) if math.isfinite(relative) else 0
    if not math.isfinite(relative):
        return "not a number any more"
    if relative >= 2:
        return f"{relative:.1f} times as bad as the base"
    return f"{percent}% {'better' if relative < 1 else 'worse'} than the base" if percent else "as good as the base"
