"""One optimizer step: gradients of the loss, averaged over micro-steps, and the optimizer's update of the adapter.

g    = mean over micro-steps of  d/d(A, B) dreambooth_loss of batch(step, micro)         core/loss.py, process_group.py
A, B = rule(A, B, g)             unless the loss is not finite                          update.py, optimizers.py
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from core.adapters import lora
from core.config.train import TrainConfig
from core.dataset.batches import Batches
from core.device import backend
from core.distributed.process_group import ALONE, Group
from core.loss import weighted_mean
from core.models.base import Family
from core.training.checkpoint import State
from core.training.diagnosis import LOSSES_AVERAGED
from core.training.events import Stepped
from core.training.gradient import Gradient
from core.training.optimizers import RULES, Remembered, Tensors
from core.training.schedule import learning_rate
from core.training.update import Layout, update

NOTHING = mx.array(0.0)  # lies in the adapter while nothing else may


@dataclass(frozen=True, slots=True)
class Pending:
    """A step that the device was told to take, and what there will be to read of it."""

    step: int
    lr: float
    began: float
    photos: list[tuple[int, ...]]  # by micro-step, of all machines
    draws: mx.array  # by micro-step, the sigma and the loss of each of these photos
    loss: mx.array
    norm: mx.array
    counted: mx.array
    found: mx.array  # the factor of the learning rate that the optimizer found


class Step:
    """Takes the steps of a run, and changes its state; it keeps the functions that were compiled for them.

    `tell` has the device take a step and does not wait for it; what a step comes to is read afterwards, by `read`. So
    the next step can be told before the last is read, and the device never waits for somebody to look at a loss.

    A kernel for each of an adapter's thousand tensors would take longer than the gradient: so the update is of vectors
    or stacks that hold many, and the state's tensors are parts of those.

        _w        what is trained, as vectors or stacks, float32
        _kept     what the optimizer remembers, in the same form, by its names for it
        _heard    what is trained, as tensors in the dtype of the network's products; all that the gradient sees
    """

    def __init__(
        self, family: Family, adapter: lora.Adapter, config: TrainConfig, state: State, group: Group = ALONE
    ) -> None:
        backend.keep_freed_memory()
        self._adapter, self._config, self._state, self._group = adapter, config, state, group
        self._gradient = Gradient(family, adapter, config.train_guidance, state.kept)
        self._dtype = family.dtype
        self._rule = RULES[config.optimizer]
        self._layout = Layout(state.parameters, matrices=self._rule.matrices)
        self._joined = backend.compile_step(self._layout.joined)
        self._apply = backend.compile_step(self._update)
        self._w = self._joined(state.parameters)
        self._kept = {group: self._joined(each) for group, each in state.remembered.tensors.items()}
        self._heard = backend.compile_step(self._as_computed)(self._w)
        self._told: deque[Pending] = deque()
        self._read_at = -math.inf

    def submit(self, step: int, batches: Batches, before_update: Callable[[], None] = lambda: None) -> None:
        """Have the step taken; afterwards the state and the adapter hold the new weights, which may be under way.

        `before_update` is called when the gradient is there, or told, and the state is still that of the step before.
        Raises MachineLost; the state is as it was before the step then. Gradients of other machines are waited for.
        """
        began, state, config = time.monotonic(), self._state, self._config
        loss, g = mx.array(0.0), None
        draws = mx.zeros((config.micro_steps, 2, config.batch_size))
        for micro in range(self._group.rank, config.micro_steps, self._group.size):
            batch = batches.batch(step, micro)
            losses_B, one_g = self._gradient(self._heard, batch)
            loss = loss + weighted_mean(losses_B, batch.weight_B) / config.micro_steps
            photos = slice(config.batch_size)  # class pictures come after them
            draws[micro] = mx.stack([batch.sigma_B[photos], losses_B[photos]])
            one_g = self._joined(one_g)
            g = one_g if g is None else {name: value + one_g[name] for name, value in g.items()}
            del one_g
            backend.evaluate(loss, draws, g, wait=False)
        loss, draws, g = self._group.sum(loss, draws, g)
        before_update()
        lr, numbers = learning_rate(step, config), state.remembered.numbers
        # Nobody but the update may hold the vectors, or a part of them, for only then does it write over them.
        self._adapter.update(dict.fromkeys(state.parameters, NOTHING))
        state.parameters, state.remembered, self._heard = {}, None, None
        (w, kept), (self._w, self._kept) = (self._w, self._kept), (None, None)
        taken = self._apply(w, kept, numbers, g, loss, mx.array(lr))
        del w, kept, g
        backend.evaluate(taken, wait=False)
        self._w, self._kept, numbers, norm, counted, self._heard, parameters, tensors = taken
        self._adapter.update(parameters)
        state.step, state.parameters, state.remembered = step, parameters, Remembered(tensors, numbers)
        state.next_example = batches.first_index(step + 1)
        found = numbers.get("d", mx.array(1.0))  # by Prodigy
        photos = [batches.photos(step, micro) for micro in range(config.micro_steps)]
        self._told.append(Pending(step, lr, began, photos, draws, loss, norm, counted, found))

    def read(self, leave: int = 0) -> Iterator[Stepped]:
        """What became of the steps told, but for the last `leave`, as soon as each is taken; the state learns it."""
        state = self._state
        while len(self._told) > leave:
            told = self._told.popleft()
            value, fine = float(told.loss.item()), bool(told.counted.item())
            state.losses.append(value if math.isfinite(value) else None)
            state.bad_steps_in_a_row = 0 if fine else state.bad_steps_in_a_row + 1
            draws = told.draws.tolist()
            for photos, (sigmas, losses) in zip(told.photos, draws, strict=True):
                state.photo_losses.add(photos, sigmas, losses)
            of_photos = [loss for _, losses in draws for loss in losses]
            subject = statistics.fmean(of_photos) if math.isfinite(value) else value
            newest = [*state.subject_losses, subject if math.isfinite(subject) else None]
            state.subject_losses = newest[-LOSSES_AVERAGED:]
            lr, norm = told.lr * float(told.found.item()), float(told.norm.item())
            began, self._read_at = max(told.began, self._read_at), time.monotonic()
            yield Stepped(told.step, value, subject, lr, norm, fine, self._read_at - began, backend.peak_memory())

    def _update(
        self, w: Tensors, kept: dict[str, Tensors], numbers: Tensors, g: Tensors, loss: mx.array, lr: mx.array
    ) -> tuple[Any, ...]:
        """The optimizer's update.

        Of vectors or stacks: w, what is remembered (by name, and the numbers among it), |g|, whether the step counted.
        Of tensors: w cast, for the gradient; w and what is remembered, which are parts of the first two.
        """
        config = self._config
        count = config.micro_steps
        g = {name: value / count for name, value in g.items()} if count > 1 else g
        limits = {"limit": config.clip_norm, "decay": config.weight_decay, "average_decay": config.ema_decay}
        new_w, new, norm, counted = update(self._rule, w, g, Remembered(kept, numbers), loss, lr, **limits)
        tensors = {group: self._layout.tensors(each) for group, each in new.tensors.items()}
        heard, parameters = self._as_computed(new_w), self._layout.tensors(new_w)
        return new_w, new.tensors, new.numbers, norm, counted, heard, parameters, tensors

    def _as_computed(self, w: Tensors) -> Tensors:
        """The adapter in the dtype of the network's products: cast here, not layer by layer."""
        return self._layout.tensors({name: value.astype(self._dtype) for name, value in w.items()})
