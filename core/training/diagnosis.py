"""Diagnoses a run from its scores: still learning, flat, memorising since step N, or diverged.

    score(n)     loss at step n, at fixed noise, relative to the untouched base          core/training/validation.py
    lowest       the minimum of the trend of the scores: (step, score)                   core/training/trend.py
    deviation    the standard deviation of a score around that trend

    diverged     the last three steps or the last score are not finite; or the photos' training loss is above three
                 times the base's; or the score is above 1.5 and that training loss no lower than the base's
    memorising   since the lowest, if the last two scores are above it by 0.04, by 3 deviations, and by a quarter of
                 the previous gain
    flat         since the first score within 0.005 of the best, if that was in the first half of the run and at least
                 four scores came after it
    learning     none of these

The loss on a photo that is trained on only falls, so its scores cannot show the onset of memorising. Once it is below
half of the base's, the photo is memorised: most of the base's loss is noise that cannot be predicted.

Pure functions of numbers, without MLX, for the web process too.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from core.training.trend import deviation, lowest

Kind = Literal["early", "learning", "flat", "memorising", "diverged"]
BANDS = ("low noise", "medium-low noise", "medium-high noise", "high noise")
SCORES_AT_LEAST = 4  # with the one of step 0, for any diagnosis but "diverged"
STEPS_AT_LEAST = 20
RISE, GAIN = 0.04, 0.005
DEVIATIONS, GAIN_LOST = 3.0, 0.25
BY_HEART = 0.5
WORSE, FAR_WORSE = 1.5, 3.0
PHOTOS_AT_LEAST, OUTLIER = 4, math.log(1.3)  # the fewest photos, and the smallest log ratio, of an outlier
BAD_STEPS_IN_A_ROW = 3  # steps with a loss that is not finite: the last of them ends a run
LOSSES_AVERAGED = 20  # of the newest steps: a single loss says more about its sigma than about the adapter
FLAT_SHARE, FLAT_SCORES = 1 / 2, 4  # of the run, and later scores, without a gain


@dataclass(frozen=True, slots=True)
class Score:
    """One score: relative to the base over all bands, by band, and the loss itself; infinite where not finite."""

    step: int
    relative: float
    bands: tuple[float, ...]
    loss: float


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the scores of a run mean."""

    kind: Kind
    since: int | None  # this step, for flat and memorising
    title: str  # "Memorising since step 120"
    words: str  # what it means and what to do
    bands: tuple[str, ...]  # "High noise: 14% better than the base" for each band, from much noise to little


def diagnose(scores: Sequence[Score], losses: Sequence[float | None], held_out: bool) -> Diagnosis:
    """Diagnose a run.

    scores    in order; the first is of step 0, or of the adapter that the run began with
    losses    of the newest training steps, in order; None if not finite. Without the term of the class pictures, which
              the base's loss does not have either
    held_out  whether the scored photos are held out
    """
    if not scores:
        return Diagnosis("early", None, "Too early to say", EARLY, ())
    bands = tuple(
        f"{name.capitalize()}: {_band_words([score.step for score in scores], [score.bands[band] for score in scores])}"
        for band, name in reversed(list(enumerate(BANDS)))
    )
    steps, values = [score.step for score in scores], [score.relative for score in scores]
    if _diverged(scores, losses):
        return Diagnosis("diverged", None, "Diverged", DIVERGED, bands)
    if len(scores) < SCORES_AT_LEAST or steps[-1] < STEPS_AT_LEAST:
        return Diagnosis("early", None, "Too early to say", EARLY, bands)
    since = _risen_since(steps, values)
    if held_out and since is not None:
        title = f"Memorising since step {since}" if since else "Memorising from the first steps on"
        return Diagnosis("memorising", since, title, MEMORISING.format(than_base(values[-1])), bands)
    if not held_out and values[-1] < BY_HEART:
        known = next(step for step, value in zip(steps, values, strict=True) if value < BY_HEART)
        return Diagnosis("memorising", known, f"Known by heart since step {known}", BY_HEART_WORDS, bands)
    seen = UNSEEN if held_out else SEEN
    flat = _flat_since(steps, values)
    if flat is not None:
        return Diagnosis("flat", flat, f"Flat since step {flat}", f"{FLAT} {seen.format(than_base(values[-1]))}", bands)
    return Diagnosis("learning", None, "Still learning", seen.format(than_base(values[-1])), bands)


EARLY = f"A diagnosis appears after the third score, at step {STEPS_AT_LEAST} or later."
DIVERGED = (
    "It does worse than the untouched base, even on the photos that it is trained on. Stop it, and start again with a "
    "lower learning rate."
)
MEMORISING = (
    "Photos that it has never seen have been getting worse since then and are now {}: it memorises the others. "
    "An earlier checkpoint, a lower learning rate or more photos follow prompts better. Let the pictures decide."
)
BY_HEART_WORDS = (
    "More than half of the loss on a photo that it is trained on is gone, so it knows that photo by heart. Hold out a "
    "photo to see when memorising starts to hurt."
)
FLAT = "More steps change little."
UNSEEN = "On photos that it has never seen it is {}."
SEEN = "On a photo that it is trained on it is {}. Hold out a photo to see whether it learns more than its own photos."


def outliers(relative: Mapping[int, float]) -> set[int]:
    """The photos whose training loss is far above the others'; they may not show the subject.

    relative    by photo, from core/training/photo_losses.py
    """
    if len(relative) < PHOTOS_AT_LEAST:
        return set()
    logs = {photo: math.log(value) for photo, value in relative.items() if 0 < value < math.inf}
    middle = statistics.median(logs.values())
    spread = statistics.median(abs(value - middle) for value in logs.values()) / 0.6745
    return {photo for photo, value in logs.items() if value - middle > max(OUTLIER, DEVIATIONS * spread)}


def _risen_since(steps: Sequence[int], values: Sequence[float]) -> int | None:
    """The step of the lowest trend, if the last two scores are clearly above it."""
    step, low = lowest(steps, values)
    margin = max(RISE, DEVIATIONS * deviation(values), GAIN_LOST * (values[0] - low))
    after = [value for at, value in zip(steps, values, strict=True) if at > step]
    return round(step) if len(after) >= 2 and min(after[-2:]) > low + margin else None


def _flat_since(steps: Sequence[int], values: Sequence[float]) -> int | None:
    """The step of the last gain, if that is long ago."""
    at = next(index for index, value in enumerate(values) if value <= min(values) + GAIN)
    return steps[at] if steps[at] <= FLAT_SHARE * steps[-1] and len(values) - at > FLAT_SCORES else None


def _diverged(scores: Sequence[Score], losses: Sequence[float | None]) -> bool:
    if len(losses) >= BAD_STEPS_IN_A_ROW and all(loss is None for loss in losses[-BAD_STEPS_IN_A_ROW:]):
        return True
    if not math.isfinite(scores[-1].relative):
        return True
    finite = [loss for loss in losses[-LOSSES_AVERAGED:] if loss is not None]
    if len(finite) < LOSSES_AVERAGED // 2:
        return False
    times = statistics.fmean(finite) * scores[0].relative / scores[0].loss  # of the base's loss
    return times > FAR_WORSE or (scores[-1].relative > WORSE and times >= 1)


def _band_words(steps: Sequence[int], values: Sequence[float]) -> str:
    """The last score of a band, and whether it still improves."""
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
