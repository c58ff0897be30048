"""The learning rate of each step: a linear warm-up, then constant or falling to a tenth.

    x       progress after the warm-up, 0 at its first step and 1 at the last step
    rate    rate * (x_0 + (1 - x_0) f(x))          x_0 = 0.1

    constant          f = 1
    linear            f = 1 - x
    cosine            f = (1 + cos(pi x)) / 2
    cosine_restarts   f = (1 + cos(pi (c x mod 1))) / 2, with c cycles

A run that is resumed with another number of steps continues from the rate that it had reached. After its last step k
with the old number, linear and cosine fall from there, over the steps that are left:

    rate    rate * (x_0 + (1 - x_0) f_old(k) f(x))          x = (step - k) / (steps - k)

So a run that had fallen to a tenth stays there. cosine_restarts keeps the length of its cycles, and so restarts again.

Source: Loshchilov and Hutter 2017, arXiv:1608.03983.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from core.config.train import TrainConfig

LOWEST_SHARE = 0.1  # x_0
Part = tuple[int, int]
"""A part of a run that had another number of steps: its last step, and that number."""


def learning_rate(step: int, config: TrainConfig, parts: Sequence[Part] = ()) -> float:
    """The learning rate of `step` (1, 2, ...), after the earlier `parts` of the run."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    after_warmup = [part for part in parts if part[0] > config.warmup_steps]
    height = _height(step, config.steps, config, after_warmup)
    return config.learning_rate * (LOWEST_SHARE + (1 - LOWEST_SHARE) * height)


def _height(step: int, steps: int, config: TrainConfig, parts: Sequence[Part]) -> float:
    """f of `step`, in a part of the run that has so many `steps`."""
    if config.schedule == "cosine_restarts" and parts:
        steps, parts = parts[0][1], ()
    if not parts:
        return _fallen((step - config.warmup_steps - 1) / max(1, steps - config.warmup_steps - 1), config)
    *before, (last, old_steps) = parts
    return _height(last, old_steps, config, before) * _fallen((step - last) / max(1, steps - last), config)


def _fallen(share: float, config: TrainConfig) -> float:
    if config.schedule == "linear":
        return 1.0 - share
    if config.schedule == "cosine_restarts" and share != 1.0:
        share = config.cycles * share % 1.0
    return (1 + math.cos(math.pi * share)) / 2
