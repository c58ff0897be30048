"""The moving average of an adapter's weights: smoother than those of any one step; it is scored, drawn and saved.

    a <- d_n a + (1 - d_n) w          d_1 = 0,   d_n = min(decay, n / (n + 9))          n: steps that counted

Training itself goes on from w, as if nobody averaged. d_n grows with the steps because a_0 is the untouched adapter,
which is not worth remembering: at first a is close to w, and the knob has its say after some 9 / (1 - decay) steps.
float32.

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
"""Where it lies in what is remembered from step to step."""


def moved(average: Tensors, w: Tensors, n: mx.array, decay: float) -> Tensors:
    """The average after step n, whose weights are w."""
    kept = mx.where(n > 1, mx.minimum(decay, n / (n + 9.0)), 0.0)
    return {name: kept * old + (1.0 - kept) * w[name] for name, old in average.items()}


@contextmanager
def applied(adapter: Adapter, state: State) -> Iterator[None]:
    """Have the average in the adapter, where the run keeps one, for as long as it is scored, drawn or saved."""
    average = state.remembered.tensors.get(GROUP)
    if average is None:
        yield
        return
    adapter.update(average)
    try:
        yield
    finally:
        adapter.update(state.parameters)
