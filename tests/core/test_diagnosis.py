"""From scores to words: what is said of curves whose meaning is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from core.training.diagnosis import BANDS, Diagnosis, Score, diagnose


def scores(curve: Callable[[int], float], until: int = 1000, every: int = 100, jitter: float = 0.0, seed: int = 0):
    draw = random.Random(seed)
    found = []
    for step in range(0, until + 1, every):
        value = curve(step) + (draw.gauss(0, jitter) if step else 0.0)
        found.append(Score(step, value, (value,) * 4, 0.5 * value))
    return found


def said(curve: Callable[[int], float], losses: float | None = 0.4, held_out: bool = True, **how: float) -> Diagnosis:
    return diagnose(scores(curve, **how), [losses] * 20, held_out)


def falling(step: int) -> float:
    return 1 - 0.3 * step / 1000


def settling(step: int) -> float:
    return 0.8 + 0.2 * math.exp(-step / 60)


def turning(turn: float) -> Callable[[int], float]:
    """Falls to 0.8 at `turn`, and rises as it fell."""
    return lambda step: 0.8 + 0.2 * (step / turn - 1) ** 2


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("jitter", [0.0, 0.01])
def test_each_kind_of_curve_is_called_by_its_name(seed: int, jitter: float) -> None:
    assert said(falling, jitter=jitter, seed=seed).kind == "learning"
    assert said(settling, jitter=jitter / 8, seed=seed).kind == "flat"
    assert said(turning(400), jitter=jitter, seed=seed).kind == "memorising"


@pytest.mark.parametrize("turn", range(250, 580, 30))
def test_the_step_named_is_that_of_the_lowest_score_between_scores_too(turn: int) -> None:
    diagnosis = said(turning(turn))
    assert diagnosis.kind == "memorising"
    assert diagnosis.since == pytest.approx(turn, abs=1)
    assert diagnosis.title == f"Memorising since step {diagnosis.since}"


@pytest.mark.parametrize("seed", range(40))
def test_a_run_that_gets_no_worse_is_never_called_memorising(seed: int) -> None:
    draw = random.Random(seed)
    depth, pace, jitter = draw.uniform(0, 0.5), draw.uniform(20, 2000), draw.uniform(0, 0.04)
    diagnosis = said(lambda step: 1 - depth * (1 - math.exp(-step / pace)), jitter=jitter, seed=seed, until=3000)
    assert diagnosis.kind in ("learning", "flat")


def test_nothing_is_said_of_too_few_scores_and_one_bad_score_is_not_a_trend() -> None:
    assert [said(turning(50), until=until).kind for until in (0, 100, 200)] == ["early"] * 3
    assert diagnose([], [], True).kind == "early"
    last_is_bad = [*scores(falling)[:-1], Score(1000, 1.0, (1.0,) * 4, 0.5)]
    assert diagnose(last_is_bad, [0.4] * 20, True).kind == "learning"


def test_a_run_that_was_never_better_than_the_base_memorises_from_the_first_steps_on() -> None:
    diagnosis = said(lambda step: 1 + step / 2000)
    assert (diagnosis.kind, diagnosis.since, diagnosis.title) == ("memorising", 0, "Memorising from the first steps on")


def test_a_run_diverges_when_its_own_photos_get_worse_too() -> None:
    def worse(step: int) -> float:
        return 1 + step / 500

    assert said(worse, losses=0.1).kind == "memorising"  # its own photos got better
    assert said(worse, losses=0.6).kind == "diverged"  # the base's loss is 0.5
    assert said(falling, losses=1.6).kind == "diverged"  # between two scores the training loss knows first
    assert said(lambda step: math.inf if step else 1.0).kind == "diverged"
    assert diagnose(scores(falling, until=0), [0.5] * 17 + [None] * 3, True).kind == "diverged"
    assert diagnose(scores(falling), [0.5] * 18 + [None] * 2, True).kind == "learning"


def test_a_photo_that_is_trained_on_shows_no_memorising_until_it_is_known_by_heart() -> None:
    assert said(falling, held_out=False).kind == "learning"
    assert "Hold out a photo" in said(falling, held_out=False).words
    assert said(turning(400), held_out=False).kind != "memorising"
    by_heart = said(lambda step: 1 - 0.6 * step / 1000, held_out=False)
    assert (by_heart.kind, by_heart.since) == ("memorising", 900)


def test_bands_are_told_from_much_noise_to_little_in_percent_of_the_base() -> None:
    curves = (settling, turning(400), lambda step: 1.0, falling)
    found = [Score(step, 1.0, tuple(curve(step) for curve in curves), 0.5) for step in range(0, 1001, 100)]
    assert diagnose(found, [0.4] * 20, True).bands == (
        "High noise: 30% better than the base",
        "Medium-high noise: as good as the base, no gain since step 0",
        "Medium-low noise: 25% worse than the base, getting worse since step 400",
        "Low noise: 20% better than the base, no gain since step 300",
    )
    assert len(BANDS) == 4
    assert (
        said(lambda step: 1 + step / 400).bands[0]
        == "High noise: 3.5 times as bad as the base, getting worse since step 0"
    )
