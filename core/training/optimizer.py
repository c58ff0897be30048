"""AdamW on the adapter, with a global gradient limit, and a guard that a bad step cannot pass.

    g   <- g * min(1, limit / |g|)                                      |g| over the whole adapter
    m   <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
    w   <- w - lr * (m / (1 - b1^n) / (sqrt(v / (1 - b2^n)) + e) + decay * w)

Where the loss or |g| is not finite, w, m, v and n stay as they are: the choice lies inside the graph, so reading the
loss late is safe. All float32. Pure functions: arrays in, arrays out.

Source: Loshchilov and Hutter 2019, arXiv:1711.05101.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

import mlx.core as mx

from core import backend
from core.config import Schedule, TrainConfig

Tensors = dict[str, mx.array]
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
SHORT_SUM = 1024
VECTOR_AT_LEAST = {False: 2**18, True: 2**22}
"""Numbers, by whether the update is compiled. On a CPU it is not, and a vector takes fifteen times its memory."""
LOWEST_SHARE = 0.1  # of the learning rate, at the end of the cosine


@dataclass(slots=True)
class Moments:
    """What AdamW remembers: m and v by parameter, and n, the number of steps that counted (a float32 scalar)."""

    m: Tensors
    v: Tensors
    n: mx.array

    @staticmethod
    def of(parameters: Tensors) -> Moments:
        zeros = {name: mx.zeros_like(value) for name, value in parameters.items()}
        return Moments(dict(zeros), dict(zeros), mx.array(0.0))


def update(
    w: Tensors, g: Tensors, moments: Moments, loss: mx.array, lr: mx.array, *, limit: float, decay: float
) -> tuple[Tensors, Moments, mx.array, mx.array]:
    """One step: the new parameters and moments, |g| before the limit, and whether the step counted (a bool scalar)."""
    norm = global_norm(g)
    finite = mx.isfinite(norm) & mx.isfinite(loss)
    share = mx.minimum(1.0, limit / (norm + 1e-6)) if limit > 0 else mx.array(1.0)
    n = moments.n + 1.0
    unbias_m, unbias_v = 1.0 - mx.power(BETA_1, n), 1.0 - mx.power(BETA_2, n)
    new_w: Tensors = {}
    new = Moments({}, {}, mx.where(finite, n, moments.n))
    for name, old in w.items():
        grad = g[name] * share
        m = BETA_1 * moments.m[name] + (1 - BETA_1) * grad
        v = BETA_2 * moments.v[name] + (1 - BETA_2) * grad.square()
        moved = old - lr * (m / unbias_m / (mx.sqrt(v / unbias_v) + EPSILON) + decay * old)
        new_w[name] = mx.where(finite, moved, old)
        new.m[name] = mx.where(finite, m, moments.m[name])
        new.v[name] = mx.where(finite, v, moments.v[name])
    return new_w, new, norm, finite


def global_norm(tensors: Tensors) -> mx.array:
    """The Euclidean norm over all tensors together, float32."""
    return mx.sqrt(mx.stack([_sum_of_squares(tensors[name]) for name in sorted(tensors)]).sum())


def _sum_of_squares(x: mx.array) -> mx.array:
    """In short sums: the CPU's sum is a plain running one, and loses digits over millions of terms."""
    squares = x.astype(mx.float32).reshape(-1).square()
    even = squares.size // SHORT_SUM * SHORT_SUM
    return squares[:even].reshape(-1, SHORT_SUM).sum(axis=1).sum() + squares[even:].sum()


class Layout:
    """Tensors as a few vectors: a large model's adapter has a thousand, and a kernel for each costs a long time.

    They lie in the order of their names. A checkpoint gives its tensors back in another order than they were made in,
    and a norm that is summed in another order rounds otherwise, which would end the exact resume.
    """

    def __init__(self, tensors: Tensors) -> None:
        self._shapes = {name: tensors[name].shape for name in sorted(tensors)}
        self._groups: list[list[str]] = [[]]
        held, at_least = 0, VECTOR_AT_LEAST[backend.prepare().policy.compiles]
        for name, shape in self._shapes.items():
            if held >= at_least:
                self._groups.append([])
                held = 0
            self._groups[-1].append(name)
            held += math.prod(shape)

    def vectors(self, tensors: Tensors) -> Tensors:
        """float32 vectors, by number."""
        return {
            str(number): mx.concatenate([tensors[name].reshape(-1) for name in names]).astype(mx.float32)
            for number, names in enumerate(self._groups)
        }

    def tensors(self, vectors: Tensors) -> Tensors:
        """The inverse, in the vectors' dtype; parts of the vectors, not copies."""
        found: Tensors = {}
        for number, names in enumerate(self._groups):
            ends = list(accumulate(math.prod(self._shapes[name]) for name in names))
            parts = mx.split(vectors[str(number)], ends[:-1])
            found |= {name: part.reshape(self._shapes[name]) for name, part in zip(names, parts, strict=True)}
        return found


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of `step` (1, 2, ...): a line up over the warm-up, then a cosine to a tenth, or constant."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    schedule: Schedule = config.schedule
    if schedule == "constant":
        return config.learning_rate
    share = (step - config.warmup_steps - 1) / max(1, config.steps - config.warmup_steps - 1)
    return config.learning_rate * (LOWEST_SHARE + (1 - LOWEST_SHARE) * (1 + math.cos(math.pi * share)) / 2)
