"""Scores the adapter on photos that it is not trained on: the loss at fixed noise and fixed sigmas.

    loss(k, b)     = mean over draws i of  dreambooth_loss(T_theta(l_t), l_T of photo k, eps(k, b, i)), l_t at sigma_b,i
    relative(k, b) = loss with the adapter / loss of the untouched base             0.86: 14% better than the base
    relative(k)    = the same with the sums over the bands

    band b         0        1        2        3         quarters of the run's distribution of sigma, from little noise
    sigma_b        12.5%    37.5%    62.5%    87.5%     to much, each at its median (given as a quantile); with two
                                                        draws at the medians of its halves, and so on

eps(k, b, i) depends only on (seed, place of the photo, band, draw). So two scores of a run differ by the adapter alone,
and a few evaluations show what the training loss shows only after hundreds of steps. The base is the same model with
the adapter's strength at 0, scored once, before the first step. A score is the mean of these ratios over the photos, so
that one photo that is hard for the base does not outweigh the others.

A photo with a mask is scored with the weights that training gives it. The score is there to show whether the run gets
better at what it learns: unweighted, the background would hide that, and so would a stranger who is ignored. Scores of
runs with other masks or another `background_weight` do not compare. Of a photo's crops and sizes the first is scored.

If no photo is held out, one that is trained on is scored: that shows whether the run learns, not whether it memorises.

Shapes   B batch of 1   L tokens   C channels of one token
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from core import flow
from core.adapters import lora
from core.config.train import TrainConfig
from core.dataset import split
from core.dataset.batches import Encoded
from core.device import backend
from core.loss import dreambooth_loss
from core.models.base import Family, Grid
from core.models.blockwise import BlockwiseVelocity
from core.randomness import key_for, order_for
from core.training import due
from core.training.checkpoint import Losses, State
from core.training.diagnosis import BANDS, Score, diagnose
from core.training.events import Scored


def choose(choice: str, names: Sequence[str], seed: int) -> tuple[int, ...]:
    """The places of the held-out photos, ascending: a function of the choice, the seed and the number of photos.

    Raises ConfigProblem.
    """
    wanted = split.held_out(choice, names)
    if isinstance(wanted, int):
        return tuple(sorted(order_for("held out", len(names), seed)[:wanted]))
    return wanted


def is_due(step: int, config: TrainConfig) -> bool:
    """Whether the photos are scored after `step`."""
    return due.scores(step, config.steps, config.score_every)


def quantile(band: int, draw: int, draws: int) -> float:
    """The quantile of this draw's sigma in the run's distribution of sigma: 0.125 for a single draw of band 0."""
    return (band + (draw + 0.5) / draws) / len(BANDS)


@dataclass(frozen=True, slots=True)
class Scoring:
    """Scores an adapter on these photos."""

    family: Family
    adapter: lora.Adapter
    photos: Sequence[Encoded]
    held_out: bool  # False: they are trained on
    config: TrainConfig
    shift: Callable[[Grid], float]  # of the run's sigmas

    def score(self, state: State) -> Scored:
        """Score the adapter, and the base first if it has no score yet; `state` records both."""
        if not state.base_losses:
            strength, self.adapter.strength = self.adapter.strength, 0.0
            state.base_losses = self._losses()
            self.adapter.strength = strength
        untouched = state.step == 0 and not state.start_hash  # a fresh adapter's B is 0: it is the base
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
            diagnosis=diagnose(scores, state.subject_losses, self.held_out),
        )

    def _losses(self) -> Losses:
        """By photo and band, one at a time: this needs no more memory than a step."""
        velocity = BlockwiseVelocity(self.family)
        return [[self._loss(velocity, one, band) for band in range(len(BANDS))] for one in self.photos]

    def _loss(self, velocity: BlockwiseVelocity, one: Encoded, band: int) -> float | None:
        draws = self.config.score_draws
        value = statistics.fmean(self._loss_of_draw(velocity, one, band, draw) for draw in range(draws))
        return value if math.isfinite(value) else None

    def _loss_of_draw(self, velocity: BlockwiseVelocity, one: Encoded, band: int, draw: int) -> float:
        config = self.config
        which = (one.photo, band, draw) if draw else (one.photo, band)
        noise = mx.random.normal(one.l_T.shape, dtype=mx.float32, key=key_for("score", config.seed, *which))
        share = quantile(band, draw, config.score_draws)
        sigma_B = mx.array([flow.quantile(share, config.sigma_draw, self.shift(one.grid))])
        l_t_BLC = flow.interpolate(one.l_T, noise, sigma_B)
        velocity_BLC = velocity(l_t_BLC, sigma_B, one.conditioning, one.grid, config.train_guidance)
        loss_B = dreambooth_loss(velocity_BLC, one.l_T, noise, one.weight_BL)
        backend.evaluate(loss_B)
        return float(loss_B)


def loss_of(state: State) -> float | None:
    """The mean loss of the last score over photos and bands; None before the first score."""
    return _score(*state.scores[-1], state.base_losses).loss if state.scores else None


def _score(step: int, losses: Losses, base: Losses) -> Score:
    pairs = list(zip(losses, base, strict=True))
    bands = [
        statistics.fmean(_ratio(_finite_or_inf(row[band]), _finite_or_inf(of_base[band])) for row, of_base in pairs)
        for band in range(len(BANDS))
    ]
    loss = statistics.fmean(_mean(row) for row in losses)
    return Score(step, statistics.fmean(_by_photo(losses, base)), tuple(bands), loss)


def _by_photo(losses: Losses, base: Losses) -> list[float]:
    """Each photo's loss relative to the base's."""
    return [_ratio(_mean(row), _mean(of_base)) for row, of_base in zip(losses, base, strict=True)]


def _mean(row: Sequence[float | None]) -> float:
    return statistics.fmean(map(_finite_or_inf, row))


def _finite_or_inf(loss: float | None) -> float:
    return math.inf if loss is None else loss


def _ratio(loss: float, base: float) -> float:
    """The loss relative to the base's; infinite if one of them is not finite."""
    return loss / base if base > 0 and math.isfinite(base) else math.inf
