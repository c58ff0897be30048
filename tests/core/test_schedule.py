"""The learning rate of a run that is resumed with another number of steps: it continues, and never jumps up."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from core.models.load import load_family
from core.training import checkpoint
from core.training.events import Finished, Note, Request, Stepped
from core.training.schedule import Part, learning_rate
from tests.core.subjects import rewrite_state, settings, training
from tests.core.test_resume import assert_same


def rates(parts: list[Part], steps: int, **knobs: Any) -> list[float]:
    """Of every step, each with the number of steps and the parts before that it was taken with."""
    found: list[float] = []
    for number, (last, of) in enumerate([*parts, (steps, steps)]):
        config = settings(**{"steps": of, "learning_rate": 1e-4, **knobs})
        found += [learning_rate(step, config, parts[:number]) for step in range(len(found) + 1, last + 1)]
    return found


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("parts", [[(60, 60)], [(30, 60)], [(60, 120)], [(30, 60), (30, 90), (70, 120), (100, 100)]])
def test_after_another_number_of_steps_the_rate_continues_and_falls_to_a_tenth(
    schedule: str, parts: list[Part]
) -> None:
    found = rates(parts, 120, schedule=schedule, warmup_steps=5)
    falling = found[4:]
    assert all(after <= before + 1e-18 for before, after in pairwise(falling))
    assert max(before - after for before, after in pairwise(falling)) < 4e-6  # and nowhere is a jump down
    assert found[-1] == pytest.approx(1e-5)


def test_a_run_that_had_fallen_to_a_tenth_stays_there() -> None:
    assert rates([(60, 60)], 120)[59:] == pytest.approx([1e-5] * 61)


def test_a_change_during_the_warm_up_leaves_a_schedule_over_all_steps() -> None:
    assert rates([(5, 60)], 120, warmup_steps=10) == rates([], 120, warmup_steps=10)


def test_a_constant_rate_stays_constant() -> None:
    assert rates([(60, 60)], 90, schedule="constant") == [1e-4] * 90


def test_restarts_keep_the_length_of_their_cycles() -> None:
    found = rates([(61, 61)], 121, schedule="cosine_restarts", cycles=2)
    assert found[:61] == rates([], 61, schedule="cosine_restarts", cycles=2)
    assert found[60] == pytest.approx(1e-5)
    assert found[61:90] == pytest.approx(found[1:30])


@pytest.mark.slow
def test_a_run_goes_on_with_more_steps_at_its_rate_and_again_exactly(
    model_folder: Path, photos: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        list(training(load_family(model_folder), photos, folder, steps=3))
        rewrite_state(folder / "checkpoints" / "3", lambda table: table.pop("parts"))  # as earlier versions wrote it
    events = list(training(load_family(model_folder), photos, whole, steps=6, resume=True))
    assert [each.learning_rate for each in events if isinstance(each, Stepped)] == pytest.approx([1e-3] * 3)
    notes = [each.text for each in events if isinstance(each, Note)]
    assert any("6 steps instead of 3: the learning rate continues at 0.001." in text for text in notes)
    assert checkpoint.load(whole / "checkpoints" / "6").parts == [(3, 3)]

    run = training(load_family(model_folder), photos, parts, steps=6, resume=True)
    progress = next(run)
    while not isinstance(progress, Finished):
        progress = run.send(Request.STOP if isinstance(progress, Stepped) and progress.step == 5 else None)
    list(training(load_family(model_folder), photos, parts, steps=6, resume=True))
    assert_same(whole, parts, 6)
