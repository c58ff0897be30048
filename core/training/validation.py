"""Scoring the adapter on photos that it never learns from: the loss, with everything that makes it noisy held fixed.

    loss(k, b)     = mean over draws i of  dreambooth_loss(T_theta(l_t), l_T of photo k, eps(k, b, i)), l_t at sigma_b,i
    relative(k, b) = loss with the adapter / loss of the untouched base             0.86: 14% better than the base
    relative(k)    = the same with the sums over the bands

    band b         0        1        2        3         quarters of the sigmas that the run draws, from little noise to
    sigma_b        12.5%    37.5%    62.5%    87.5%     much, each at its median: so many of the draws are below it;
                                                        two draws at the medians of its halves, and so on

eps(k, b, i) depends on (seed, place of the photo, band, draw) and on nothing else, so two scores of one run differ by
the adapter alone, and a few evaluations say what the training loss says only after hundreds of steps. The base is the
same model with the adapter's strength at 0, scored once, before the first step. Scores are means over the photos of
these ratios, so that one photo that is hard for the base does not outweigh the others.

Where no photo is held out, one that is trained on is scored: that shows whether the run learns, not whether it learns
by heart.

Shapes   B batch of 1   L tokens   C channels of one token
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from core import flow
from core.adapters import lora
from core.config.train import TrainConfig
from core.dataset import split
from core.dataset.batches import Encoded
from core.device import backend
from core.loss import dreambooth_loss
from core.models.base import Family
from core.models.blockwise import Walk
from core.randomness import key_for, order_for
from core.training.checkpoint import Losses, State
from core.training.diagnosis import BANDS, Score, judge
from core.training.events import Scored


def choose(choice: str, names: Sequence[str], seed: int) -> tuple[int, ...]:
    """The places of the photos that are held out, rising: a function of the choice, the seed and how many there are.

    Raises ConfigProblem.
    """
    found = split.held_out(choice, names)
    if isinstance(found, int):
        return tuple(sorted(order_for("held out", len(names), seed)[:found]))
    return found


def early_scores(every: int) -> tuple[int, ...]:
    """Steps around the first full interval with a score of their own, sqrt 2 apart, since most happens early.

    40 -> 5, 7, 10, 14, 20, 28, 57.
    """
    return tuple(round(every * 2 ** (half / 2)) for half in (-6, -5, -4, -3, -2, -1, 1))


def quantile(band: int, draw: int, draws: int) -> float:
    """Of the sigmas that a run draws, the share below the one of this draw: 12.5% for the one of the first band."""
    return (band + (draw + 0.5) / draws) / len(BANDS)


@dataclass(frozen=True, slots=True)
class Scoring:
    """The photos that a run is scored on."""

    family: Family
    adapter: lora.Adapter
    photos: Sequence[Encoded]
    held_out: bool  # False: they are trained on
    config: TrainConfig

    def due(self, step: int) -> bool:
        """Whether the photos are scored after `step`."""
        every = self.config.score_every
        return step % every == 0 or step in early_scores(every) or step == self.config.steps

    def take(self, state: State) -> Scored:
        """Score the adapter as it is, and the base before it if that was not done yet; `state` remembers both."""
        if not state.base_losses:
            strength, self.adapter.strength = self.adapter.strength, 0.0
            state.base_losses = self._losses()
            self.adapter.strength = strength
        untouched = state.step == 0 and not state.start  # a fresh adapter's B is 0: it is the base
        losses = state.base_losses if untouched else self._losses()
        state.scores.append((state.step, losses))
        scores = [_score(step, rows, state.base_losses) for step, rows in state.scores]
        by_photo = _by_photo(losses, state.base_losses)
        return Scored(
            step=state.step,
            relative=scores[-1].relative,
            bands=scores[-1].bands,
            held_out={one.photo: value for one, value in zip(self.photos, by_photo, strict=True) if self.held_out},
            loss=scores[-1].loss,
            learned=state.photo_losses.relative(),
            verdict=judge(scores, state.subject_losses, self.held_out),
        )

    def _losses(self) -> Losses:
        """One photo and one band at a time: that takes no more memory than a step does."""
        walk = Walk(self.family)
        return [[self._loss(walk, one, band) for band in range(len(BANDS))] for one in self.photos]

    def _loss(self, walk: Walk, one: Encoded, band: int) -> float | None:
        draws = self.config.score_draws
        value = statistics.fmean(self._loss_of_draw(walk, one, band, draw) for draw in range(draws))
        return value if math.isfinite(value) else None

    def _loss_of_draw(self, walk: Walk, one: Encoded, band: int, draw: int) -> float:
        config, family = self.config, self.family
        which = (one.photo, band, draw) if draw else (one.photo, band)
        noise = mx.random.normal(one.l_T.shape, dtype=mx.float32, key=key_for("score", config.seed, *which))
        place = quantile(band, draw, config.score_draws)
        sigma_B = mx.array([flow.quantile(place, config.sigma_draw, family.training_shift(one.grid))])
        l_t_BLC = flow.interpolate(one.l_T, noise, sigma_B)
        velocity_BLC = walk(l_t_BLC, sigma_B, one.conditioning, one.grid, config.train_guidance)
        loss_B = dreambooth_loss(velocity_BLC, one.l_T, noise)
        backend.evaluate(loss_B)
        return float(loss_B.item())


def loss_of(state: State) -> float | None:
    """The loss of the last score over photos and bands; None before the first."""
    return _score(*state.scores[-1], state.base_losses).loss if state.scores else None


def _score(step: int, losses: Losses, base: Losses) -> Score:
    bands = [
        statistics.fmean(
            _ratio(_number(row[band]), _number(than[band])) for row, than in zip(losses, base, strict=True)
        )
        for band in range(len(BANDS))
    ]
    loss = statistics.fmean(_mean(row) for row in losses)
    return Score(step, statistics.fmean(_by_photo(losses, base)), tuple(bands), loss)


def _by_photo(losses: Losses, base: Losses) -> list[float]:
    """Of each photo, the loss relative to the base's."""
    return [_ratio(_mean(row), _mean(than)) for row, than in zip(losses, base, strict=True)]


def _mean(row: Sequence[float | None]) -> float:
    return statistics.fmean(map(_number, row))


def _number(loss: float | None) -> float:
    return math.inf if loss is None else loss


def _ratio(loss: float, base: float) -> float:
    """The loss as a share of the base's; infinite where one of them is not finite."""
    return loss / base if base > 0 and math.isfinite(base) else math.inf
