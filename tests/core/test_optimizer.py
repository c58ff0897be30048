"""The optimizers: what an update may do; the EMA; the learning rate schedules; and packed tensors."""

from __future__ import annotations

import math

import mlx.core as mx
import pytest

from core.config.choices import Optimizer
from core.training import ema
from core.training.optimizers import OPTIMIZERS, OptimizerState, Tensors
from core.training.schedule import learning_rate
from core.training.update import Layout, global_norm, init, update
from tests.core.subjects import settings

ONE, LR = mx.array(1.0), mx.array(0.1)
LIMITS = {"clip_norm": 0.0, "weight_decay": 0.0}
SHAPES = {"b.lora_A": (3, 8), "a.lora_A": (3, 8), "a.lora_B": (6, 3), "b.lora_B": (5, 3)}


def drawn(seed: int) -> Tensors:
    keys = mx.random.split(mx.random.key(seed), len(SHAPES))
    return {name: mx.random.normal(shape, key=key) for (name, shape), key in zip(SHAPES.items(), keys, strict=True)}


def same(one: OptimizerState, other: OptimizerState) -> bool:
    pairs = [(one.numbers, other.numbers), *((one.tensors[group], other.tensors[group]) for group in one.tensors)]
    return all(mx.array_equal(ours[name], theirs[name]) for ours, theirs in pairs for name in ours)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_bad_step_cannot_hurt(kind: Optimizer) -> None:
    optimizer, w = OPTIMIZERS[kind], drawn(0)
    state = init(optimizer, w, with_ema=True)
    knobs = {"clip_norm": 1.0, "weight_decay": 0.1, "ema_decay": 0.9}
    moved, state, _, counted = update(optimizer, w, drawn(1), state, ONE, LR, **knobs)
    assert counted.item()
    assert not any(mx.array_equal(moved[name], w[name]) for name in w)
    infinite = drawn(2) | {"a.lora_A": mx.full(SHAPES["a.lora_A"], mx.inf)}
    for g, loss in [(infinite, ONE), (drawn(2), mx.array(mx.nan))]:
        kept_w, kept, _, counted = update(optimizer, moved, g, state, loss, LR, **knobs)
        assert not counted.item()
        assert all(mx.array_equal(kept_w[name], value) for name, value in moved.items())
        assert same(kept, state)
        assert kept.numbers["n"].item() == 1


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_joined_tensors_are_updated_as_each_by_itself_is(kind: Optimizer) -> None:
    optimizer = OPTIMIZERS[kind]
    w = drawn(0)
    layout = Layout(w, matrices=optimizer.matrices)
    state = init(optimizer, w, with_ema=False)
    joined_w = layout.pack(w)
    joined = OptimizerState({name: layout.pack(each) for name, each in state.tensors.items()}, state.numbers)
    for step in range(4):
        g = drawn(10 + step)
        w, state, _, _ = update(optimizer, w, g, state, ONE, LR, clip_norm=0.0, weight_decay=0.1)
        joined_w, joined, _, _ = update(
            optimizer, joined_w, layout.pack(g), joined, ONE, LR, clip_norm=0.0, weight_decay=0.1
        )
    parts = layout.unpack(joined_w)
    assert all(mx.allclose(parts[name], value, atol=1e-6) for name, value in w.items())
    for group, tensors in state.tensors.items():
        parts = layout.unpack(joined.tensors[group])
        assert all(mx.allclose(parts[name], value, atol=1e-6) for name, value in tensors.items())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_matrix_without_a_gradient_stays_and_makes_no_other_one_infinite(kind: Optimizer) -> None:
    """As A has none in the first step, for B is zero."""
    optimizer, w = OPTIMIZERS[kind], drawn(0)
    g = drawn(1) | {"a.lora_A": mx.zeros(SHAPES["a.lora_A"])}
    moved, state, _, counted = update(optimizer, w, g, init(optimizer, w, with_ema=False), ONE, LR, **LIMITS)
    assert counted.item()
    assert mx.array_equal(moved["a.lora_A"], w["a.lora_A"])
    moved, _, _, counted = update(optimizer, moved, drawn(2), state, ONE, LR, **LIMITS)
    assert all(mx.isfinite(value).all().item() for value in moved.values())
    assert not mx.array_equal(moved["a.lora_A"], w["a.lora_A"])


def test_the_first_step_of_adamw_moves_by_the_learning_rate_and_decays() -> None:
    w, g = {"a": mx.array([1.0, -2.0])}, {"a": mx.array([3.0, -4.0])}
    optimizer = OPTIMIZERS["adamw"]
    new, _, norm, _ = update(
        optimizer, w, g, init(optimizer, w, with_ema=False), ONE, LR, clip_norm=0.0, weight_decay=0.5
    )
    assert norm.item() == pytest.approx(5.0)
    assert mx.allclose(new["a"], mx.array([1.0 - 0.1 - 0.05, -2.0 + 0.1 + 0.1]), atol=1e-6)


