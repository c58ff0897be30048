"""The exponential moving average (EMA) of the weights: smoother than any one step; used to score, sample and save.

    a <- d_n a + (1 - d_n) w          d_1 = 0,   d_n = min(decay, n / (n + 9))          n: steps applied

Training continues from w. d_n grows with n so that the untrained adapter a_0 is soon forgotten: at first a is close to
w, and after some 9 / (1 - decay) steps d_n is the knob's decay. float32.

Source: Polyak and Juditsky 1992; the growth as diffusers' EMAModel has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

from core.adapters.lora import Adapter
from core.training.checkpoint import State
from core.training.optimizers import Tensors

GROUP = "average"
"""Its name in the optimizer state, and in checkpoints."""


def moved(average: Tensors, w: Tensors, n: mx.array, decay: float) -> Tensors:
    """The average after step n, whose weights are w."""
    d_n = mx.where(n > 1, mx.minimum(decay, n / (n + 9.0)), 0.0)
    return {name: d_n * old + (1.0 - d_n) * w[name] for name, old in average.items()}


@contextmanager
def applied(adapter: Adapter, state: State) -> Iterator[None]:
    """Swap in the EMA weights, if the run has them, while scoring, sampling or saving."""
    average = state.optimizer_state.tensors.get(GROUP)
    if average is None:
        yield
        return
    adapter.update(average)
    try:
        yield
    finally:
        adapter.update(state.parameters)
