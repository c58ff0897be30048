"""Checks the diagnosis of Pocket's runs against densely scored loss curves, and times the scoring.

    python -m bench.readable_loss [--runs overfit healthy diverged] [--every 4] [--side 128] [--seed 0] [--shrink]

Three runs on the example photos: one that memorises three photos, one with a low learning rate, one with an absurd one.
Every few steps the held-out photos are also scored densely and independently: with other noise and many draws for each
photo, at as many quantiles of training's sigma distribution. "memorising since" should name the minimum of that curve.
With a high learning rate single steps scatter by as much as the minimum is deep, so the minimum is that of the curve's
trend: a quartic in log step, fitted from a quarter to four times the lowest step. The printed interval is a bootstrap
over the draws and holds 90% of the resampled minima.

The cost is the share of scoring in the time of scores and steps. For a large model it is estimated from Pocket's times
at batch 1, since scoring and stepping scale alike.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.device import backend

backend.prepare()

import mlx.core as mx
import numpy as np

from core import flow
from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.dataset import buckets, latents, photos
from core.dataset.examples import Example, read_folder
from core.errors import TrainingProblem
from core.hub import catalog
from core.loss import dreambooth_loss
from core.models.base import Family, stacked
from core.models.load import load_family
from core.pocket import assets
from core.training import due, validation
from core.training.events import Scored, Stepped
from core.training.trainer import train

RUNS: dict[str, dict[str, Any]] = {
    "overfit": {"photos": 5, "held_out": "04.jpg, 05.jpg", "learning_rate": 1e-3, "steps": 240},  # it trains on three
    "healthy": {"photos": 8, "learning_rate": 3e-4, "steps": 200},
    "diverged": {"photos": 8, "learning_rate": 0.3, "steps": 60},
}
DRAWS = 64  # of a photo, in each dense score
RESAMPLES = 200
FLOOR = 0.005  # scores this close to the lowest count as equal
SHRUNK_STEPS, SHRUNK_DRAWS = 8, 4
SHORT_STEPS = 30  # of the runs whose times are the cost
LARGE_STEPS = 1000


@dataclass(slots=True)
class Record:
    """The scores and times of one run, and its dense scores."""

    scores: list[Scored] = field(default_factory=list)
    dense: dict[int, np.ndarray] = field(default_factory=dict)  # losses by photo and draw
    step_seconds: list[float] = field(default_factory=list)
    score_seconds: list[float] = field(default_factory=list)


class Dense:
    """Scores the held-out photos with noise and sigmas of its own."""

    def __init__(
        self, family: Family, examples: Sequence[Example], config: TrainConfig, cache: Path, draws: int = DRAWS
    ) -> None:
        self.family, self.config = family, config
        texts = dict(latents.texts_of(family, [each.caption for each in examples], cache))
        self.photos = []
        for number, each in enumerate(examples):
            size = photos.size_of(each.photo)
            bucket = buckets.of_photo(config, *size, each.box, family.pixel_multiple)[0]
            l_T, grid = latents.latents_of(family, each, bucket, cache), family.grid(bucket.height, bucket.width)
            noise = mx.random.normal((draws, *l_T.shape[1:]), key=mx.random.key(9000 + number))
            shift = family.training_shift(grid)
            sigmas = [flow.quantile((draw + 0.5) / draws, config.sigma_draw, shift) for draw in range(draws)]
            self.photos.append((l_T, noise, mx.array(sigmas), stacked([texts[each.caption]] * draws), grid))

    def score(self) -> np.ndarray:
        """The loss of each photo at each draw with the current adapter."""
        found = []
        for l_T, noise, sigmas, conditioning, grid in self.photos:
            clean = mx.broadcast_to(l_T, noise.shape)
            l_t = flow.interpolate(clean, noise, sigmas)
            velocity = self.family.velocity(l_t, sigmas, conditioning, grid, self.config.train_guidance)
            found.append(np.array(dreambooth_loss(velocity, clean, noise)))
        return np.stack(found)


def relative(losses: np.ndarray, base: np.ndarray) -> float:
    """The mean over photos of loss / base's loss."""
    return float((losses.mean(axis=1) / base.mean(axis=1)).mean())


def turning_point(curve: Mapping[int, float]) -> float:
    """The step where the trend of a curve is lowest."""
    raw = min(curve, key=curve.__getitem__)
    logs = {math.log(step): value for step, value in curve.items() if step and raw / 4 <= step <= 4 * raw}
    x = np.array(list(logs)) - math.log(max(raw, 1))
    places = np.linspace(x[0], x[-1], 1000)
    trend = np.polyval(np.polyfit(x, list(logs.values()), min(4, len(x) - 1)), places)
    return max(raw, 1) * math.exp(places[trend.argmin()])


def turning_interval(dense: Mapping[int, np.ndarray]) -> tuple[float, float]:
    """The 5th and 95th percentile of the turning point over resampled draws."""
    random, (_, draws) = np.random.default_rng(0), dense[0].shape
    found = []
    for _ in range(RESAMPLES):
        some = random.integers(0, draws, draws)
        curve = {step: relative(losses[:, some], dense[0][:, some]) for step, losses in dense.items()}
        found.append(turning_point(curve))
    low, high = np.percentile(found, [5, 95])
    return float(low), float(high)


