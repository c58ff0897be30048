"""One update of the adapter: a global gradient limit, the rule, the average, and a guard that a bad step cannot pass.

    g               <- g * min(1, limit / |g|)                                      |g| over the whole adapter
    w, remembered   <- rule(w, g, remembered, lr)                                   optimizers.py
    average         <- average.moved(average, w)         where the run keeps one    ema.py

Where the loss or |g| is not finite, all of them stay as they are: the choice lies inside the graph, so reading the
loss late is safe. All float32. Pure functions: arrays in, arrays out.
"""

from __future__ import annotations

import math
from itertools import accumulate

import mlx.core as mx

from core.device import backend
from core.training import ema
from core.training.optimizers import Remembered, Rule, Tensors, total

VECTOR_AT_LEAST = {False: 2**18, True: 2**22}
"""Numbers, by whether the update is compiled. On a CPU it is not, and a vector takes fifteen times its memory."""


def begin(rule: Rule, w: Tensors, *, averages: bool) -> Remembered:
    """What is remembered before the first step."""
    remembered = rule.begin(w)
    if averages:
        remembered.tensors[ema.GROUP] = dict(w)
    return remembered


def update(
    rule: Rule,
    w: Tensors,
    g: Tensors,
    old: Remembered,
    loss: mx.array,
    lr: mx.array,
    *,
    limit: float,
    decay: float,
    average_decay: float = 0.0,
) -> tuple[Tensors, Remembered, mx.array, mx.array]:
    """One step: new parameters, what is remembered, |g| before the limit, and whether it counted (a bool scalar)."""
    norm = global_norm(g)
    finite = mx.isfinite(norm) & mx.isfinite(loss)
    share = mx.minimum(1.0, limit / (norm + 1e-6)) if limit > 0 else mx.array(1.0)
    n = old.numbers["n"] + 1.0
    limited = {name: value * share for name, value in g.items()}
    new_w, new = rule.move(w, limited, Remembered(old.tensors, {**old.numbers, "n": n}), lr, decay)
    if ema.GROUP in old.tensors:
        new.tensors[ema.GROUP] = ema.moved(old.tensors[ema.GROUP], new_w, n, average_decay)

    def chosen(after: Tensors, before: Tensors) -> Tensors:
        return {name: mx.where(finite, after[name], value) for name, value in before.items()}

    tensors = {group: chosen(new.tensors[group], before) for group, before in old.tensors.items()}
    return chosen(new_w, w), Remembered(tensors, chosen(new.numbers, old.numbers)), norm, finite


def global_norm(tensors: Tensors) -> mx.array:
    """The Euclidean norm over all tensors together, float32."""
    return mx.sqrt(mx.stack([total(tensors[name].astype(mx.float32).square()) for name in sorted(tensors)]).sum())


class Layout:
    """Tensors as a few: a large model's adapter has a thousand, and a kernel for each costs a long time.

    A rule that changes each number by itself gets long vectors; one that needs to know rows and columns gets matrices
    of one shape in a stack. They lie in the order of their names. A checkpoint gives its tensors back in another order
    than they were made in, and a norm that is summed in another order rounds otherwise, which would end the exact
    resume.
    """

    def __init__(self, tensors: Tensors, *, matrices: bool = False) -> None:
        self._matrices = matrices
        self._shapes = {name: tensors[name].shape for name in sorted(tensors)}
        at_least = VECTOR_AT_LEAST[backend.prepare().policy.compiles]
        self._groups: list[list[str]] = []
        open_group: dict[tuple[int, ...], list[str]] = {}
        held: dict[tuple[int, ...], int] = {}
        for name, shape in self._shapes.items():
            kind = shape if matrices else ()
            if kind not in open_group or held[kind] >= at_least:
                open_group[kind], held[kind] = [], 0
                self._groups.append(open_group[kind])
            open_group[kind].append(name)
            held[kind] += math.prod(shape)

    def joined(self, tensors: Tensors) -> Tensors:
        """float32 vectors or stacks, by number."""
        return {str(number): self._join([tensors[name] for name in names]) for number, names in enumerate(self._groups)}

    def tensors(self, joined: Tensors) -> Tensors:
        """The inverse; parts of the vectors or stacks, not copies."""
        found: Tensors = {}
        for number, names in enumerate(self._groups):
            found |= zip(names, self._part(joined[str(number)], names), strict=True)
        return found

    def _join(self, tensors: list[mx.array]) -> mx.array:
        joined = mx.stack(tensors) if self._matrices else mx.concatenate([tensor.reshape(-1) for tensor in tensors])
        return joined.astype(mx.float32)  # all at once

    def _part(self, joined: mx.array, names: list[str]) -> list[mx.array]:
        if self._matrices:
            return [each.squeeze(0) for each in mx.split(joined, len(names))]
        ends = list(accumulate(math.prod(self._shapes[name]) for name in names))
        parts = mx.split(joined, ends[:-1])
        return [part.reshape(self._shapes[name]) for name, part in zip(names, parts, strict=True)]
