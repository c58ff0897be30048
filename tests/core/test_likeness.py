"""What drawn pictures say, by formula, on numbers made by hand."""

from __future__ import annotations

import json
import math
import statistics

import pytest

from core.training import likeness
from core.training.gauges import gauges_of
from core.training.likeness import Drawn

BASE = Drawn(0, (0.2, 0.3, 0.4), (0.2, 0.3, 0.1), (0.5, 0.6, 0.4), (0.8, 0.7, 0.3), held_out=True)
LATER = Drawn(60, (0.5, 0.7, 0.6), (0.3, 0.3, 0.3), (0.3, 0.2, 0.1), (0.8, 0.7, 0.3), held_out=True)


def test_likeness_leak_and_variety_are_means_over_pictures_with_their_standard_errors() -> None:
    found = likeness.figures(LATER, BASE)
    assert found.likeness.value == pytest.approx(0.6)
    assert found.likeness.bar == pytest.approx(0.1 / math.sqrt(3))
    assert (found.likeness.base, found.likeness.photos) == (pytest.approx(0.3), 0.8)
    moved = [0.1, 0.0, 0.2]
    assert found.leak is not None
    assert found.leak.value == pytest.approx(0.1 / (0.7 - 0.2))
    assert found.leak.bar == pytest.approx(statistics.stdev(moved) / math.sqrt(3) / 0.5)
    ratio = 0.2 / 0.5
    rest = [0.3 - ratio * 0.5, 0.2 - ratio * 0.6, 0.1 - ratio * 0.4]
    assert found.variety is not None
    assert found.variety.value == pytest.approx(ratio)
    assert found.variety.bar == pytest.approx(statistics.stdev(rest) / math.sqrt(3) / 0.5)
    assert found.variety.photos == pytest.approx(0.3 / 0.5)
    assert found.gained == pytest.approx(0.3 / 0.5)
    assert found.worth == pytest.approx(0.6 - (0.6 - 0.4) - 0.25 * 0.2)


def test_the_base_is_worth_nothing_and_leaks_nothing() -> None:
    found = likeness.figures(BASE, BASE)
    assert found.leak is not None
    assert found.variety is not None
    assert (found.worth, found.leak.value, found.variety.value) == (0, 0, 1)


def test_a_difference_of_two_steps_has_the_bar_of_its_pictures_differences() -> None:
    shifted = Drawn(90, tuple(each + 0.1 for each in LATER.likeness), LATER.bare, LATER.distance, LATER.photos, True)
    assert likeness.worth_bar(shifted, LATER, BASE) == pytest.approx(0), "every picture has gained as much"
    parts = [
        statistics.stdev([0.3, 0.4, 0.2]) / 0.5,
        0.25 * statistics.stdev([0.1, 0.0, 0.2]) / 0.5,
        statistics.stdev([-0.2, -0.4, -0.3]) / 0.5,
    ]
    assert likeness.worth_bar(LATER, BASE, BASE) == pytest.approx(math.hypot(*parts) / math.sqrt(3))


def test_of_a_single_picture_no_bar_is_known() -> None:
    one, other = (Drawn(step, (0.1 + step,), (0.2,), (), (0.8, 0.7, 0.0), held_out=False) for step in (0, 1))
    found = likeness.figures(other, one)
    assert (found.likeness.bar, found.variety) == (None, None)
    assert likeness.worth_bar(one, other, one) == math.inf
    assert [each.words for each in gauges_of(None, None, "", found)] == ["1.10", "0% leak"]


def test_between_two_drawings_each_picture_lies_on_the_line_and_outside_there_is_nothing() -> None:
    middle = likeness.at_step([BASE, LATER], 30)
    assert middle is not None
    assert middle.likeness == pytest.approx((0.35, 0.5, 0.5))
    assert likeness.at_step([BASE, LATER], 60) is LATER
    assert likeness.at_step([BASE, LATER], 61) is None


def test_pictures_of_other_prompts_than_the_newest_are_not_compared() -> None:
    other = Drawn(30, (0.1,), (0.1,), (), (0.8, 0.7, 0.3), held_out=True)
    assert likeness.comparable([BASE, other, LATER]) == [BASE, LATER]


def test_it_is_the_same_after_json() -> None:
    assert Drawn.from_json(json.loads(json.dumps(LATER.to_json()))) == LATER


def test_gauges_warn_of_a_leak_and_of_pictures_more_alike_than_the_photos() -> None:
    found = {
        each.name: each for each in gauges_of(0.86, 0.03, "the photo it has never seen", likeness.figures(LATER, BASE))
    }
    assert list(found) == ["held_out", "likeness", "leak", "variety"]
    assert {name for name, each in found.items() if each.warns} == {"leak", "variety"}
    assert found["held_out"].words == "14% better, ±3"
    assert found["leak"].words == "20% leak, ±12"
    assert all(0 <= each.low <= each.at <= each.high <= 100 for each in found.values())
    assert found["likeness"].base == pytest.approx(100 * 0.25 / 1.5, abs=0.1)
    assert found["likeness"].at == pytest.approx(100 * (0.6 + 0.25) / 1.5, abs=0.1)
