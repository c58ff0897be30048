"""Stages are recorded in the order of the computation, and only where they are asked for."""

from __future__ import annotations

import mlx.core as mx

from core.adapters import lora
from core.numerics import staged_eval
from core.numerics.attention import attention


def test_layers_mark_stages_forward_and_in_reverse_for_a_gradient() -> None:
    x, a_RI, b_OR = mx.ones((1, 3, 4)), mx.ones((2, 4)), mx.ones((4, 2))
    parts = [lora.LowRank(a_RI * number, b_OR, 1.0, 1.0) for number in (1, 2)]

    def through_both(x: mx.array) -> list[mx.array]:
        for part in parts:
            x = part.onto(x, x)
        return [x]

    with staged_eval.stages() as found:
        mx.vjp(through_both, [x], [x])
    with staged_eval.stages(backward=True) as found_back:
        mx.vjp(through_both, [x], [x])
    low, gradients = [each[0] for each in found][:2], [each[-1] for each in found if each[-1].shape == b_OR.shape]
    assert low[0].shape == low[1].shape == (3, 2)
    assert (low[1] > low[0]).all()
    assert len(found_back) == len(found) - 2  # a gradient alone does not evaluate the forward pass by layer
    # dB = g^T (x A^T): the second layer has an A twice as large, and the sum of the first for its x.
    of_second, of_first = (each[0, 0].item() for each in gradients)
    assert of_second > of_first


def test_nothing_is_recorded_outside_of_stages_and_evaluated_stages_are_released() -> None:
    q = mx.random.normal((1, 1, 4, 8))
    with staged_eval.stages() as found:
        pass
    attention(q, q, q, 1.0)
    assert not found
    with staged_eval.stages() as found:
        lora.LowRank(mx.ones((2, 8)), mx.ones((8, 2)), 1.0, 1.0).onto(q, q)
    assert len(found) == 1
    staged_eval.evaluate(found)
    assert not found
