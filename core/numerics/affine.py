"""Affine quantization in plain operations, for computers where the self-test found MLX's own wrong.

    w = scale q + bias      q = 0 ... 2^bits - 1, a stream of bits from the lowest of the first word on

Shapes   O out   I in   G = I / group   P = I bits / 32 words of 32 bits
"""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx

WORD = 32
ROWS_AT_ONCE = 256  # a row's bits take 32 times its words


def unpack(weight_OP: mx.array, scales_OG: mx.array, biases_OG: mx.array, bits: int) -> mx.array:
    """W_OI, in the dtype of its scales."""
    parts = []
    for words, scales, biases in _rows(weight_OP, scales_OG, biases_OG):
        each_bit = (words[..., None] >> mx.arange(WORD, dtype=mx.uint32)) & 1
        q = _numbers(each_bit.reshape(words.shape[0], -1, bits)).astype(mx.float32)
        q = q.reshape(*scales.shape, -1)
        parts.append((q * scales[..., None] + biases[..., None]).reshape(words.shape[0], -1).astype(scales_OG.dtype))
    return mx.concatenate(parts)


def pack(weight_OI: mx.array, bits: int, group: int) -> tuple[mx.array, mx.array, mx.array]:
    """W_OP, scales_OG and biases_OG: the least of a group is its bias, and the steps up to the largest are equal."""
    packed: list[tuple[mx.array, mx.array, mx.array]] = []
    for (rows,) in _rows(weight_OI):
        w = rows.astype(mx.float32).reshape(rows.shape[0], -1, group)
        least = w.min(axis=-1)
        step = mx.maximum((w.max(axis=-1) - least) / (2**bits - 1), 1e-20)
        scale, bias = (each.astype(weight_OI.dtype) for each in (step, least))
        q = mx.round((w - bias.astype(mx.float32)[..., None]) / scale.astype(mx.float32)[..., None])
        q = mx.clip(q, 0, 2**bits - 1).astype(mx.uint32)
        each_bit = (q[..., None] >> mx.arange(bits, dtype=mx.uint32)) & 1
        packed.append((_numbers(each_bit.reshape(rows.shape[0], -1, WORD)), scale, bias))
        mx.eval(packed[-1])
    words, scales, biases = (mx.concatenate(list(each)) for each in zip(*packed, strict=True))
    return words, scales, biases


def _numbers(bits: mx.array) -> mx.array:
    """Unsigned numbers from their bits along the last axis, the lowest first."""
    return (bits << mx.arange(bits.shape[-1], dtype=mx.uint32)).sum(axis=-1).astype(mx.uint32)


def _rows(*arrays: mx.array) -> Iterator[tuple[mx.array, ...]]:
    for start in range(0, arrays[0].shape[0], ROWS_AT_ONCE):
        yield tuple(each[start : start + ROWS_AT_ONCE] for each in arrays)
