"""Do the words beside the loss chart tell the truth, and what do the scores behind them cost?  With Pocket.

    python -m bench.readable_loss [--runs overfit healthy diverged] [--every 4] [--side 128]

Three runs on the example photos: one made to learn three photos by heart, one with a low rate, one with an absurd rate.
Every few steps the held-out photos are also scored densely, and independently: other noise, sigmas drawn as training
draws them, many for each photo. Where that curve is lowest is what "memorising since" has to name.

The cost is what the scores take of the time of scores and steps. That of a large model is worked out from Pocket's
times at batch 1: an evaluation of the network and a step grow alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import backend

backend.prepare()

import mlx.core as mx  # noqa: E402

from core import catalog, flow, pocket  # noqa: E402
from core.config import TrainConfig  # noqa: E402
from core.dataset import buckets, latents, photos  # noqa: E402
from core.dataset.examples import Example, read_folder  # noqa: E402
from core.errors import TrainingProblem  # noqa: E402
from core.loss import per_example_loss  # noqa: E402
from core.models.base import Family, stacked  # noqa: E402
from core.models.load import load_family  # noqa: E402
from core.resolved import resolve  # noqa: E402
from core.training import held_out  # noqa: E402
from core.training.progress import Scored, Stepped  # noqa: E402
from core.training.trainer import train  # noqa: E402
from core.training.verdict import evened  # noqa: E402

RUNS: dict[str, dict[str, Any]] = {
    "overfit": {"photos": 5, "held_out": "04.jpg, 05.jpg", "learning_rate": 1e-3, "steps": 240},  # it trains on three
    "healthy": {"photos": 8, "learning_rate": 3e-4, "steps": 200},
    "diverged": {"photos": 8, "learning_rate": 0.3, "steps": 60},
}
DRAWS = 24  # of a photo, in each dense score
LARGE_STEPS = 1000


@dataclass(slots=True)
class Told:
    """What a run said, and what the dense scores say."""

    scores: list[Scored] = field(default_factory=list)
    dense: dict[int, float] = field(default_factory=dict)
    step_seconds: list[float] = field(default_factory=list)
    score_seconds: list[float] = field(default_factory=list)


class Dense:
    """The held-out photos with noise and sigmas of their own."""

    def __init__(self, family: Family, examples: Sequence[Example], config: TrainConfig, cache: Path) -> None:
        self.family, self.config = family, config
        texts = dict(latents.texts_of(family, [each.caption for each in examples], cache))
        self.photos = []
        for number, each in enumerate(examples):
            size = photos.size_of(each.photo)
            bucket = buckets.of_photo(config, *size, each.box, family.pixel_multiple)[0]
            l_T, grid = latents.latents_of(family, each, bucket, cache), family.grid(bucket.height, bucket.width)
            noise = mx.random.normal((DRAWS, *l_T.shape[1:]), key=mx.random.key(9000 + number))
            sigmas = flow.draw_sigmas(
                mx.random.key(9500 + number), (DRAWS,), config.sigma_draw, family.training_shift(grid)
            )
            self.photos.append((l_T, noise, sigmas, stacked([texts[each.caption]] * DRAWS), grid))

    def score(self) -> list[float]:
        """The mean loss of each photo, with the adapter as it is."""
        found = []
        for l_T, noise, sigmas, conditioning, grid in self.photos:

            def predict(l_t: mx.array, sigma: mx.array, text: Any = conditioning, where: Any = grid) -> mx.array:
                return self.family.velocity(l_t, sigma, text, where, self.config.train_guidance)

            clean = mx.broadcast_to(l_T, noise.shape)
            found.append(float(per_example_loss(predict, clean, noise, sigmas).mean().item()))
        return found


def follow(name: str, every: int, side_px: int, place: Path) -> tuple[Told, TrainConfig]:
    """One run and its dense scores; those are taken out of the times."""
    entry, knobs = catalog.find("pocket"), dict(RUNS[name])
    examples, _ = read_folder(pocket.EXAMPLES, pocket.EXAMPLE_TRIGGER, pocket.EXAMPLE_CLASS_WORD)
    examples = examples[: knobs.pop("photos")]
    config = resolve({"sample_every": 0, "save_every": 10_000, "side_px": side_px, **knobs}, entry.defaults).config
    family, cache, told = load_family(entry.folder), place / "cache", Told()
    chosen = held_out.choose(config.held_out, [each.name for each in examples], config.seed)
    dense = Dense(family, [examples[index] for index in chosen], config, cache)
    base = dense.score()

    def dense_score() -> float:
        return sum(loss / than for loss, than in zip(dense.score(), base, strict=True)) / len(base)

    words = {"trigger": pocket.EXAMPLE_TRIGGER, "class_word": pocket.EXAMPLE_CLASS_WORD}
    since = time.perf_counter()
    try:
        for progress in train(family, examples, config, place / name, **words, cache=cache):
            took = time.perf_counter() - since
            if isinstance(progress, Stepped):
                told.step_seconds.append(progress.seconds)
                if progress.step % every == 0:
                    told.dense[progress.step] = dense_score()
            elif isinstance(progress, Scored):
                told.scores.append(progress)
                told.score_seconds.append(took)
            since = time.perf_counter()
    except TrainingProblem as problem:
        print(f"  ended: {problem.message}")
    return told, config


def report(name: str, told: Told, config: TrainConfig) -> None:
    verdict = told.scores[-1].verdict
    curve = {0: 1.0, **told.dense}
    steps = sorted(curve)
    even = dict(zip(steps, evened(steps, [curve[step] for step in steps]), strict=True))
    lowest, raw, last = min(even, key=even.__getitem__), min(curve, key=curve.__getitem__), max(curve)
    print(f"{name}: {config.steps} steps at rate {config.learning_rate:g}, {len(told.scores[-1].held_out)} held out")
    print(f"  words     {verdict.title}. {verdict.words}")
    for words in verdict.bands:
        print(f"            {words}")
    print(f"  scores    {' '.join(f'{each.step}:{each.relative:.3f}' for each in told.scores)}")
    print(f"  dense     {' '.join(f'{step}:{curve[step]:.3f}' for step in steps)}")
    print(f"            lowest {curve[raw]:.3f} at step {raw}, evened out at step {lowest}; last {curve[last]:.3f}")
    if verdict.since and verdict.kind == "memorising":
        print(f"  step      {verdict.since} named, {lowest} found ({100 * (verdict.since / lowest - 1):+.0f}%)")
    scoring, stepping = sum(told.score_seconds), sum(told.step_seconds)
    print(f"  cost      {100 * scoring / (scoring + stepping):.1f}% of the time of steps and scores")


def cost(title: str, steps: int, every: int, place: Path, **knobs: Any) -> None:
    """What scoring one photo at this interval takes of a run of so many steps, from the middle times of a short one."""
    entry = catalog.find("pocket")
    examples, _ = read_folder(pocket.EXAMPLES, pocket.EXAMPLE_TRIGGER, pocket.EXAMPLE_CLASS_WORD)
    short = {"steps": 30, "sample_every": 0, "save_every": 10_000, "score_every": 2, "held_out": "1"}
    config = resolve({**short, **knobs}, entry.defaults).config
    told, since = Told(), time.perf_counter()
    words = {"trigger": pocket.EXAMPLE_TRIGGER, "class_word": pocket.EXAMPLE_CLASS_WORD}
    for progress in train(load_family(entry.folder), examples, config, place / "cost", **words, cache=place / "cache"):
        if isinstance(progress, Stepped):
            told.step_seconds.append(progress.seconds)
        elif isinstance(progress, Scored):
            told.score_seconds.append(time.perf_counter() - since)
        since = time.perf_counter()
    step, score = (statistics.median(each) for each in (told.step_seconds, told.score_seconds))
    scores = len({*range(0, steps + 1, every), *held_out.early_scores(every), steps})
    share = scores * score / (scores * score + steps * step)
    print(f"{title}: a step {step:.2f} s, a score {score:.2f} s; {scores} scores in {steps} steps: {100 * share:.1f}%")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="*", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--every", type=int, default=4, help="steps between two dense scores")
    parser.add_argument(
        "--side", type=int, default=128, help="picture size; Pocket's own, 256, takes four times as long"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        own = resolve({}, catalog.find("pocket").defaults).config
        cost("cost with Pocket's defaults", own.steps, own.score_every, Path(folder))
        cost("cost with a large model's knobs", LARGE_STEPS, TrainConfig().score_every, Path(folder), batch_size=1)
        for name in asked.runs:
            report(name, *follow(name, asked.every, asked.side, Path(folder)))


if __name__ == "__main__":
    main()
