"""Where a curve of scores turns."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from core.training.due import early_scores
from core.training.trend import TERMS, deviation, lowest, trend


@pytest.mark.parametrize("turn", range(9, 34, 4))
def test_the_lowest_point_is_found_among_early_scores_within_a_sixth(turn: int) -> None:
    steps = sorted([0, *early_scores(40), 40, 80, 120])
    step, _ = lowest(steps, [0.3 + (x - turn) ** 2 / 1000 for x in steps])
    assert step == pytest.approx(turn, rel=1 / 6)


def test_a_single_lucky_score_is_not_where_a_curve_turns() -> None:
    values = [1 - 0.02 * n if n < 8 else 0.84 + 0.02 * (n - 8) for n in range(20)]
    values[2] = 0.835
    assert lowest(range(0, 200, 10), values)[0] == pytest.approx(80, abs=5)
    assert lowest([0, 10], [1.0, 0.9]) == (10, 0.9)
    assert lowest([0, 10, 20], [1.0, 0.9, math.inf]) == (0, 1.0)


def test_the_deviation_is_that_of_the_noise_and_not_the_trend() -> None:
    draw = random.Random(1)
    noisy = [1 - 0.001 * step + draw.gauss(0, 0.02) for step in range(400)]
    assert deviation(noisy) == pytest.approx(0.02, rel=0.15)
    assert deviation([1 - 0.001 * step for step in range(20)]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("count", range(1, len(TERMS) + 1))
def test_the_trend_is_the_nearest_sum_of_terms(count: int) -> None:
    draw = random.Random(count)
    s = np.array([5, 7, 10, 14, 20, 28, 40, 57]) / 20
    y, places = np.array([draw.gauss(0.9, 0.02) for _ in s]), np.array([0.3, 1.0, 2.2])
    columns, at = (np.stack([[term(each) for each in x] for term in TERMS[:count]], axis=1) for x in (s, places))
    nearest = at @ np.linalg.lstsq(columns, y)[0]
    assert trend(s.tolist(), y.tolist(), places.tolist(), count) == pytest.approx(nearest, rel=1e-9)


def test_scores_that_are_off_at_random_move_the_lowest_point_little() -> None:
    """Off by a fifth of the depth, as one photo with one draw is; the lowest of the scores is off by twice as much."""
    draw, steps = random.Random(0), sorted([0, *early_scores(40), 40, 80, 120, 160, 200])
    found, naive = [], []
    for _ in range(200):
        values = [1 - 0.1 * math.exp(-(math.log(max(step, 1) / 35) ** 2)) + draw.gauss(0, 0.01) for step in steps]
        found.append(math.log(lowest(steps, values)[0] / 35))
        naive.append(math.log(max(steps[values.index(min(values))], 1) / 35))
    assert np.sqrt(np.mean(np.square(found))) < 0.15 < np.sqrt(np.mean(np.square(naive)))
