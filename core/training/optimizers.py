"""The optimizers of an adapter: AdamW, Adafactor, Lion, Prodigy.

    w, state <- OPTIMIZERS["lion"].update(w, g, state, lr, decay)

    w        weights by name          g   their gradients, clipped
    state    tensors by group and name, such as m and v, and numbers by name; n, the number of this step from 1, is
             always one of them

All float32. Pure functions: arrays in, arrays out. Every weight is a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from core.config.choices import Optimizer as OptimizerName

Tensors = dict[str, mx.array]
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # of AdamW and Prodigy
LION_BETA_1, LION_BETA_2 = 0.9, 0.99
ADAFACTOR_POWER, ADAFACTOR_EPSILON = -0.8, 1e-30
PRODIGY_D_0 = 1e-5  # ten times the paper's, since runs are short; below any learning rate in use
SHORT_SUM = 1024


@dataclass(slots=True)
class OptimizerState:
    """What an optimizer carries from step to step."""

    tensors: dict[str, Tensors]  # by group, then by parameter
    numbers: Tensors  # float32 scalars; n, the number of steps applied, among them


Result = tuple[Tensors, OptimizerState]
"""The new weights and state."""
Update = Callable[[Tensors, Tensors, OptimizerState, mx.array, float], Result]
"""(w, g, state, lr, decay) to the new weights and state."""


@dataclass(frozen=True, slots=True)
class Optimizer:
    """One optimizer, as two pure functions."""

    init: Callable[[Tensors], OptimizerState]
    update: Update
    matrices: bool = False  # whether it needs rows and columns, or works on vectors that hold many matrices


def total(x: mx.array) -> mx.array:
    """The sum of all elements, in short sums: a CPU sums sequentially, which loses digits over millions."""
    flat = x.reshape(-1)
    even = flat.size // SHORT_SUM * SHORT_SUM
    return flat[:even].reshape(-1, SHORT_SUM).sum(axis=1).sum() + flat[even:].sum()


def _one_minus_power(beta: float, n: mx.array) -> mx.array:
    """1 - beta^n, the bias of a mean that began at zero. Computed as written, it would lose four digits at first."""
    return -mx.expm1(n * math.log(beta))


def _zeros(w: Tensors) -> Tensors:
    return {name: mx.zeros_like(value) for name, value in w.items()}


# AdamW


def _init_adamw(w: Tensors) -> OptimizerState:
    return OptimizerState({"m": _zeros(w), "v": _zeros(w)}, {"n": mx.array(0.0)})


def _adamw(w: Tensors, g: Tensors, old: OptimizerState, lr: mx.array, decay: float) -> Result:
    """Each weight has a learning rate of its own.

        m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
        w <- w - lr (m / (1 - b1^n) / (sqrt(v / (1 - b2^n)) + e) + decay w)

    Source: Loshchilov and Hutter 2019, arXiv:1711.05101.
    """
    n = old.numbers["n"]
    unbias_m, unbias_v = _one_minus_power(BETA_1, n), _one_minus_power(BETA_2, n)
    new_w, m, v = {}, {}, {}
    for name, value in w.items():
        m[name] = BETA_1 * old.tensors["m"][name] + (1 - BETA_1) * g[name]
        v[name] = BETA_2 * old.tensors["v"][name] + (1 - BETA_2) * g[name].square()
        new_w[name] = value - lr * (m[name] / unbias_m / (mx.sqrt(v[name] / unbias_v) + EPSILON) + decay * value)
    return new_w, OptimizerState({"m": m, "v": v}, old.numbers)


# Adafactor


def _init_adafactor(w: Tensors) -> OptimizerState:
    row = {name: mx.zeros((*value.shape[:-1], 1)) for name, value in w.items()}
    column = {name: mx.zeros((*value.shape[:-2], 1, value.shape[-1])) for name, value in w.items()}
    return OptimizerState({"row": row, "column": column}, {"n": mx.array(0.0)})


def _adafactor(w: Tensors, g: Tensors, old: OptimizerState, lr: mx.array, decay: float) -> Result:
    """Adam without m, its v factored into the means of rows and columns: the state is tiny.

        b = 1 - n^-0.8          R <- b R + (1 - b) mean over columns (g^2 + e)          C <- ... mean over rows
        u = g / sqrt(R C / mean(R))          u <- u / max(1, rms(u))          w <- w - lr (u + decay w)

    lr is absolute, not relative to the size of w, since B begins at zero. The last two axes of an array are a matrix.

    Source: Shazeer and Stern 2018, arXiv:1804.04235.
    """
    keep = 1.0 - mx.power(old.numbers["n"], ADAFACTOR_POWER)
    new_w, row, column = {}, {}, {}
    for name, value in w.items():
        square = g[name].square() + ADAFACTOR_EPSILON
        row[name] = keep * old.tensors["row"][name] + (1 - keep) * square.mean(axis=-1, keepdims=True)
        column[name] = keep * old.tensors["column"][name] + (1 - keep) * square.mean(axis=-2, keepdims=True)
        # Two roots: the product of two small means can be below float32's smallest number.
        u = g[name] * mx.rsqrt(row[name] / row[name].mean(axis=-2, keepdims=True)) * mx.rsqrt(column[name])
        rms = mx.sqrt(u.square().mean(axis=(-2, -1), keepdims=True))
        new_w[name] = value - lr * (u / mx.maximum(1.0, rms) + decay * value)
    return new_w, OptimizerState({"row": row, "column": column}, old.numbers)


# Lion


def _init_lion(w: Tensors) -> OptimizerState:
    return OptimizerState({"m": _zeros(w)}, {"n": mx.array(0.0)})


def _lion(w: Tensors, g: Tensors, old: OptimizerState, lr: mx.array, decay: float) -> Result:
    """Each weight moves by the same amount, in the direction of the recent gradients; half of Adam's memory.

        w <- w - lr (sign(b1 m + (1 - b1) g) + decay w)          m <- b2 m + (1 - b2) g

    Source: Chen et al. 2023, arXiv:2302.06675.
    """
    new_w, m = {}, {}
    for name, value in w.items():
        before = old.tensors["m"][name]
        new_w[name] = value - lr * (mx.sign(LION_BETA_1 * before + (1 - LION_BETA_1) * g[name]) + decay * value)
        m[name] = LION_BETA_2 * before + (1 - LION_BETA_2) * g[name]
    return new_w, OptimizerState({"m": m}, old.numbers)


# Prodigy


def _init_prodigy(w: Tensors) -> OptimizerState:
    tensors = {"m": _zeros(w), "v": _zeros(w), "s": _zeros(w), "begin": dict(w)}
    return OptimizerState(tensors, {"n": mx.array(0.0), "d": mx.array(PRODIGY_D_0), "r": mx.array(0.0)})


def _prodigy(w: Tensors, g: Tensors, old: OptimizerState, lr: mx.array, decay: float) -> Result:
    """Adam that estimates its learning rate d from the distance to the initial weights; lr is a factor near 1 on it.

        k = d lr sqrt(1 - b2^n) / (1 - b1^n)          q = d / d_0
        r  <- sqrt(b2) r + q k <g, w_0 - w>           s <- sqrt(b2) s + q d g
        m  <- b1 m + (1 - b1) d g                     v <- b2 v + (1 - b2) (d g)^2
        d' <- max(d, r / |s|_1)                       w <- w - k (m / (sqrt(v) + d' e) + decay w)

    w_0 are the initial weights; <, > and |.|_1 are over the whole adapter. s is without lr, so that a warm-up does not
    raise d.

    Source: Mishchenko and Defazio 2023, arXiv:2306.06101.
    """
    n, d = old.numbers["n"], old.numbers["d"]
    k = d * lr * mx.sqrt(_one_minus_power(BETA_2, n)) / _one_minus_power(BETA_1, n)
    q, lasting = d / PRODIGY_D_0, math.sqrt(BETA_2)
    begin = old.tensors["begin"]
    m, v, s, products, sizes = {}, {}, {}, [], []
    for name, value in w.items():
        m[name] = BETA_1 * old.tensors["m"][name] + (1 - BETA_1) * d * g[name]
        v[name] = BETA_2 * old.tensors["v"][name] + (1 - BETA_2) * (d * g[name]).square()
        s[name] = lasting * old.tensors["s"][name] + q * d * g[name]
        products.append(total(g[name] * (begin[name] - value)))
        sizes.append(total(mx.abs(s[name])))
    r, size = lasting * old.numbers["r"] + q * k * mx.stack(products).sum(), mx.stack(sizes).sum()
    new_d = mx.where(size > 0, mx.maximum(d, r / mx.where(size > 0, size, 1.0)), d)
    new_w = {
        name: value - k * (m[name] / (mx.sqrt(v[name]) + new_d * EPSILON) + decay * value) for name, value in w.items()
    }
    return new_w, OptimizerState({"m": m, "v": v, "s": s, "begin": begin}, {"n": n, "d": new_d, "r": r})


OPTIMIZERS: dict[OptimizerName, Optimizer] = {
    "adamw": Optimizer(_init_adamw, _adamw),
    "adafactor": Optimizer(_init_adafactor, _adafactor, matrices=True),
    "lion": Optimizer(_init_lion, _lion),
    "prodigy": Optimizer(_init_prodigy, _prodigy),
}
"""By the value of the knob `optimizer`."""