def follow(
    name: str, every: int, changes: dict[str, Any], place: Path, draws: int = DRAWS
) -> tuple[Record, TrainConfig]:
    """One run and its dense scores, whose time is not counted."""
    entry, knobs = catalog.find("pocket"), RUNS[name] | changes
    examples, _ = read_folder(assets.EXAMPLES, assets.EXAMPLE_TRIGGER, assets.EXAMPLE_CLASS_WORD)
    examples = examples[: knobs.pop("photos")]
    config = resolve({"sample_every": 0, "save_every": 10_000, **knobs}, entry.defaults).config
    family, cache, record = load_family(entry.folder), place / "cache", Record()
    chosen = validation.choose(config.held_out, [each.name for each in examples], config.seed)
    dense = Dense(family, [examples[index] for index in chosen], config, cache, draws)
    record.dense[0] = dense.score()
    words = {"trigger": assets.EXAMPLE_TRIGGER, "class_word": assets.EXAMPLE_CLASS_WORD}
    since = time.perf_counter()
    try:
        for progress in train(family, examples, config, place / name, **words, cache=cache):
            took = time.perf_counter() - since
            if isinstance(progress, Stepped):
                record.step_seconds.append(progress.seconds)
                if progress.step % every == 0:
                    record.dense[progress.step] = dense.score()
            elif isinstance(progress, Scored):
                record.scores.append(progress)
                record.score_seconds.append(took)
            since = time.perf_counter()
    except TrainingProblem as problem:
        print(f"  ended: {problem.message}")
    return record, config


def report(name: str, record: Record, config: TrainConfig) -> None:
    verdict = record.scores[-1].diagnosis
    curve = {step: relative(losses, record.dense[0]) for step, losses in record.dense.items()}
    raw, last = min(curve, key=curve.__getitem__), max(curve)
    floor = [step for step, value in curve.items() if value <= curve[raw] + FLOOR]
    print(f"{name}: {config.steps} steps at rate {config.learning_rate:g}, {len(record.scores[-1].held_out)} held out")
    print(f"  words     {verdict.title}. {verdict.words}")
    for words in verdict.bands:
        print(f"            {words}")
    print(f"  scores    {' '.join(f'{each.step}:{each.relative:.3f}' for each in record.scores)}")
    print(f"  dense     {' '.join(f'{step}:{value:.3f}' for step, value in curve.items())}")
    lowest = f"lowest {curve[raw]:.3f} at step {raw}, as good from {floor[0]} to {floor[-1]}"
    print(f"            {lowest}; last {curve[last]:.3f}")
    if verdict.since and verdict.kind == "memorising":
        turn, (low, high) = turning_point(curve), turning_interval(record.dense)
        found = f"{turn:.0f} found ({low:.0f} to {high:.0f})"
        print(f"  step      {verdict.since} named, {found}: {verdict.since / turn - 1:+.0%}")
    scoring, stepping = sum(record.score_seconds), sum(record.step_seconds)
    print(f"  cost      {100 * scoring / (scoring + stepping):.1f}% of the time of steps and scores")


def cost(title: str, steps: int, every: int, place: Path, knobs: dict[str, Any]) -> None:
    """Print the share of scoring in a run of `steps`, from the median times of a short run."""
    entry = catalog.find("pocket")
    examples, _ = read_folder(assets.EXAMPLES, assets.EXAMPLE_TRIGGER, assets.EXAMPLE_CLASS_WORD)
    short = {"steps": SHORT_STEPS, "sample_every": 0, "save_every": 10_000, "score_every": 2, "held_out": "1"}
    config = resolve(short | knobs, entry.defaults).config
    record, since = Record(), time.perf_counter()
    words = {"trigger": assets.EXAMPLE_TRIGGER, "class_word": assets.EXAMPLE_CLASS_WORD}
    for progress in train(load_family(entry.folder), examples, config, place / "cost", **words, cache=place / "cache"):
        if isinstance(progress, Stepped):
            record.step_seconds.append(progress.seconds)
        elif isinstance(progress, Scored):
            record.score_seconds.append(time.perf_counter() - since)
        since = time.perf_counter()
    step, score = (statistics.median(each) for each in (record.step_seconds, record.score_seconds))
    scores = len({*range(0, steps + 1, every), *due.early_scores(every), steps})
    share = scores * score / (scores * score + steps * step)
    print(f"{title}: a step {step:.2f} s, a score {score:.2f} s; {scores} scores in {steps} steps: {100 * share:.1f}%")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="*", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--every", type=int, default=4, help="steps between two dense scores")
    parser.add_argument(
        "--side", type=int, default=128, help="picture size; Pocket's own, 256, takes four times as long"
    )
    parser.add_argument("--seed", type=int, default=0, help="another run of the same kind")
    parser.add_argument("--shrink", action="store_true", help="a few small steps: to try the command, not to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        own = resolve({}, catalog.find("pocket").defaults).config
        small = {"side_px": 64, "steps": SHRUNK_STEPS} if options.shrink else {}
        large = {"batch_size": 1, "score_draws": 1} | small
        cost("cost with Pocket's defaults", own.steps, own.score_every, Path(folder), small)
        cost("cost with a large model's knobs", LARGE_STEPS, TrainConfig().score_every, Path(folder), large)
        changes = small or {"side_px": options.side}
        draws = SHRUNK_DRAWS if options.shrink else DRAWS
        changes |= {"seed": options.seed}
        for name in options.runs:
            report(name, *follow(name, options.every, changes, Path(folder), draws))


if __name__ == "__main__":
    main()
