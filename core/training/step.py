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
from core.loss import weighted_mean
from core.models.base import Family
from core.training.checkpoint import State
from core.training.optimizer import Layout, Moments, Tensors, learning_rate, update
from core.training.progress import Stepped
from core.training.reverse import Gradient


class Step:
    """Takes the steps of a run, and changes its state; it keeps the functions that were compiled for them.

    A kernel for each of an adapter's thousand tensors would take longer than the gradient: so the update is of vectors
    that hold many, and the state's tensors are parts of those.
    """

    def __init__(self, family: Family, adapter: lora.Adapter, config: TrainConfig, state: State) -> None:
        self._adapter, self._config, self._state = adapter, config, state
        self._gradient = Gradient(family, adapter, config.train_guidance, state.kept)
        self._dtype = family.dtype
        self._layout = Layout(state.parameters)
        self._vectors = backend.compile_step(self._layout.vectors)
        self._apply = backend.compile_step(self._update)
        moments = state.moments
        self._w, self._m, self._v = (self._vectors(each) for each in (state.parameters, moments.m, moments.v))
        self._heard = backend.compile_step(self._as_computed)(self._w)

    def take(self, step: int, batches: Batches) -> Stepped:
        """Take the step; afterwards the state and the adapter hold the new weights, evaluated."""
        began, state, config = time.monotonic(), self._state, self._config
        loss, g = mx.array(0.0), None
        for micro in range(config.accumulate):
            batch = batches.batch(step, micro)
            losses_B, one_g = self._gradient(self._heard, batch)
            photos = len(batch.photos)  # class pictures come after them
            state.photo_losses.add(batch.photos, batch.sigma_B.tolist()[:photos], losses_B.tolist()[:photos])
            loss = loss + weighted_mean(losses_B, batch.weight_B) / config.accumulate
            one_g = self._vectors(one_g)
            g = one_g if g is None else {name: value + one_g[name] for name, value in g.items()}
            del one_g
            mx.eval(loss, g)
        lr, n = learning_rate(step, config), state.moments.n
        state.moments = None  # so that nobody but this holds the vectors, and the update may write over them
        (w, m, v), (self._w, self._m, self._v) = (self._w, self._m, self._v), (None, None, None)
        self._heard = None
        taken = self._apply(w, m, v, n, g, loss, mx.array(lr))
        del w, m, v, g
        backend.evaluate(taken)
        self._w, self._m, self._v, n, norm, counted, self._heard, parameters, *moments = taken
        self._adapter.update(parameters)
        state.step, state.parameters, state.moments = step, parameters, Moments(*moments, n)
        state.next_example = batches.first_index(step + 1)
        value, fine = float(loss.item()), bool(counted.item())
        state.losses.append(value if math.isfinite(value) else None)
        state.bad_steps_in_a_row = 0 if fine else state.bad_steps_in_a_row + 1
        return Stepped(step, value, lr, float(norm.item()), fine, time.monotonic() - began, backend.peak_memory())

    def _update(
        self, w: Tensors, m: Tensors, v: Tensors, n: mx.array, g: Tensors, loss: mx.array, lr: mx.array
    ) -> tuple[Any, ...]:
        """The optimizer's update of vectors: w, m, v, n, |g|, whether it counted, then w, m and v as tensors."""
        config = self._config
        g = {name: value / config.accumulate for name, value in g.items()} if config.accumulate > 1 else g
        limits = {"limit": config.clip_norm, "decay": config.weight_decay}
        new_w, new, norm, counted = update(w, g, Moments(m, v, n), loss, lr, **limits)
        vectors = (new_w, new.m, new.v)
        tensors = (self._layout.tensors(each) for each in vectors)
        return *vectors, new.n, norm, counted, self._as_computed(new_w), *tensors

    def _as_computed(self, w: Tensors) -> Tensors:
        """The adapter in the dtype of the network's products: cast here, not layer by layer."""
        return self._layout.tensors({name: value.astype(self._dtype) for name, value in w.items()})
