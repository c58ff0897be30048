"""Normalization, embedding and convolution: MLX's kernels, and plain operations where the self-test found those wrong.

    layer_norm   (x - mean) / sqrt(var + epsilon) * weight + bias          over the last axis
    rms_norm     x / sqrt(mean(x^2) + epsilon) * weight                    over the last axis
    embedding    row id of the table                                       as a product with one-hot rows
    conv2d       sum over kernel rows and columns of shifted x times W     as matrix products

`RMSNorm`, `LayerNorm`, `Embedding` and `Conv2d` are MLX's modules with these functions.

Shapes   B batch   H W pixels   C D channels in and out; MLX keeps channels last, and weights as (D, rows, columns, C)
Dtypes   as x; the plain normalizations compute in float32
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from core.device.capabilities import uses

ONE_HOT_AT_ONCE = 64  # tokens whose one-hot rows exist at once: they are as wide as the vocabulary


def layer_norm(x: mx.array, weight: mx.array | None, bias: mx.array | None, epsilon: float) -> mx.array:
    """Mean 0 and variance 1 over the last axis, times weight plus bias."""
    if uses("norm"):
        return mx.fast.layer_norm(x, weight, bias, epsilon)
    wide = x.astype(mx.float32)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    y = centred / mx.sqrt(centred.square().mean(axis=-1, keepdims=True) + epsilon)
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).astype(x.dtype)


def rms_norm(x: mx.array, weight: mx.array | None, epsilon: float) -> mx.array:
    """Mean square 1 over the last axis, times weight."""
    if uses("norm"):
        return mx.fast.rms_norm(x, weight, epsilon)
    wide = x.astype(mx.float32)
    y = wide / mx.sqrt(wide.square().mean(axis=-1, keepdims=True) + epsilon)
    return (y if weight is None else y * weight).astype(x.dtype)


def embed(table_VC: mx.array, ids: mx.array) -> mx.array:
    """The rows `ids` of the table."""
    if uses("embedding"):
        return table_VC[ids]
    rows, places = [], mx.arange(table_VC.shape[0])
    flat = ids.reshape(-1)
    for start in range(0, flat.size, ONE_HOT_AT_ONCE):
        one_hot = flat[start : start + ONE_HOT_AT_ONCE, None] == places
        rows.append(one_hot.astype(table_VC.dtype) @ table_VC)
    return mx.concatenate(rows).reshape(*ids.shape, -1)


def conv2d(
    x_BHWC: mx.array, weight_DRSC: mx.array, stride: int = 1, padding: tuple[tuple[int, int], ...] = ((0, 0), (0, 0))
) -> mx.array:
    """The convolution with so many zeros before and after rows, and columns."""
    if uses("convolution"):
        before, after = ([side[end] for side in padding] for end in (0, 1))
        return mx.conv_general(x_BHWC, weight_DRSC, stride=stride, padding=(before, after))
    padded = mx.pad(x_BHWC, [(0, 0), *padding, (0, 0)])
    rows, columns = weight_DRSC.shape[1:3]
    height, width = ((padded.shape[1 + axis] - size) // stride + 1 for axis, size in enumerate((rows, columns)))
    total = mx.zeros((x_BHWC.shape[0], height, width, weight_DRSC.shape[0]), dtype=mx.float32)
    for row in range(rows):
        for column in range(columns):
            seen = padded[:, row : row + height * stride : stride, column : column + width * stride : stride]
            total = total + seen @ weight_DRSC[:, row, column].T
    return total.astype(x_BHWC.dtype)


class LayerNorm(nn.LayerNorm):
    """MLX's module with `layer_norm`."""

    def __call__(self, x: mx.array) -> mx.array:
        return layer_norm(x, self.get("weight"), self.get("bias"), self.eps)


class RMSNorm(nn.RMSNorm):
    """MLX's module with `rms_norm`."""

    def __call__(self, x: mx.array) -> mx.array:
        return rms_norm(x, self["weight"], self.eps)


class Embedding(nn.Embedding):
    """MLX's module with `embed`."""

    def __call__(self, ids: mx.array) -> mx.array:
        return embed(self["weight"], ids)


class Conv2d(nn.Conv2d):
    """MLX's module with `conv2d`: square strides, the same zeros on every side."""

    def __call__(self, x_BHWC: mx.array) -> mx.array:
        side = (self.padding[0], self.padding[0]), (self.padding[1], self.padding[1])
        y = conv2d(x_BHWC, self["weight"], self.stride[0], side)
        return y + self["bias"] if "bias" in self else y
