"""Attention and its gradient, without a large matrix of all scores in memory.

    attention    p = softmax(scale q k^T);   out = p v
    gradient     dv = p^T g;   ds = p (g v^T - sum(g out));   dq = scale ds k;   dk = scale ds^T q

    CUDA, 16 bits             MLX's kernel, fused in both directions (cuDNN)
    Metal, no mask            the same, where the self-test found that gradient right and without a matrix of all scores
    scores of few bytes       MLX's kernel; on a Linux CPU powers of two, whose e^x serve the gradient too
    scores of many bytes      chunks of queries; each sees all keys, and its gradient computes the scores again

MLX's kernel is fused forward everywhere, but on CPUs, and on Metal before 0.32.4 or with a mask, its gradient holds p
and ds: B H S S numbers each, which at 1,024 px is 1 GB for one block of FLUX.1. Where the self-test found MLX's kernel
or its gradient wrong (core/device/capabilities.py), chunks are used for all sizes.

Shapes   B batch   H heads   S tokens   Q queries of a chunk   d width of a head
Dtypes   as q, k, v; sums over chunks in float32

Source: Rabe and Staats 2021, arXiv:2112.05682.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import mlx.core as mx

from core.device.backend import prepare
from core.device.capabilities import has, uses
from core.device.working_set import CHUNK_ON_CPU, SCORES_AT_MOST
from core.numerics.exponentials import LOG2_E, power_of_two, uses_powers_of_two
from core.numerics.functional import custom_function
from core.numerics.staged_eval import mark


def attention(
    q_BHSd: mx.array, k_BHSd: mx.array, v_BHSd: mx.array, scale: float, mask_B11S: mx.array | None = None
) -> mx.array:
    """softmax(scale q k^T) v: (B, H, S, d). Every token sees every other, or those for which the bool mask is True."""
    mask = [] if mask_B11S is None else [mask_B11S]
    many_bytes = _bytes_of_scores(q_BHSd, k_BHSd) > SCORES_AT_MOST and not _has_fused_gradient(q_BHSd, mask_B11S)
    if many_bytes or not uses("attention") or not uses("attention_gradient"):
        return in_chunks(scale)(q_BHSd, k_BHSd, v_BHSd, *mask)
    if uses_powers_of_two(q_BHSd):
        return _by_powers(q_BHSd * scale, k_BHSd, v_BHSd, *mask)[0]
    return mx.fast.scaled_dot_product_attention(q_BHSd, k_BHSd, v_BHSd, scale=scale, mask=mask_B11S)


def scaled_attention(
    q_BHSd: mx.array, k_BKSd: mx.array, v_BKSd: mx.array, scale: float, mask: mx.array | str | None
) -> mx.array:
    """softmax(scale q k^T + mask) v of text encoders, without a gradient.

    The mask is added, or bool, or "causal"; several heads of queries may share one of keys and values.
    """
    if uses("attention"):
        return mx.fast.scaled_dot_product_attention(q_BHSd, k_BKSd, v_BKSd, scale=scale, mask=mask)
    shared = q_BHSd.shape[1] // k_BKSd.shape[1]
    k_BHSd, v_BHSd = (mx.repeat(each, shared, axis=1) for each in (k_BKSd, v_BKSd))
    scores = ((q_BHSd * scale) @ k_BHSd.swapaxes(-1, -2)).astype(mx.float32)
    if isinstance(mask, str):
        queries, keys = scores.shape[-2:]
        mask = mx.arange(keys) <= mx.arange(keys - queries, keys)[:, None]
    if mask is not None:
        scores = mx.where(mask, scores, mx.finfo(scores.dtype).min) if mask.dtype == mx.bool_ else scores + mask
    return mx.softmax(scores, axis=-1).astype(v_BHSd.dtype) @ v_BHSd


def _has_fused_gradient(q_BHSd: mx.array, mask_B11S: mx.array | None) -> bool:
    """Whether MLX's gradient holds no matrix of all scores: by cuDNN in 16 bits; on Metal without a mask."""
    device = prepare().device
    if device == "cuda":
        return q_BHSd.dtype != mx.float32
    return device == "metal" and mask_B11S is None and has("fused_gradient")


@custom_function
def contiguous_gradient(x: mx.array) -> mx.array:
    """x itself; its gradient is row-contiguous, even where it is a slice of a wider array.

    MLX 0.32's CUDA attention needs it: it caches the plan of a backward pass by the layouts of q, k and v alone, and
    would read a later gradient with the strides of the first one.
    """
    return x


@contiguous_gradient.vjp
def _contiguous(_x: mx.array, g: mx.array, _y: mx.array) -> mx.array:
    g = mx.contiguous(g)
    mark(g)
    return g


# Chunks of queries


