"""Held-out photos: chosen by a function, never trained on, and scored without disturbing the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from core import flow
from core.dataset import split
from core.dataset.batches import Batches
from core.errors import ConfigProblem
from core.models.base import Family
from core.models.load import load_family
from core.training import checkpoint, validation
from core.training.events import Finished, Note, Request, Scored, Stepped
from core.training.photo_losses import PhotoLosses
from tests.core.subjects import of_kind, photo_folder, rewrite_state, training

pytestmark = pytest.mark.slow

NAMES = ["a.jpg", "b.jpg", "c, d.jpg", "7"]


def test_one_photo_is_held_out_from_eight_on() -> None:
    photos = {count: split.held_out("auto", [str(n) for n in range(count)]) for count in (1, 7, 8, 15, 16, 40)}
    assert photos == {1: 0, 7: 0, 8: 1, 15: 1, 16: 1, 40: 1}


def test_held_out_photos_are_chosen_by_number_or_by_name() -> None:
    assert split.held_out("none", NAMES) == 0
    assert split.held_out(" 3 ", NAMES) == 3
    assert split.held_out("b.jpg, a.jpg", NAMES) == (0, 1)
    assert split.held_out("c, d.jpg", NAMES) == (2,)
    assert split.held_out("7", NAMES) == (3,)  # a photo's name comes before a number
    with pytest.raises(ConfigProblem, match=r"names 'x\.jpg'; it can be auto, none, a number, or photos by name"):
        split.held_out("a.jpg, x.jpg", NAMES)
    with pytest.raises(ConfigProblem, match="names no photo"):
        split.held_out(",", NAMES)
    for too_many in ("4", "a.jpg,b.jpg,7,5"):
        with pytest.raises(ConfigProblem):
            split.held_out(too_many, NAMES)
    with pytest.raises(ConfigProblem, match="is '1', and there is 1 photo; leave one to train on"):
        split.held_out("1", ["only.jpg"])


def test_the_choice_is_a_function_of_the_seed() -> None:
    names = [str(number) + ".jpg" for number in range(20)]
    chosen = {validation.choose("2", names, seed) for seed in range(20)}
    assert len(chosen) > 10
    assert all(len(each) == 2 and each[0] < each[1] for each in chosen)
    assert validation.choose("2", names, 3) == validation.choose("2", names, 3)


def test_a_held_out_photo_is_never_trained_on(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    batch = Batches.batch

    def watched(self: Batches, step: int, micro: int) -> object:
        found = batch(self, step, micro)
        seen.update(found.photos)
        return found

    monkeypatch.setattr(Batches, "batch", watched)
    run = list(training(family, photos, tmp_path / "run", steps=6, held_out="1.png", more_sides_px=(96,)))
    assert seen == {0, 2}
    assert "Held out, to score the run on and not to learn: 1.png." in [n.text for n in run if isinstance(n, Note)]
    assert [set(each.held_out) for each in run if isinstance(each, Scored)] == [{1}, {1}]


def test_the_score_is_the_loss_at_fixed_noise_relative_to_the_base(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    run = training(
        family, photos, tmp_path / "run", held_out="2", score_every=2, learning_rate=0.1, sigma_draw="uniform"
    )
    scores = of_kind(run, Scored)
    assert [each.step for each in scores] == [0, 1, 2, 3, 4]  # and twice between, at first
    assert scores[0].bands == (1.0, 1.0, 1.0, 1.0)
    assert all(band != 1.0 for band in scores[-1].bands)
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "4")
    assert state.base_losses == state.scores[0][1]
    (_, losses), base = state.scores[-1], state.base_losses
    by_hand = [sum(losses[k][band] / base[k][band] for k in (0, 1)) / 2 for band in range(4)]
    assert scores[-1].bands == pytest.approx(by_hand)
    means = [[sum(row) / 4 for row in rows] for rows in (losses, base)]
    assert scores[-1].loss == pytest.approx(sum(means[0]) / 2)
    assert scores[-1].relative == pytest.approx(sum(a / b for a, b in zip(*means, strict=True)) / 2)
    assert sum(scores[-1].held_out.values()) / 2 == pytest.approx(scores[-1].relative)


def test_a_score_of_many_draws_is_the_mean_at_as_many_sigmas_of_each_band(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpolate, dreambooth_loss = flow.interpolate, validation.dreambooth_loss
    seen: list[float] = []  # the sigma and the loss of each score in turn

    def watched_path(clean: mx.array, noise: mx.array, sigma: mx.array) -> mx.array:
        seen.append(sigma[0].item())
        return interpolate(clean, noise, sigma)

    def watched_loss(*given: mx.array) -> mx.array:
        loss = dreambooth_loss(*given)
        seen.append(loss.item())
        return loss

    monkeypatch.setattr(flow, "interpolate", watched_path)
    monkeypatch.setattr(validation, "dreambooth_loss", watched_loss)
    knobs = {"held_out": "1", "steps": 1, "sigma_draw": "uniform"}
    rows = {}
    for draws in (1, 3):
        seen.clear()
        list(training(family, photos, tmp_path / str(draws), score_draws=draws, **knobs))
        (row,) = checkpoint.load(tmp_path / str(draws) / "checkpoints" / "1").base_losses
        sigmas, losses = seen[: 8 * draws : 2], seen[1 : 8 * draws : 2]  # those of the base come before any step
        assert row == pytest.approx([sum(losses[at : at + draws]) / draws for at in range(0, 4 * draws, draws)])
        rows[draws] = sigmas
    assert rows[3] == sorted(rows[3])  # the bands' parts, from little noise to much
    assert rows[3][1::3] == pytest.approx(rows[1])  # the middle one of three is the one of one


def test_the_base_is_scored_with_the_adapter_silent(family: Family, photos: Path, tmp_path: Path) -> None:
    first = list(training(family, photos, tmp_path / "one", learning_rate=0.1))[-1]
    run = training(family, photos, tmp_path / "two", held_out="1", start_from=first.adapter)
    begun = next(each for each in run if isinstance(each, Scored))
    run.close()
    fresh = next(
        each for each in training(family, photos, tmp_path / "three", held_out="1") if isinstance(each, Scored)
    )
    assert begun.step == 0
    assert all(band != 1.0 for band in begun.bands)  # the score of the given adapter, against the base without it
    assert begun.loss / fresh.loss == pytest.approx(sum(begun.bands) / 4, rel=0.5)


def test_scoring_changes_nothing_that_is_trained(family: Family, photos: Path, tmp_path: Path) -> None:
    often, never = tmp_path / "often", tmp_path / "never"
    list(training(family, photos, often, held_out="1", score_every=1))
    list(training(family, photos, never, held_out="1", score_every=100))
    one, other = (checkpoint.load(run / "checkpoints" / "4") for run in (often, never))
    assert all(mx.array_equal(one.parameters[name], other.parameters[name]) for name in one.parameters)
    assert one.losses == other.losses
    assert [step for step, _ in one.scores] == [0, 1, 2, 3, 4]


def test_a_resumed_run_goes_on_with_its_scores(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    knobs = {"held_out": "1", "score_every": 2, "steps": 6, "batch_size": 2}
    whole = list(training(load_family(model_folder), photos, tmp_path / "whole", **knobs))
    run = training(load_family(model_folder), photos, tmp_path / "parts", **knobs)
    progress = next(run)
    while not isinstance(progress, Finished):
        progress = run.send(Request.STOP if isinstance(progress, Stepped) and progress.step == 3 else None)
    later = list(training(load_family(model_folder), photos, tmp_path / "parts", resume=True, **knobs))
    assert [each.step for each in later if isinstance(each, Scored)] == [4, 6]  # the base is not scored again
    one, other = (checkpoint.load(tmp_path / name / "checkpoints" / "6") for name in ("whole", "parts"))
    assert (one.base_losses, one.scores, one.photo_losses) == (other.base_losses, other.scores, other.photo_losses)
    assert later[-1].held_out_loss == whole[-1].held_out_loss


def test_a_checkpoint_of_before_held_out_photos_goes_on_with_all_of_them(family: Family, tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "many", count=8)
    list(training(family, photos, tmp_path / "run", held_out="none", shapes="square"))

    def without_what_came_later(table: dict[str, Any]) -> None:
        for newer in ("held_out", "score_every", "shapes"):
            del table["config"][newer]
        for newer in ("base_losses", "scores", "photo_losses", "subject_losses"):
            del table[newer]

    for step in ("2", "4"):
        rewrite_state(tmp_path / "run" / "checkpoints" / step, without_what_came_later)
    more = {"steps": 6, "held_out": "none", "shapes": "square"}
    said = list(training(family, photos, tmp_path / "run", resume=True, **more))
    assert said[-1].step == 6
    with pytest.raises(ConfigProblem, match="held_out: was none and is now auto"):
        list(training(family, photos, tmp_path / "run", resume=True, steps=8, shapes="square"))


def test_without_held_out_photos_one_that_is_trained_on_is_scored(family: Family, photos: Path, tmp_path: Path) -> None:
    run = list(training(family, photos, tmp_path / "run", steps=30, learning_rate=0.02, batch_size=2))
    scores = [each for each in run if isinstance(each, Scored)]
    assert [(each.step, each.held_out) for each in scores] == [(0, {}), (25, {}), (30, {})]  # of 200, an eighth
    assert scores[-1].relative < scores[0].relative == 1.0
    assert set(scores[-1].learned) == {0, 1, 2}
    assert run[-1].held_out_loss is None


def test_a_loss_that_is_no_number_is_infinitely_worse(family: Family, photos: Path, tmp_path: Path) -> None:
    exact = family.project
    run = training(family, photos, tmp_path / "run", held_out="1", score_every=2)
    scores = []
    for progress in run:
        if isinstance(progress, Scored):
            scores.append(progress)
        if isinstance(progress, Stepped) and progress.step == 4:  # it is scored next; a checkpoint may be said before
            family.project = lambda *given: exact(*given) * mx.nan
    assert scores[-1].bands == (float("inf"),) * 4
    assert run_state_is_json(tmp_path / "run")


def run_state_is_json(run: Path) -> bool:
    text = (run / "checkpoints" / "4" / "state.json").read_text(encoding="utf-8")
    return "NaN" not in text and "Infinity" not in text


def test_the_photo_that_costs_more_than_the_others_is_found() -> None:
    losses = PhotoLosses()
    for draw in range(400):
        photo, sigma = draw % 4, (draw * 7 % 40) / 40
        level = 0.1 + 2 * sigma  # how much noise there is says far more about a loss than which photo it is
        fall = 0.5 ** (draw / 400)
        losses.add([photo], [sigma], [level * fall * (1.5 if photo == 2 else 1.0)])
    found = losses.relative()
    assert found[2] == pytest.approx(1.5, rel=0.05)
    assert all(found[photo] == pytest.approx(1.5 ** (-1 / 3), rel=0.05) for photo in (0, 1, 3))
    assert PhotoLosses.from_json(json.loads(json.dumps(losses.as_json()))) == losses


def test_losses_that_are_no_numbers_and_photos_of_few_draws_say_nothing() -> None:
    losses = PhotoLosses()
    losses.add([0, 1], [0.5, 0.5], [float("nan"), float("inf")])
    assert losses.cells == {}
    for _ in range(5):
        losses.add([0, 1], [1.0, 0.99], [2.0, 1.0])
    losses.add([2], [0.95], [9.0])
    assert set(losses.relative()) == {0, 1}
    assert PhotoLosses().relative() == {}


def test_per_photo_losses_average_to_the_loss_of_the_step(family: Family, photos: Path, tmp_path: Path) -> None:
    steps = of_kind(training(family, photos, tmp_path / "run", steps=1, batch_size=1, accumulate=1), Stepped)
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "1")
    ((_, row),) = state.photo_losses.cells.items()
    assert sum(count for count, _ in row) == 1
    total = sum(part for _, part in row)
    assert mx.exp(mx.array(total)).item() == pytest.approx(steps[0].loss, rel=1e-5)
