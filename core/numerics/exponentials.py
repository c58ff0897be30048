"""The functions of a network that take exponentials: sigmoid, silu, gelu; softmax is in core/numerics/attention.py.

    sigmoid(x)    = 1 / (1 + e^-x)
    silu(x)       = x sigmoid(x)                        silu' = s + x s (1 - s)
    gelu_tanh(x)  = x/2 (1 + tanh(u)) = x sigmoid(2u)   u = sqrt(2/pi) (x + 0.044715 x^3)

On a Linux CPU MLX computes exponentials one number at a time, 14 ns each, which is most of a small model's step; a
power of two takes 5 ns, a sum or product 0.2 ns. There e^x is computed as 2^(x log2 e), and gradients reuse the
exponentials of the forward pass. Everywhere else, and in 16 bits, these are MLX's own functions.
`bench/exponentials.py` measures it: gelu with its gradient 12.3 -> 2.5 ms, attention 12.6 -> 5 ms at 288 tokens.
"""

from __future__ import annotations

import functools
import math
import platform
from collections.abc import Sequence

import mlx.core as mx

from core.device.backend import prepare
from core.device.capabilities import uses
from core.numerics.functional import custom_function
from core.numerics.staged_eval import mark, mark_forward

LOG2_E = 1.0 / math.log(2.0)
GELU_1 = 2.0 * math.sqrt(2.0 / math.pi)  # 2u = GELU_1 x + GELU_3 x^3
GELU_3 = GELU_1 * 0.044715


@functools.cache
def exponentials_are_slow() -> bool:
    """Whether MLX computes exponentials one number at a time on this device."""
    return prepare().device == "cpu" and platform.system() == "Linux"


def sigmoid(x: mx.array) -> mx.array:
    """1 / (1 + e^-x)."""
    if uses_powers_of_two(x):
        return _sigmoid_by_powers(x)
    return mx.sigmoid(x) if uses("exponentials") else _plain_sigmoid(x)


def silu(x: mx.array) -> mx.array:
    """x sigmoid(x)."""
    return _silu_by_powers(x)[0] if uses_powers_of_two(x) else x * sigmoid(x)


def gelu_tanh(x: mx.array) -> mx.array:
    """GELU in its tanh form, as in FLUX.1 and T5 v1.1."""
    return _gelu_by_powers(x)[0] if uses_powers_of_two(x) else x * sigmoid(x * (GELU_1 + GELU_3 * (x * x)))


def uses_powers_of_two(x: mx.array) -> bool:
    """Whether exponentials of this array are computed as powers of two."""
    return x.dtype == mx.float32 and exponentials_are_slow() and uses("exponentials")


def power_of_two(x: mx.array) -> mx.array:
    """2^x, float32."""
    return mx.power(mx.array(2.0, dtype=mx.float32), x)


def _plain_sigmoid(x: mx.array) -> mx.array:
    """In float32, by e^x alone."""
    return (1.0 / (1.0 + mx.exp(-x.astype(mx.float32)))).astype(x.dtype)


def _sigmoid_by_powers(x: mx.array) -> mx.array:
    return 1.0 / (1.0 + power_of_two(-LOG2_E * x))  # far below zero the power is inf, and 1 / inf is 0


# Each returns its value and the sigmoid, which its gradient reuses.


@custom_function
def _silu_by_powers(x: mx.array) -> tuple[mx.array, mx.array]:
    s = _sigmoid_by_powers(x)
    y = x * s
    mark_forward(y)
    return y, s


@_silu_by_powers.vjp
def _silu_gradient(x: mx.array, cotangents: Sequence[mx.array], outputs: Sequence[mx.array]) -> mx.array:
    y, s = outputs
    gradient = cotangents[0] * (s + y * (1.0 - s))
    mark(gradient)
    return gradient


@custom_function
def _gelu_by_powers(x: mx.array) -> tuple[mx.array, mx.array]:
    mark_forward(x)
    s = 1.0 / (1.0 + power_of_two(x * (-LOG2_E * GELU_1 - LOG2_E * GELU_3 * (x * x))))
    return x * s, s


@_gelu_by_powers.vjp
def _gelu_gradient(x: mx.array, cotangents: Sequence[mx.array], outputs: Sequence[mx.array]) -> mx.array:
    g, s = cotangents[0], outputs[1]
    mark(g)
    share = x * (1.0 - s)
    mark(share)  # the square below can then reuse the memory of x
    gradient = g * (s * (1.0 + share * (GELU_1 + 3.0 * GELU_3 * mx.square(x))))
    mark(gradient)
    return gradient
