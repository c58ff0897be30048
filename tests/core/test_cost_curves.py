"""The bench of cost curves measures, fits and draws; small sizes, since what it finds there is not the point."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import cost_curves
from bench.cost_curves import MIB, MODES, Cost, Setting


@pytest.mark.slow
def test_memory_without_kept_activations_grows_no_faster_than_tokens() -> None:
    few, many = (cost_curves.in_a_process(Setting(tokens=tokens, blocks=3), 1) for tokens in (256, 768))
    assert few.bytes < many.bytes <= 3.1 * few.bytes
    kept = cost_curves.in_a_process(Setting(tokens=768, blocks=3, mode="all"), 1)
    assert kept.bytes > many.bytes
    assert kept.seconds > 0


def test_every_setting_is_measured_once() -> None:
    found = cost_curves.settings({"tokens": (128, 256), "batch": (1, 2)})
    assert len(found) == len(set(found)) == len(MODES) * 3  # 256 tokens at batch 1 are in both
    assert {(each.rank, each.blocks) for each in found} == {(16, 6)}


def test_a_line_is_fitted_and_doublings_are_found() -> None:
    slope, intercept, fit = cost_curves.line_of({1: 5.0, 2: 7.0, 4: 11.0})
    assert (slope, intercept, fit) == pytest.approx((2, 3, 1))
    assert cost_curves.doublings({1: 5.0, 2: 7.0, 3: 9.0, 4: 11.0}) == pytest.approx([7 / 5, 11 / 7])
    assert cost_curves.line_of({1: 1.0, 2: 4.0, 4: 16.0, 8: 64.0})[2] < 0.98  # a square is seen not to be one


def test_the_picture_shows_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cost(each: Setting, steps: int) -> Cost:
        return Cost(each.tokens / 1000, (2 if each.mode == "all" else 1) * each.blocks * each.tokens * MIB)

    monkeypatch.setattr(cost_curves, "in_a_process", cost)
    target = tmp_path / "curves.svg"
    cost_curves.run({"tokens": (128, 256, 512), "blocks": (3, 6)}, 1, target)
    drawn = ET.fromstring(target.read_text(encoding="utf-8"))
    lines = [each.get("points") for each in drawn.iter() if each.tag.endswith("polyline")]
    assert len(lines) == 2 * 2 * len(MODES)
    time_by_tokens = [tuple(map(float, each.split(","))) for each in lines[0].split()]
    (x_1, y_1), (x_2, y_2), (x_4, y_4) = time_by_tokens
    assert (x_4 - x_2) == pytest.approx(2 * (x_2 - x_1), abs=0.2)
    assert (y_2 - y_4) == pytest.approx(2 * (y_1 - y_2), abs=0.2)  # y runs down
    said = {each.text for each in drawn.iter() if each.tag.endswith("text")}
    assert {"image tokens", "blocks", "s a step", "MB at most", "512"} <= said
