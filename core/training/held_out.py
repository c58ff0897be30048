"""Scoring the adapter on photos that it never learns from: the loss, with everything that makes it noisy held fixed.

    loss(k, b)     = per_example_loss(T_theta, l_T of photo k, eps(k, b), sigma_b)
    relative(k, b) = loss with the adapter / loss of the untouched base             0.86: 14% better than the base

    band        0      1      2      3
    sigma_b     1/8    3/8    5/8    7/8        the middles of four equal bands, from little noise to much

eps(k, b) depends on (seed, place of the photo, band) and on nothing else, so two scores of one run differ by the
adapter alone, and a few evaluations say what the training loss says only after hundreds of steps. The base is the same
model with the adapter's strength at 0, scored once, before the first step. A band's score is the mean of its photos'
relative losses, so that one photo that is hard for the base does not outweigh the others.

Shapes   B batch of 1   L tokens   C channels of one token
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from core import lora
from core.config import TrainConfig
from core.dataset import split
from core.dataset.batches import Encoded
from core.loss import per_example_loss
from core.models.base import Family
from core.randomness import key_for, order_for
from core.training.checkpoint import Losses, State
from core.training.progress import Scored

SIGMAS = (0.125, 0.375, 0.625, 0.875)


def choose(choice: str, names: Sequence[str], seed: int) -> tuple[int, ...]:
    """The places of the photos that are held out, rising: a function of the choice, the seed and how many there are.

    Raises ConfigProblem.
    """
    found = split.wanted(choice, names)
    if isinstance(found, int):
        return tuple(sorted(order_for("held out", len(names), seed)[:found]))
    return found


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out photos of a run, ready to be scored."""

    family: Family
    adapter: lora.Adapter
    photos: Sequence[Encoded]
    config: TrainConfig

    def due(self, step: int) -> bool:
        """Whether it is time to say how the run does after `step`."""
        return step % self.config.score_every == 0 or step == self.config.steps

    def take(self, state: State) -> Scored:
        """Score the adapter as it is, and the base before it if that was not done yet; `state` remembers both."""
        if not state.base_losses:
            strength, self.adapter.strength = self.adapter.strength, 0.0
            state.base_losses = self._losses()
            self.adapter.strength = strength
        untouched = state.step == 0 and not state.start  # a fresh adapter's B is 0: it is the base
        losses = state.base_losses if untouched else self._losses()
        if self.photos:
            state.scores.append((state.step, losses))
        relative = _relative(losses, state.base_losses)
        return Scored(
            step=state.step,
            loss=mean_loss(state),
            bands=tuple(statistics.fmean(column) for column in zip(*relative, strict=True)),
            held_out={one.photo: statistics.fmean(row) for one, row in zip(self.photos, relative, strict=True)},
            learned=state.photo_losses.relative(),
        )

    def _losses(self) -> Losses:
        """One photo and one band at a time: that takes no more memory than a step does."""
        return [[self._loss(one, band) for band in range(len(SIGMAS))] for one in self.photos]

    def _loss(self, one: Encoded, band: int) -> float | None:
        config, family = self.config, self.family
        noise = mx.random.normal(one.l_T.shape, dtype=mx.float32, key=key_for("score", config.seed, one.photo, band))

        def predict(l_t_BLC: mx.array, sigma_B: mx.array) -> mx.array:
            return family.velocity(l_t_BLC, sigma_B, one.conditioning, one.grid, config.train_guidance)

        value = float(per_example_loss(predict, one.l_T, noise, mx.array([SIGMAS[band]])).item())
        return value if math.isfinite(value) else None


def mean_loss(state: State) -> float | None:
    """The last score's mean over photos and bands; None where no photo is held out."""
    _, losses = state.scores[-1] if state.scores else (0, [])
    return statistics.fmean(loss for row in _finite_or_inf(losses) for loss in row) if losses else None


def _relative(losses: Losses, base: Losses) -> list[list[float]]:
    """Each loss as a share of the base's; infinite where one of them is not finite."""
    return [
        [
            loss / than if than > 0 and math.isfinite(than) else math.inf
            for loss, than in zip(row, base_row, strict=True)
        ]
        for row, base_row in zip(_finite_or_inf(losses), _finite_or_inf(base), strict=True)
    ]


def _finite_or_inf(losses: Losses) -> list[list[float]]:
    return [[math.inf if loss is None else loss for loss in row] for row in losses]
