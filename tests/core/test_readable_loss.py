"""Whole runs of Pocket at 64 px, and what is said of them. bench/readable_loss.py does the same larger and in full."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from core.config.resolve import resolve
from core.dataset.examples import read_folder
from core.hub import catalog
from core.models.base import Family
from core.models.load import load_family
from core.pocket import assets
from core.training import checkpoint
from core.training.diagnosis import FAR_WORSE, WORSE
from core.training.events import Scored
from core.training.trainer import train

pytestmark = pytest.mark.slow

QUICK = {"side_px": 64, "sample_every": 0, "save_every": 10_000, "score_every": 8}
PRIOR = {"class_pictures": 2, "class_prompt": "a photo of a {class_word}", "prior_weight": 4.0, "sample_steps": 2}


@pytest.fixture(scope="module")
def family() -> Family:
    return load_family(catalog.find("pocket").folder)


def scores(family: Family, out: Path, photos: int, **knobs: Any) -> list[Scored]:
    examples, _ = read_folder(assets.EXAMPLES, assets.EXAMPLE_TRIGGER, assets.EXAMPLE_CLASS_WORD)
    config = resolve({**QUICK, **knobs}, catalog.find("pocket").defaults).config
    words = {"trigger": assets.EXAMPLE_TRIGGER, "class_word": assets.EXAMPLE_CLASS_WORD}
    run = train(family, examples[:photos], config, out / "run", **words, cache=out / "cache")
    return [each for each in run if isinstance(each, Scored)]


def test_a_run_that_learns_three_photos_by_heart_is_diagnosed_so_and_since_when(family: Family, tmp_path: Path) -> None:
    said = scores(family, tmp_path, 5, held_out="04.jpg, 05.jpg", learning_rate=5e-3, steps=48)
    verdict = said[-1].diagnosis
    assert verdict.kind == "memorising"
    lowest = min(said, key=lambda each: each.relative)
    assert abs(verdict.since - lowest.step) <= QUICK["score_every"]
    assert 0 < verdict.since < 40
    assert said[-1].relative > lowest.relative + 0.04


def test_a_run_with_a_low_rate_is_not_diagnosed_so(family: Family, tmp_path: Path) -> None:
    said = scores(family, tmp_path, 8, learning_rate=2e-4, steps=32)
    assert {each.diagnosis.kind for each in said} <= {"early", "learning", "flat"}
    assert said[-1].relative < 1.0


def test_heavy_class_pictures_do_not_make_a_healthy_run_a_diverged_one(family: Family, tmp_path: Path) -> None:
    said = scores(family, tmp_path, 8, learning_rate=2e-4, steps=24, batch_size=1, **PRIOR)
    assert {each.diagnosis.kind for each in said} <= {"early", "learning", "flat"}
    state = checkpoint.newest(tmp_path / "run")[0]
    base = said[0].loss
    assert statistics.fmean(state.losses) > FAR_WORSE * base  # the class pictures' term is in it, four times
    assert statistics.fmean(state.subject_losses) < WORSE * base


@pytest.mark.parametrize("more", [{}, PRIOR])
def test_a_run_with_an_absurd_rate_is_diagnosed_as_diverged(
    family: Family, tmp_path: Path, more: dict[str, Any]
) -> None:
    said = scores(family, tmp_path, 4, held_out="none", learning_rate=0.3, steps=20, batch_size=1, **more)
    assert said[-1].diagnosis.kind == "diverged"
