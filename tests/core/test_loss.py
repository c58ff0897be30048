"""The loss is the note's formula, held against plain Python arithmetic."""

from __future__ import annotations

import mlx.core as mx
import pytest

from core import flow
from core.loss import dreambooth_loss, per_example_loss, prior_weights

CLEAN = [[[0.5, -1.0], [2.0, 0.25]], [[1.0, 1.0], [-0.5, 3.0]]]  # l_T, (B, L, C) = (2, 2, 2)
NOISE = [[[1.5, 0.5], [-2.0, 1.0]], [[0.0, -1.0], [0.75, 2.0]]]  # eps
SIGMA = [0.25, 0.8]


def slope(l_t: float, sigma: float) -> float:
    """A network one can do by hand: T_theta(l_t, t) = 0.5 l_t - 2 sigma."""
    return 0.5 * l_t - 2.0 * sigma


def by_hand(example: int) -> float:
    """mean (T_theta((1 - sigma) l_T + sigma eps, t) + l_T - eps)^2 over one example's four numbers."""
    sigma, terms = SIGMA[example], []
    for row_clean, row_noise in zip(CLEAN[example], NOISE[example], strict=True):
        for l_T, eps in zip(row_clean, row_noise, strict=True):
            terms.append((slope((1 - sigma) * l_T + sigma * eps, sigma) + l_T - eps) ** 2)
    return sum(terms) / len(terms)


def predict(l_t_BLC: mx.array, sigma_B: mx.array) -> mx.array:
    return 0.5 * l_t_BLC - 2.0 * sigma_B[:, None, None]


def test_the_loss_equals_the_formula_on_hand_made_numbers() -> None:
    arrays = mx.array(CLEAN), mx.array(NOISE), mx.array(SIGMA)
    assert per_example_loss(predict, *arrays).tolist() == pytest.approx([by_hand(0), by_hand(1)], rel=1e-6)
    assert dreambooth_loss(predict, *arrays).item() == pytest.approx((by_hand(0) + by_hand(1)) / 2, rel=1e-6)


def test_class_pictures_add_their_own_mean_times_the_prior_weight() -> None:
    photos, pictures = (
        (mx.array(CLEAN), mx.array(NOISE), mx.array(SIGMA)),
        (mx.array(NOISE), mx.array(CLEAN), mx.array(SIGMA)),
    )
    both = [mx.concatenate(each) for each in zip(photos, pictures, strict=True)]
    loss = dreambooth_loss(predict, *both, prior_weights(2, 0.3)).item()
    assert loss == pytest.approx(
        dreambooth_loss(predict, *photos).item() + 0.3 * dreambooth_loss(predict, *pictures).item(), rel=1e-6
    )


def test_weights_of_one_change_no_bit() -> None:
    arrays = mx.array(CLEAN), mx.array(NOISE), mx.array(SIGMA)
    plain = dreambooth_loss(predict, *arrays)
    assert dreambooth_loss(predict, *arrays, mx.array(1.0)).item() == plain.item()
    assert dreambooth_loss(predict, *arrays, mx.ones(2)).item() == plain.item()


def test_the_exact_velocity_has_no_loss_at_any_sigma() -> None:
    clean, noise = mx.array(CLEAN), mx.array(NOISE)
    for sigma in (0.0, 0.3, 1.0):
        loss = dreambooth_loss(lambda *_: flow.velocity(clean, noise), clean, noise, mx.full((2,), sigma))
        assert loss.item() == 0.0


def test_the_loss_is_float32_whatever_the_network_computes_in() -> None:
    clean, noise = mx.array(CLEAN).astype(mx.bfloat16), mx.array(NOISE).astype(mx.bfloat16)

    def half_precision(l_t_BLC: mx.array, sigma_B: mx.array) -> mx.array:
        assert l_t_BLC.dtype == mx.bfloat16
        assert sigma_B.dtype == mx.float32
        return 0.5 * l_t_BLC

    assert per_example_loss(half_precision, clean, noise, mx.array(SIGMA)).dtype == mx.float32