def test_prodigy_finds_a_rate_that_adamw_would_have_needed_to_be_given() -> None:
    """On the way to a far goal its d grows from 1e-5 by itself, and once there it stays."""
    optimizer, goal = OPTIMIZERS["prodigy"], mx.full((4, 4), 0.5)
    w: Tensors = {"a": mx.zeros((4, 4))}
    state = init(optimizer, w, with_ema=False)
    rates = []
    for _ in range(300):
        w, state, _, _ = update(optimizer, w, {"a": w["a"] - goal}, state, ONE, ONE, **LIMITS)
        rates.append(state.numbers["d"].item())
    assert rates[0] == pytest.approx(1e-5)
    assert 0.01 < rates[-1] < 1.0
    assert rates == sorted(rates)
    assert mx.allclose(w["a"], goal, atol=0.05)


def test_gradients_are_limited_over_the_whole_adapter() -> None:
    w = {"a": mx.array([0.0]), "b": mx.array([0.0])}
    g = {"a": mx.array([3.0]), "b": mx.array([4.0])}
    optimizer = OPTIMIZERS["adamw"]
    _, state, _, _ = update(
        optimizer, w, g, init(optimizer, w, with_ema=False), ONE, LR, clip_norm=1.0, weight_decay=0.0
    )
    assert mx.allclose(state.tensors["m"]["a"], mx.array([0.1 * 0.6]), atol=1e-6)
    assert global_norm(g).item() == pytest.approx(5.0)


def test_a_norm_over_many_numbers_keeps_its_digits() -> None:
    numbers = mx.full((3_000_001,), 0.1)
    assert global_norm({"": numbers}).item() == pytest.approx((3_000_001 * 0.01) ** 0.5, rel=3e-5)


def test_the_average_begins_close_to_the_weights_and_ends_slow() -> None:
    w = {"a": mx.array([0.0])}
    optimizer = OPTIMIZERS["lion"]  # moves by the rate, 0.1 a step
    state, after, expected = init(optimizer, w, with_ema=True), w, 0.0
    for n in range(1, 41):
        g = {"a": mx.array([-1.0])}
        after, state, _, _ = update(optimizer, after, g, state, ONE, LR, **LIMITS, ema_decay=0.75)
        kept = 0.0 if n == 1 else min(0.75, n / (n + 9))
        expected = kept * expected + (1 - kept) * 0.1 * n
        assert state.tensors[ema.GROUP]["a"].item() == pytest.approx(expected, rel=1e-5)
    assert after["a"].item() == pytest.approx(4.0)
    assert after["a"].item() - expected == pytest.approx(0.1 * 0.75 / 0.25, rel=1e-2)  # decay / (1 - decay) steps late


def test_tensors_are_few_vectors_in_whatever_order_a_checkpoint_gives_them_back() -> None:
    tensors = {str(number): mx.random.normal((1000, number), key=mx.random.key(number)) for number in range(1, 40)}
    vectors = Layout(tensors).pack(tensors)
    assert len(vectors) == 3
    other = Layout(dict(reversed(tensors.items()))).pack(tensors)
    assert all(mx.array_equal(vectors[name], other[name]) for name in vectors)
    again = Layout(tensors).unpack(vectors)
    assert again.keys() == tensors.keys()
    assert all(mx.array_equal(again[name], value) for name, value in tensors.items())


def test_matrices_are_stacks_of_one_shape() -> None:
    tensors = {
        str(number): mx.random.normal((100 + number % 2, 500), key=mx.random.key(number)) for number in range(16)
    }
    layout = Layout(tensors, matrices=True)
    stacks = layout.pack(tensors)
    assert sorted(stack.shape for stack in stacks.values()) == [
        (2, 100, 500),
        (2, 101, 500),
        (6, 100, 500),
        (6, 101, 500),
    ]
    again = layout.unpack(stacks)
    assert all(mx.array_equal(again[name], value) for name, value in tensors.items())


def test_the_learning_rate_rises_then_falls_to_a_tenth() -> None:
    config = settings(steps=110, warmup_steps=10, learning_rate=1.0)
    assert learning_rate(1, config) == pytest.approx(0.1)
    assert learning_rate(11, config) == pytest.approx(1.0)
    assert learning_rate(44, config) == pytest.approx(0.1 + 0.9 * 0.75)  # a third of the way: (1 + cos 60 deg) / 2
    assert learning_rate(110, config) == pytest.approx(0.1)
    assert learning_rate(110, settings(steps=110, schedule="constant", learning_rate=1.0)) == 1.0


def test_a_line_is_halfway_down_in_the_middle_and_a_cosine_with_restarts_as_often_as_it_falls() -> None:
    line = settings(steps=101, schedule="linear", learning_rate=1.0)
    assert learning_rate(51, line) == pytest.approx(0.55)
    assert learning_rate(101, line) == pytest.approx(0.1)
    falls = settings(steps=101, schedule="cosine_restarts", cycles=2, learning_rate=1.0)
    rates = [learning_rate(step, falls) for step in range(1, 102)]
    assert [rates[0], rates[25], rates[50], rates[75], rates[100]] == pytest.approx([1, 0.55, 1, 0.55, 0.1])
    assert min(rates) == pytest.approx(0.1)
    assert math.isclose(rates[49], 0.1, abs_tol=1e-2)
