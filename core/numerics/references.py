"""What MLX's kernels compute, in numpy and float64: the references of the self-test (core/self_test.py).

Shapes   as the functions in core/numerics/ that they stand beside; gradients follow the value, in argument order
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray[Any, np.dtype[np.float64]]
GELU = 2 * math.sqrt(2 / math.pi)


def attention(q: Array, k: Array, v: Array, g: Array, scale: float, seen: int) -> list[Array]:
    """softmax(scale q k^T) v over the first `seen` keys, and dq, dk, dv."""
    scores = scale * (q @ k.swapaxes(-1, -2))
    scores[..., seen:] = -np.inf
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    out = p @ v
    ds = p * (g @ v.swapaxes(-1, -2) - (g * out).sum(axis=-1, keepdims=True)) * scale
    return [out, ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def silu(x: Array, g: Array) -> list[Array]:
    s = sigmoid(x)
    return [x * s, g * (s + x * s * (1 - s))]


def gelu_tanh(x: Array, g: Array) -> list[Array]:
    s = sigmoid(GELU * (x + 0.044715 * x**3))
    return [x * s, g * (s + x * s * (1 - s) * GELU * (1 + 3 * 0.044715 * x**2))]


def layer_norm(x: Array, g: Array, epsilon: float) -> list[Array]:
    y, dx = rms_norm(x - x.mean(axis=-1, keepdims=True), g, np.ones(x.shape[-1]), epsilon)
    return [y, dx - dx.mean(axis=-1, keepdims=True)]


def rms_norm(x: Array, g: Array, weight: Array, epsilon: float) -> list[Array]:
    deviation = np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + epsilon)
    unit, g_unit = x / deviation, g * weight
    return [unit * weight, (g_unit - unit * (g_unit * unit).mean(axis=-1, keepdims=True)) / deviation]


def rotate(x: Array, theta: float, back: bool = False) -> Array:
    """Rotary embedding of tokens at positions 0, 1, ..."""
    tokens, width = x.shape[-2:]
    angles = np.arange(tokens)[:, None] * theta ** (-2 * np.arange(width // 2) / width)
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(-1j * angles if back else 1j * angles)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def conv2d(x_BHWC: Array, weight_DRSC: Array, stride: int, zeros: int) -> Array:
    """With so many zeros on every side."""
    padded = np.pad(x_BHWC, [(0, 0), (zeros, zeros), (zeros, zeros), (0, 0)])
    size = weight_DRSC.shape[1]
    seen = sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    batch, height, width = seen.shape[:3]
    columns = seen.transpose(0, 1, 2, 4, 5, 3).reshape(batch * height * width, -1)
    return (columns @ weight_DRSC.reshape(weight_DRSC.shape[0], -1).T).reshape(batch, height, width, -1)


def unpack(words: np.ndarray[Any, Any], scales: Array, biases: Array, bits: int) -> Array:
    """An affine quantized matrix; `words` are 32-bit numbers."""
    rows = words.shape[0]
    stream = np.unpackbits(np.ascontiguousarray(words.astype("<u4")).view(np.uint8), axis=1, bitorder="little")
    q = stream.reshape(rows, -1, bits) @ (2.0 ** np.arange(bits))
    whole = q.reshape(rows, scales.shape[1], -1) * scales[..., None] + biases[..., None]
    unpacked: Array = whole.reshape(rows, -1)
    return unpacked
