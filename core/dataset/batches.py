"""Which examples a micro-step trains on, and with what noise: a function of the step, not of what came before.

    index   = ((step - 1) * accumulate + micro) * batch_size + slot          counts examples over the whole run
    photo   = order(seed, index // photos)[index % photos]                    each photo once a round, order anew each
    eps, sigma, dropout, flip = draws keyed by (seed, step, index, purpose)

So a resumed run sees what the uninterrupted one would have seen.

Shapes   B batch   L image tokens   C channels of one token
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from core import flow
from core.config import TrainConfig
from core.models.base import Conditioning
from core.randomness import fraction_for, key_for, order_for


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example, ready to train on; arrays have a batch axis of 1."""

    l_T: mx.array
    l_T_flipped: mx.array | None
    conditioning: Conditioning


@dataclass(frozen=True, slots=True)
class Batch:
    """What one micro-step needs, stacked: all float32 but for the conditioning."""

    clean_BLC: mx.array
    noise_BLC: mx.array
    sigma_B: mx.array
    conditioning: Conditioning


class Batches:
    """The examples of a run in the order in which it trains on them."""

    def __init__(self, examples: list[Encoded], empty: Conditioning, config: TrainConfig, model_shift: float) -> None:
        self._examples = examples
        self._empty = empty  # the empty prompt's conditioning, for caption dropout
        self._config = config
        self._shift = model_shift

    def first_index(self, step: int) -> int:
        """The global index of the first example of `step` (1, 2, ...)."""
        return (step - 1) * self._config.accumulate * self._config.batch_size

    def photo_at(self, index: int) -> int:
        """Which photo the example with this global index shows."""
        round_, place = divmod(index, len(self._examples))
        return order_for("order", len(self._examples), self._config.seed, round_)[place]

    def batch(self, step: int, micro: int) -> Batch:
        """The batch of micro-step `micro` (0, 1, ...) of `step` (1, 2, ...)."""
        config, seed = self._config, self._config.seed
        clean, noise, sigma, conditionings = [], [], [], []
        start = self.first_index(step) + micro * config.batch_size
        for index in range(start, start + config.batch_size):
            one = self._examples[self.photo_at(index)]
            mirrored = one.l_T_flipped is not None and fraction_for("flip", seed, step, index) < 0.5
            l_T = one.l_T_flipped if mirrored else one.l_T
            dropped = fraction_for("caption dropout", seed, step, index) < config.caption_dropout
            clean.append(l_T)
            noise.append(mx.random.normal(l_T.shape, dtype=mx.float32, key=key_for("noise", seed, step, index)))
            sigma.append(flow.draw_sigmas(key_for("sigma", seed, step, index), (1,), config.sigma_draw, self._shift))
            conditionings.append(self._empty if dropped else one.conditioning)
        stacked = {name: mx.concatenate([each[name] for each in conditionings]) for name in conditionings[0]}
        return Batch(mx.concatenate(clean), mx.concatenate(noise), mx.concatenate(sigma), stacked)
