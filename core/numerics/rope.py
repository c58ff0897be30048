"""Rotary embedding: each pair of numbers of q and k is rotated by an angle that grows with the token's position.

    y_2i   = x_2i   cos a_i - x_2i+1 sin a_i          a = position * theta^(-2i / d), for each axis
    y_2i+1 = x_2i+1 cos a_i + x_2i   sin a_i          the gradient rotates by -a

MLX fuses the arithmetic into one kernel per tensor, but because neighbours in memory are swapped, that kernel follows
strides number by number. On CUDA the kernel below handles one pair per thread: on an H200 it takes 75 us for the
queries of four photos at 512 px, where MLX's takes 273. bench/kernels.py compares the two.

Shapes   B batch   H heads   S tokens   A axes of a position   d = width of a head
Dtypes   table and arithmetic are float32; the result has the dtype of its input

Source: Su et al. 2021, arXiv:2104.09864.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from core.device.backend import compile_step, prepare
from core.device.capabilities import uses
from core.numerics.functional import custom_function

Rotary = tuple[mx.array, mx.array]
"""For every position cos of its angles, each twice, and -sin, sin in turn: float32 (S, d) each, or (B, 1, S, d)."""

PAIR = """
    uint32_t pair = cooperative_groups::this_grid().thread_rank();  // in the order of y, which is row-contiguous
    uint32_t heads = x_shape[1], tokens = x_shape[2], half = x_shape[3] / 2;
    if (pair >= x_shape[0] * heads * tokens * half) return;
    uint32_t i = 2 * (pair % half), s = pair / half % tokens, h = pair / half / tokens % heads;
    uint32_t b = pair / half / tokens / heads;
    int64_t here = b * x_strides[0] + h * x_strides[1] + s * x_strides[2] + i * x_strides[3];
    int64_t c = b * cos_strides[0] + s * cos_strides[2] + i * cos_strides[3];
    int64_t z = b * sin_strides[0] + s * sin_strides[2] + i * sin_strides[3];
    float even = x[here], odd = x[here + x_strides[3]];
    float even_sin = sin[z], odd_sin = sin[z + sin_strides[3]];
    if (BACK) { even_sin = -even_sin; odd_sin = -odd_sin; }
    y[2 * pair] = even * cos[c] + odd * even_sin;
    y[2 * pair + 1] = odd * cos[c + cos_strides[3]] + even * odd_sin;
"""
THREADS = 256  # per block


def angles(ids_SA: mx.array, axes_dims: tuple[int, ...], theta: float = 10_000.0) -> mx.array:
    """position * theta^(-2i/d_axis) for i in range(d_axis / 2), for each axis in turn: float32 (S, d / 2).

    `ids_SA` may have more axes before S; the result then has them too.
    """
    per_axis = []
    for axis, dim in enumerate(axes_dims):
        # Python's floats: frequencies are few, and float32 powers would cost digits at far positions.
        frequencies = mx.array([theta ** (-2 * i / dim) for i in range(dim // 2)], dtype=mx.float32)
        per_axis.append(ids_SA[..., axis, None].astype(mx.float32) * frequencies)
    return mx.concatenate(per_axis, axis=-1)


def rotary_table(ids_SA: mx.array, axes_dims: tuple[int, ...], theta: float = 10_000.0) -> Rotary:
    """The table that `rotate` takes."""
    angles_Sd = angles(ids_SA, axes_dims, theta)
    cos, sin = mx.cos(angles_Sd), mx.sin(angles_Sd)
    return mx.repeat(cos, 2, axis=-1), mx.stack([-sin, sin], axis=-1).reshape(*sin.shape[:-1], -1)


@custom_function
def rotate(x_BHSd: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """Rotate each pair (x_2i, x_2i+1) by the angle of its position."""
    return _rotated(x_BHSd, cos, sin)


@rotate.vjp
def _rotate_gradient(primals: Sequence[mx.array], g: mx.array, _y: mx.array) -> tuple[mx.array, ...]:
    _, cos, sin = primals
    return _rotated(g, cos, sin, back=True), mx.zeros_like(cos), mx.zeros_like(sin)  # the table is constant


def _rotated(x_BHSd: mx.array, cos: mx.array, sin: mx.array, back: bool = False) -> mx.array:
    if not uses("rotation"):
        return _plainly_rotated(x_BHSd, cos, -sin if back else sin)
    if prepare().device == "cuda":
        cos, sin = (mx.broadcast_to(each, x_BHSd.shape) for each in (cos, sin))
        return pair_kernel()(
            inputs=[x_BHSd, cos, sin],
            template=[("BACK", back)],
            grid=(x_BHSd.size // 2, 1, 1),
            threadgroup=(THREADS, 1, 1),
            output_shapes=[x_BHSd.shape],
            output_dtypes=[x_BHSd.dtype],
        )[0]
    return rotate_with_mlx(x_BHSd, cos, -sin if back else sin)


def rotate_with_mlx(x_BHSd: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """`rotate` in MLX's own operations."""
    pairs, cos, sin = (each.reshape(*each.shape[:-1], -1, 2) for each in (x_BHSd, cos, sin))
    return _fused()(pairs, pairs[..., ::-1], cos, sin).reshape(x_BHSd.shape)


def _plainly_rotated(x_BHSd: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """`rotate` by even and odd numbers, without a compiled function."""
    even, odd = (x_BHSd[..., start::2].astype(mx.float32) for start in (0, 1))
    cos_i, sin_i = cos[..., ::2], sin[..., 1::2]
    pairs = mx.stack([even * cos_i - odd * sin_i, odd * cos_i + even * sin_i], axis=-1)
    return pairs.reshape(x_BHSd.shape).astype(x_BHSd.dtype)


@functools.cache
def pair_kernel() -> Callable[..., list[mx.array]]:
    """The CUDA kernel. Its arguments keep their strides, so none is copied to be row-contiguous."""
    kernel: Any = mx.fast.cuda_kernel(
        name="rotate_pairs",
        input_names=["x", "cos", "sin"],
        output_names=["y"],
        source=PAIR,
        ensure_row_contiguous=False,
    )
    rotate_pairs: Callable[..., list[mx.array]] = kernel
    return rotate_pairs


@functools.cache
def _fused() -> Callable[..., mx.array]:
    return compile_step(
        lambda x, swapped, cos, sin: (x.astype(mx.float32) * cos + swapped.astype(mx.float32) * sin).astype(x.dtype)
    )
