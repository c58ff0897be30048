"""One optimizer step: the gradient of the loss, averaged over micro-steps, and the optimizer's update of the adapter.

g    = mean over micro-steps of  d/d(A, B) dreambooth_loss(batch(step, micro))          gradient.py, core/loss.py
A, B = optimizer(A, B, g)        if the loss and |g| are finite                         update.py, optimizers.py

In a distributed run each rank computes the gradients of its own micro-steps; the group sums them.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from core.adapters import lora
from core.config.train import TrainConfig
from core.dataset.batches import Batches
from core.device import backend
from core.loss import weighted_mean
from core.models.base import Family
from core.training.checkpoint import State
from core.training.diagnosis import LOSSES_AVERAGED
from core.training.events import Stepped
from core.training.gradient import Gradient
from core.training.group import ALONE, Group
from core.training.optimizers import OPTIMIZERS, OptimizerState, Tensors
from core.training.schedule import learning_rate
from core.training.update import Layout, update

PLACEHOLDER = mx.array(0.0)  # in the adapter during an update, in the place of the old weights


class Updated(NamedTuple):
    """The result of an update. The tensors are views of the packed vectors or stacks."""

    packed_w: Tensors
    packed_optimizer_state: dict[str, Tensors]  # by the optimizer's name for each
    optimizer_scalars: Tensors
    grad_norm: mx.array  # |g|
    applied: mx.array  # bool: loss and |g| were finite
    compute_w: Tensors  # the weights in the network's compute dtype
    w: Tensors  # the weights, float32
    optimizer_state: dict[str, Tensors]


@dataclass(frozen=True, slots=True)
class Pending:
    """A step submitted to the device; its arrays may still be computing."""

    step: int
    lr: float
    began: float
    photos: list[tuple[int, ...]]  # by micro-step, of all machines
    photo_sigma_and_loss: mx.array  # (micro, 2, photo)
    loss: mx.array
    grad_norm: mx.array
    applied: mx.array
    lr_factor: mx.array  # of the learning rate, found by the optimizer


class Step:
    """Takes the steps of a run and changes its state; holds the functions compiled for them.

    `submit` queues a step on the device without waiting for it, `read` reports the results later. So the next step can
    be queued before the previous loss is read. `state.losses` lags `state.step` by the steps in flight: save only after
    read(0).

    An adapter has up to a thousand tensors, and a kernel for each would take longer than the gradient. So the update
    works on a few packed vectors or stacks, and the state's tensors are views of those.

        _packed_w                  the weights, float32
        _packed_optimizer_state    the optimizer state, by the optimizer's name for each
        _compute_w                 the weights as tensors in the network's compute dtype: the input of the gradient
        _pending                   the steps submitted and not yet read
    """

    def __init__(
        self, family: Family, adapter: lora.Adapter, config: TrainConfig, state: State, group: Group = ALONE
    ) -> None:
        backend.keep_freed_memory()
        self._adapter, self._config, self._state, self._group = adapter, config, state, group
        self._gradient = Gradient(family, adapter, config.train_guidance, state.kept)
        self._dtype = family.dtype
        self._optimizer = OPTIMIZERS[config.optimizer]
        self._layout = Layout(state.parameters, matrices=self._optimizer.matrices)
        self._pack = backend.compile_step(self._layout.pack)
        self._update = backend.compile_step(self._updated)
        self._packed_w: Tensors = self._pack(state.parameters)
        self._packed_optimizer_state = {name: self._pack(each) for name, each in state.optimizer_state.tensors.items()}
        self._compute_w: Tensors = backend.compile_step(self._in_compute_dtype)(self._packed_w)
        self._pending: deque[Pending] = deque()
        self._read_at = -math.inf

    def submit(self, step: int, batches: Batches, before_update: Callable[[], None] = lambda: None) -> None:
        """Submit a step; afterwards the state and the adapter hold the new weights, which may still be computing.

        `before_update` is called when the gradient is computed or submitted, and the state is that of the step before.
        Waits for the gradients of other machines. Raises MachineLost; the state is that of the step before then.
        """
        began, state = time.monotonic(), self._state
        loss, photo_sigma_and_loss, g = self._group.sum(*self._gradient_of_micro_steps(step, batches))
        before_update()
        lr, scalars = learning_rate(step, self._config, state.parts), state.optimizer_state.numbers
        # MLX donates an input buffer only if nothing else references it. So drop every reference to the old weights
        # (ours, the state's, the adapter's, views included) before the update is evaluated.
        packed_w, packed_optimizer_state = self._packed_w, self._packed_optimizer_state
        self._packed_w, self._packed_optimizer_state, self._compute_w = {}, {}, {}
        self._adapter.update(dict.fromkeys(state.parameters, PLACEHOLDER))
        state.parameters, state.optimizer_state = {}, OptimizerState({}, {})
        new = Updated(*self._update(packed_w, packed_optimizer_state, scalars, g, loss, mx.array(lr)))
        del packed_w, packed_optimizer_state, g
        backend.evaluate(tuple(new), wait=False)
        self._packed_w, self._packed_optimizer_state = new.packed_w, new.packed_optimizer_state
        self._compute_w = new.compute_w
        self._adapter.update(new.w)
        state.step, state.next_example = step, batches.first_index(step + 1)
        state.parameters, state.optimizer_state = new.w, OptimizerState(new.optimizer_state, new.optimizer_scalars)
        photos = [batches.photos(step, micro) for micro in range(self._config.micro_steps)]
        lr_factor = new.optimizer_scalars.get("d", mx.array(1.0))  # Prodigy's
        self._pending.append(
            Pending(step, lr, began, photos, photo_sigma_and_loss, loss, new.grad_norm, new.applied, lr_factor)
        )

    def read(self, in_flight: int = 0) -> Iterator[Stepped]:
        """Yield the results of the submitted steps but the last `in_flight`, as each completes; update the state."""
        state = self._state
        while len(self._pending) > in_flight:
            one = self._pending.popleft()
            loss, applied = float(one.loss), bool(one.applied)
            state.losses.append(loss if math.isfinite(loss) else None)
            state.bad_steps_in_a_row = 0 if applied else state.bad_steps_in_a_row + 1
            subject_loss = self._record_photos(one, loss)
            lr, grad_norm = one.lr * float(one.lr_factor), float(one.grad_norm)
            began, self._read_at = max(one.began, self._read_at), time.monotonic()
            seconds = self._read_at - began
            state.seconds += seconds
            yield Stepped(one.step, loss, subject_loss, lr, grad_norm, applied, seconds, backend.peak_memory())

    def _gradient_of_micro_steps(self, step: int, batches: Batches) -> tuple[mx.array, mx.array, Tensors]:
        """Returns (loss, photo_sigma_and_loss, g).

        loss                    this rank's share of the mean loss, a scalar
        photo_sigma_and_loss    (micro, 2, photo); zero for other ranks' micro-steps
        g                       the packed gradient, summed over this rank's micro-steps
        """
        config = self._config
        loss, g = mx.array(0.0), Tensors()
        photo_sigma_and_loss = mx.zeros((config.micro_steps, 2, config.batch_size))
        for micro in range(self._group.rank, config.micro_steps, self._group.size):
            batch = batches.batch(step, micro)
            losses_B, one_g = self._gradient(self._compute_w, batch)
            loss = loss + weighted_mean(losses_B, batch.weight_B) / config.micro_steps
            photos = slice(config.batch_size)  # class pictures come after them
            photo_sigma_and_loss[micro] = mx.stack([batch.sigma_B[photos], losses_B[photos]])
            one_g = self._pack(one_g)
            g = {name: value + one_g[name] for name, value in g.items()} if g else one_g
            del one_g
            backend.evaluate(loss, photo_sigma_and_loss, g, wait=False)
        return loss, photo_sigma_and_loss, g

    def _record_photos(self, one: Pending, loss: float) -> float:
        """Add a step's losses to those of its photos; returns the mean over the photos, without class pictures."""
        by_micro_step = np.array(one.photo_sigma_and_loss).tolist()
        for photos, (sigmas, losses) in zip(one.photos, by_micro_step, strict=True):
            self._state.photo_losses.add(photos, sigmas, losses)
        subject_loss = loss
        if math.isfinite(loss):
            subject_loss = statistics.fmean(each for _, losses in by_micro_step for each in losses)
        newest = [*self._state.subject_losses, subject_loss if math.isfinite(subject_loss) else None]
        self._state.subject_losses = newest[-LOSSES_AVERAGED:]
        return subject_loss

    def _updated(
        self,
        packed_w: Tensors,
        packed_optimizer_state: dict[str, Tensors],
        scalars: Tensors,
        g: Tensors,
        loss: mx.array,
        lr: mx.array,
    ) -> tuple[Any, ...]:
        """The fields of `Updated`, as a tuple: mx.compile drops the class of a NamedTuple. g is packed, and a sum."""
        config = self._config
        count = config.micro_steps
        g = {name: value / count for name, value in g.items()} if count > 1 else g
        new_w, new, grad_norm, applied = update(
            self._optimizer,
            packed_w,
            g,
            OptimizerState(packed_optimizer_state, scalars),
            loss,
            lr,
            clip_norm=config.clip_norm,
            weight_decay=config.weight_decay,
            ema_decay=config.ema_decay,
        )
        tensors = {name: self._layout.unpack(each) for name, each in new.tensors.items()}
        compute_w, w = self._in_compute_dtype(new_w), self._layout.unpack(new_w)
        return new_w, new.tensors, new.numbers, grad_norm, applied, compute_w, w, tensors

    def _in_compute_dtype(self, packed_w: Tensors) -> Tensors:
        """The packed weights as tensors for the gradient: cast once, not layer by layer."""
        return self._layout.unpack({name: value.astype(self._dtype) for name, value in packed_w.items()})
