"""The learning rate of each step: a linear warm-up, then constant or falling to a tenth.

    x       progress after the warm-up, 0 at its first step and 1 at the last step
    rate    rate * (x_0 + (1 - x_0) f(x))          x_0 = 0.1

    constant          f = 1
    linear            f = 1 - x
    cosine            f = (1 + cos(pi x)) / 2
    cosine_restarts   f = (1 + cos(pi (c x mod 1))) / 2, with c cycles

Source: Loshchilov and Hutter 2017, arXiv:1608.03983.
"""

from __future__ import annotations

import math

from core.config.train import TrainConfig

LOWEST_SHARE = 0.1  # x_0


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of `step` (1, 2, ...)."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    share = (step - config.warmup_steps - 1) / max(1, config.steps - config.warmup_steps - 1)
    return config.learning_rate * (LOWEST_SHARE + (1 - LOWEST_SHARE) * _fallen(share, config))


def _fallen(share: float, config: TrainConfig) -> float:
    if config.schedule == "linear":
        return 1.0 - share
    if config.schedule == "cosine_restarts" and share < 1.0:
        share = config.cycles * share % 1.0
    return (1 + math.cos(math.pi * share)) / 2
