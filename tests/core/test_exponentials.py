"""Both ways to take exponentials are the same function with the same gradient."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import pytest

from core.numerics import exponentials

X = mx.concatenate([mx.linspace(-12.0, 12.0, 200), mx.array([-1e4, -100.0, 0.0, 100.0, 1e4])])


def both_ways(monkeypatch: pytest.MonkeyPatch, function: Callable[[], list[mx.array]]) -> tuple[list, list]:
    results = []
    for slow in (True, False):
        monkeypatch.setattr(exponentials, "exponentials_are_slow", lambda slow=slow: slow)
        results.append(function())
        mx.eval(results[-1])
    return results[0], results[1]


def closeness(ours: mx.array, theirs: mx.array) -> float:
    return (mx.abs(ours - theirs) / (1.0 + mx.abs(theirs))).max().item()


@pytest.mark.parametrize("name", ["sigmoid", "silu", "gelu_tanh"])
def test_functions_and_gradients_agree_and_stay_finite(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function = getattr(exponentials, name)
    powers, plain = both_ways(monkeypatch, lambda: [function(X)])
    assert closeness(powers[0], plain[0]) <= 2e-6
    inside = X[:200]
    powers, plain = both_ways(monkeypatch, lambda: [mx.grad(lambda x: function(x).sum())(inside)])
    assert closeness(powers[0], plain[0]) <= 5e-6
    if name != "sigmoid":
        assert mx.isfinite(both_ways(monkeypatch, lambda: [mx.grad(lambda x: function(x).sum())(X)])[0][0]).all().item()


def test_16_bits_stay_16_bits() -> None:
    x = X.astype(mx.bfloat16)
    assert exponentials.silu(x).dtype == exponentials.gelu_tanh(x).dtype == exponentials.sigmoid(x).dtype == mx.bfloat16