@functools.cache
def in_chunks(scale: float) -> Callable[..., mx.array]:
    """The function of q, k, v and, where there is one, the mask."""

    @custom_function
    def attended(q: mx.array, k: mx.array, v: mx.array, *mask: mx.array) -> mx.array:
        parts: list[mx.array] = []
        for each in _chunks(q, k, q):
            (q_BHQd,) = mx.depends(list(each), parts[-1:])
            parts.append(_forward(q_BHQd, k, v, scale, mask))
            mark(parts[-1])
        return mx.concatenate(parts, axis=2)

    @attended.vjp
    def _gradient(primals: Sequence[mx.array], g: mx.array, out: mx.array) -> tuple[mx.array, ...]:
        q, k, v, *mask = primals
        dq: list[mx.array] = []
        dk, dv = (mx.zeros(each.shape, dtype=mx.float32) for each in (k, v))
        for each in _chunks(q, k, q, g, out):
            # Chunks depend on each other, or MLX would allocate the scores of many at once.
            q_BHQd, g_BHQd, out_BHQd = mx.depends(list(each), [dk, dv, *dq[-1:]])
            p_BHQS = _softmax(q_BHQd, k, scale, mask)
            mark(p_BHQS)
            dv = dv + p_BHQS.swapaxes(-1, -2) @ g_BHQd
            sum_BHQ1 = (g_BHQd.astype(mx.float32) * out_BHQd.astype(mx.float32)).sum(axis=-1, keepdims=True)
            ds_BHQS = (p_BHQS * ((g_BHQd @ v.swapaxes(-1, -2)) - sum_BHQ1) * scale).astype(q.dtype)
            dq.append(ds_BHQS @ k)
            dk = dk + ds_BHQS.swapaxes(-1, -2) @ q_BHQd
            mark(dq[-1], dk, dv)
        of_mask = (mx.zeros_like(each) for each in mask)
        return mx.concatenate(dq, axis=2), dk.astype(k.dtype), dv.astype(v.dtype), *of_mask

    return attended


def _chunks(q: mx.array, k: mx.array, *arrays: mx.array) -> Iterator[tuple[mx.array, ...]]:
    """`arrays` of S queries in equal parts of Q: as few as keep the scores of a part small enough."""
    queries = q.shape[2]
    at_most = min(SCORES_AT_MOST, CHUNK_ON_CPU) if prepare().device == "cpu" else SCORES_AT_MOST
    count = min(queries, -(-_bytes_of_scores(q, k) // at_most))
    ends = tuple(queries * (number + 1) // count for number in range(count - 1))
    return zip(*(each.split(ends, axis=2) for each in arrays), strict=True)


def _bytes_of_scores(q_BHSd: mx.array, k_BHSd: mx.array) -> int:
    batch, heads, queries, _ = q_BHSd.shape
    return batch * heads * queries * k_BHSd.shape[2] * q_BHSd.dtype.size


def _forward(q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Sequence[mx.array]) -> mx.array:
    """out of one chunk: MLX's kernel, except where its exponentials are slow."""
    if uses_powers_of_two(q) or not uses("attention"):
        return _softmax(q, k, scale, mask) @ v
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask[0] if mask else None)


def _softmax(q: mx.array, k: mx.array, scale: float, mask: Sequence[mx.array]) -> mx.array:
    """p, in the dtype of q; its sums in float32."""
    scores = (q * scale) @ k.swapaxes(-1, -2)
    if mask:
        scores = mx.where(mask[0], scores, mx.finfo(scores.dtype).min)
    if not uses_powers_of_two(q):
        return mx.softmax(scores, axis=-1, precise=True)
    e = power_of_two((scores - scores.max(axis=-1, keepdims=True)) * LOG2_E)
    return e / e.sum(axis=-1, keepdims=True)


# Powers of two


@custom_function
def _by_powers(q: mx.array, k: mx.array, v: mx.array, *mask: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """(out, e, sum of e); e / sum is the softmax. `q` is scaled already."""
    scores = (q * LOG2_E) @ k.swapaxes(-1, -2)
    if mask:
        scores = mx.where(mask[0], scores, mx.finfo(scores.dtype).min)
    e = power_of_two(scores - scores.max(axis=-1, keepdims=True))
    total = e.sum(axis=-1, keepdims=True)
    out = (e @ v) / total
    mark(out)
    return out, e, total


@_by_powers.vjp
def _by_powers_gradient(
    primals: Sequence[mx.array], cotangents: Sequence[mx.array], outputs: Sequence[mx.array]
) -> tuple[mx.array, ...]:
    q, k, v, *mask = primals
    out, e, total = outputs
    g = cotangents[0] / total  # g is divided in the place of e: it has fewer numbers
    ds = e * (g @ v.swapaxes(-1, -2) - (g * out).sum(axis=-1, keepdims=True))
    gradients = (ds @ k, ds.swapaxes(-1, -2) @ q, e.swapaxes(-1, -2) @ g)
    mark(*gradients)
    return *gradients, *(mx.zeros_like(each) for each in mask)
