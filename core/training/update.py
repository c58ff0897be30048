"""One update of the adapter: gradient clipping, the optimizer, the EMA, and a guard against steps that are not finite.

    g         <- g * min(1, clip_norm / |g|)                |g| over the whole adapter
    w, state  <- optimizer(w, g, state, lr)                 optimizers.py
    ema       <- ema.moved(ema, w)                          ema.py, where the run has an EMA

Where the loss or |g| is not finite, all of them stay as they are. That choice is part of the graph, so the loss can be
read later. All float32. Pure functions: arrays in, arrays out.
"""

from __future__ import annotations

import math
from itertools import accumulate

import mlx.core as mx

from core.device import backend
from core.training import ema
from core.training.optimizers import Optimizer, OptimizerState, Tensors, total

VECTOR_AT_LEAST = 2**22  # numbers in a packed vector
VECTOR_AT_LEAST_UNCOMPILED = 2**18
"""Uncompiled, the update's temporaries take 15x the vector's memory, so its vectors are smaller."""


def init(optimizer: Optimizer, w: Tensors, *, with_ema: bool) -> OptimizerState:
    """The optimizer state before the first step."""
    state = optimizer.init(w)
    if with_ema:
        state.tensors[ema.GROUP] = dict(w)
    return state


def update(
    optimizer: Optimizer,
    w: Tensors,
    g: Tensors,
    old: OptimizerState,
    loss: mx.array,
    lr: mx.array,
    *,
    clip_norm: float,
    weight_decay: float,
    ema_decay: float = 0.0,
) -> tuple[Tensors, OptimizerState, mx.array, mx.array]:
    """One step: the new weights and optimizer state, |g| before clipping, and whether the step was applied (bool).

    `clip_norm` 0 is no clipping.
    """
    grad_norm = global_norm(g)
    finite = mx.isfinite(grad_norm) & mx.isfinite(loss)
    scale = mx.minimum(1.0, clip_norm / (grad_norm + 1e-6)) if clip_norm > 0 else mx.array(1.0)
    n = old.numbers["n"] + 1.0
    clipped = {name: value * scale for name, value in g.items()}
    new_w, new = optimizer.update(w, clipped, OptimizerState(old.tensors, {**old.numbers, "n": n}), lr, weight_decay)
    if ema.GROUP in old.tensors:
        new.tensors[ema.GROUP] = ema.moved(old.tensors[ema.GROUP], new_w, n, ema_decay)

    def chosen(after: Tensors, before: Tensors) -> Tensors:
        return {name: mx.where(finite, after[name], value) for name, value in before.items()}

    tensors = {group: chosen(new.tensors[group], before) for group, before in old.tensors.items()}
    return chosen(new_w, w), OptimizerState(tensors, chosen(new.numbers, old.numbers)), grad_norm, finite


def global_norm(tensors: Tensors) -> mx.array:
    """The Euclidean norm over all tensors together, float32."""
    return mx.sqrt(mx.stack([total(tensors[name].astype(mx.float32).square()) for name in sorted(tensors)]).sum())


class Layout:
    """Packs many tensors into a few arrays: an adapter of a large model has a thousand, and each would cost a kernel.

    An elementwise optimizer gets long vectors; one that needs rows and columns gets stacks of matrices of one shape.
    Both are in the order of the tensors' names: a checkpoint returns its tensors in another order than they were made
    in, and a norm summed in another order rounds differently, so that a resumed run would not be exact.
    """

    def __init__(self, tensors: Tensors, *, matrices: bool = False) -> None:
        self._matrices = matrices
        self._shapes = {name: tensors[name].shape for name in sorted(tensors)}
        at_least = VECTOR_AT_LEAST if backend.policy().compiles else VECTOR_AT_LEAST_UNCOMPILED
        self._groups: list[list[str]] = []
        open_group: dict[tuple[int, ...], list[str]] = {}
        sizes: dict[tuple[int, ...], int] = {}
        for name, shape in self._shapes.items():
            kind = shape if matrices else ()
            if kind not in open_group or sizes[kind] >= at_least:
                open_group[kind], sizes[kind] = [], 0
                self._groups.append(open_group[kind])
            open_group[kind].append(name)
            sizes[kind] += math.prod(shape)

    def pack(self, tensors: Tensors) -> Tensors:
        """float32 vectors or stacks, by number."""
        return {str(number): self._join([tensors[name] for name in names]) for number, names in enumerate(self._groups)}

    def unpack(self, packed: Tensors) -> Tensors:
        """The inverse of `pack`; views of the vectors or stacks, not copies."""
        tensors: Tensors = {}
        for number, names in enumerate(self._groups):
            tensors |= zip(names, self._split(packed[str(number)], names), strict=True)
        return tensors

    def _join(self, tensors: list[mx.array]) -> mx.array:
        joined = mx.stack(tensors) if self._matrices else mx.concatenate([tensor.reshape(-1) for tensor in tensors])
        return joined.astype(mx.float32)  # all at once

    def _split(self, packed: mx.array, names: list[str]) -> list[mx.array]:
        if self._matrices:
            return [each.squeeze(0) for each in mx.split(packed, len(names))]
        ends = list(accumulate(math.prod(self._shapes[name]) for name in names))
        parts = mx.split(packed, ends[:-1])
        return [part.reshape(self._shapes[name]) for name, part in zip(names, parts, strict=True)]
