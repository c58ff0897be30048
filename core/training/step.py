"""One optimizer step: gradients of the loss, averaged over micro-steps, and the optimizer's update of the adapter.

g    = mean over micro-steps of  d/d(A, B) dreambooth_loss(batch(step, micro))          core/loss.py
A, B = AdamW(A, B, g)            unless the loss is not finite                          optimizer.py
"""

from __future__ import annotations

import math
import time
from typing import Any

import mlx.core as mx

from core import backend, lora
from core.config import TrainConfig
from core.dataset.batches import Batches
from core.models.base import Family
from core.training.checkpoint import State
from core.training.optimizer import Moments, Tensors, learning_rate, update
from core.training.progress import Stepped
from core.training.reverse import Gradient


class Step:
    """What a run needs to take steps; it keeps the functions that were compiled for it."""

    def __init__(self, family: Family, adapter: lora.Adapter, config: TrainConfig) -> None:
        self._adapter, self._config = adapter, config
        kept = None if config.activations == "all" else 0
        self._gradient = Gradient(family, adapter, config.train_guidance, kept)
        self._apply = backend.compile_step(self._update)

    def take(self, step: int, state: State, batches: Batches) -> Stepped:
        """Take the step; afterwards `state` and the adapter hold the new weights, evaluated."""
        began, config = time.monotonic(), self._config
        loss, g = mx.array(0.0), None
        for micro in range(config.accumulate):
            one_loss, one_g = self._gradient(state.parameters, batches.batch(step, micro))
            loss = loss + one_loss / config.accumulate
            g = one_g if g is None else {name: value + one_g[name] for name, value in g.items()}
            mx.eval(loss, g)
        lr = learning_rate(step, config)
        moments = state.moments
        w, m, v, n, norm, counted = self._apply(
            state.parameters, g, moments.m, moments.v, moments.n, loss, mx.array(lr)
        )
        mx.eval(w, m, v, n, norm, counted)
        self._adapter.update(w)
        state.step, state.parameters, state.moments = step, w, Moments(m, v, n)
        state.next_example = batches.first_index(step + 1)
        value, fine = float(loss.item()), bool(counted.item())
        state.losses.append(value if math.isfinite(value) else None)
        state.bad_steps_in_a_row = 0 if fine else state.bad_steps_in_a_row + 1
        return Stepped(step, value, lr, float(norm.item()), fine, time.monotonic() - began, backend.peak_memory())

    def _update(self, w: Tensors, g: Tensors, m: Tensors, v: Tensors, n: mx.array, loss: mx.array, lr: mx.array) -> Any:
        """The optimizer's update."""
        config = self._config
        g = {name: value / config.accumulate for name, value in g.items()} if config.accumulate > 1 else g
        limit, decay = config.clip_norm, config.weight_decay
        new_w, moments, norm, counted = update(w, g, Moments(m, v, n), loss, lr, limit=limit, decay=decay)
        return new_w, moments.m, moments.v, moments.n, norm, counted
