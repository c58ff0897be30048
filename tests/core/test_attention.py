"""Every way to compute attention is the same function with the same gradient; the chunked one saves memory."""

from __future__ import annotations

import mlx.core as mx
import pytest

from core.numerics import attention, exponentials
from core.numerics.functional import custom_function
from tests.peak import peak

SCALE = 8**-0.5


def arrays(tokens: int, dtype: mx.Dtype = mx.float32) -> list[mx.array]:
    return [mx.random.normal((2, 3, tokens, 8), key=mx.random.key(i)).astype(dtype) for i in range(4)]


def seen(tokens: int) -> mx.array:
    """Two texts of different lengths: not every token is there for the second one."""
    return (mx.arange(tokens)[None] < mx.array([[tokens], [tokens - 3]]))[:, None, None]


def by_hand(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | None) -> mx.array:
    scores = (q @ k.swapaxes(-1, -2)) * SCALE
    return mx.softmax(scores if mask is None else mx.where(mask, scores, -mx.inf), axis=-1) @ v


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("at_most", [2**30, 2 * 3 * 2 * 11 * 4, 1], ids=["whole", "two queries", "one query"])
@pytest.mark.parametrize("slow", [False, True])
def test_values_and_gradients_agree(monkeypatch: pytest.MonkeyPatch, slow: bool, at_most: int, masked: bool) -> None:
    monkeypatch.setattr(exponentials, "exponentials_are_slow", lambda: slow)
    monkeypatch.setattr(attention, "SCORES_AT_MOST", at_most)
    q, k, v, g = arrays(11)
    mask = seen(11) if masked else None
    ours = mx.vjp(lambda *qkv: attention.attention(*qkv, SCALE, mask), [3.0 * q, k, v], [g])
    plain = mx.vjp(lambda *qkv: by_hand(*qkv, mask), [3.0 * q, k, v], [g])
    for one, other in zip([*ours[0], *ours[1]], [*plain[0], *plain[1]], strict=True):
        assert (mx.abs(one - other) / (1.0 + mx.abs(other))).max().item() <= 1e-5


def test_16_bits_stay_16_bits_and_lose_no_more_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = mx.vjp(lambda *qkv: by_hand(*qkv, None), arrays(40)[:3], arrays(40)[3:])[1]
    off = []
    for at_most in (2**30, 1000):
        monkeypatch.setattr(attention, "SCORES_AT_MOST", at_most)
        q, k, v, g = arrays(40, mx.bfloat16)
        found = mx.vjp(lambda *qkv: attention.attention(*qkv, SCALE), [q, k, v], [g])[1]
        assert all(each.dtype == mx.bfloat16 for each in found)
        off.append(sum(mx.abs(one - other).mean().item() for one, other in zip(found, exact, strict=True)))
    assert off[1] <= 1.1 * off[0]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_square_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SCORES_AT_MOST", 2**20)
    peaks = []
    for tokens in (512, 1024):
        q, k, v, g = (mx.random.normal((1, 4, tokens, 16)) for _ in range(4))
        mx.eval(q, k, v, g)
        with peak() as taken:
            mx.eval(mx.vjp(lambda *qkv: attention.attention(*qkv, SCALE), [q, k, v], [g])[1])
        peaks.append(taken.over)
    assert peaks[1] < 2 * peaks[0]  # four times the scores


def test_the_gradient_that_attention_gets_is_row_contiguous() -> None:
    """MLX's CUDA attention reads it with the strides of an earlier one, and a single block's is a slice."""
    seen_by_layer: list[mx.array] = []

    @custom_function
    def layer(x: mx.array) -> mx.array:
        return x

    @layer.vjp
    def gradient(_x: mx.array, g: mx.array, _y: mx.array) -> mx.array:
        seen_by_layer.append(g)
        return g

    def loss(x: mx.array, y: mx.array) -> mx.array:
        return mx.concatenate([attention.contiguous_gradient(layer(x)), y], axis=-1).square().sum()

    x, y = mx.ones((1, 6, 8)), mx.ones((1, 6, 16))
    mx.eval(mx.grad(loss)(x, y), seen_by_layer)
    assert memoryview(seen_by_layer[0]).strides == (6 * 8 * 4, 8 * 4, 4)
