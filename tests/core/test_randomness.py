"""Randomness is a function of its coordinates, and of nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlx.core as mx

from core import randomness

ROOT = Path(__file__).resolve().parents[2]


def test_the_same_coordinates_give_the_same_draw_whatever_was_drawn_before() -> None:
    first = mx.random.normal((8,), key=randomness.key_for("noise", 1, 2, 3))
    mx.random.seed(7)
    mx.eval(mx.random.normal((100,)))
    assert mx.array_equal(first, mx.random.normal((8,), key=randomness.key_for("noise", 1, 2, 3)))


def test_every_coordinate_and_the_purpose_matter() -> None:
    numbers = [
        randomness.number_for("noise", 1, 2, 3),
        randomness.number_for("sigma", 1, 2, 3),
        randomness.number_for("noise", 2, 2, 3),
        randomness.number_for("noise", 1, 3, 3),
        randomness.number_for("noise", 1, 2, 4),
        randomness.number_for("noise", 12, 3),
        randomness.number_for("noise", 1, 23),
    ]
    assert len(set(numbers)) == len(numbers)


def test_another_process_draws_the_same() -> None:
    code = "from core import randomness as r; print(r.number_for('order', 5, 6), r.order_for('epoch', 9, 1))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{randomness.number_for('order', 5, 6)} {randomness.order_for('epoch', 9, 1)}"


def test_these_numbers_never_change() -> None:
    """A run that was started with an older version must resume as it would have gone on."""
    assert randomness.number_for("noise", 0, 1, 2) == 1600028251299157257
    assert randomness.order_for("order", 5, 0) == [4, 0, 2, 1, 3]


def test_fractions_are_spread_over_0_to_1() -> None:
    drawn = [randomness.fraction_for("flip", 0, index) for index in range(2000)]
    assert all(0 <= each < 1 for each in drawn)
    assert abs(sum(drawn) / len(drawn) - 0.5) < 0.03


def test_an_order_holds_each_index_once_and_epochs_differ() -> None:
    orders = [tuple(randomness.order_for("order", 20, 0, epoch)) for epoch in range(5)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(orders)) == 5
