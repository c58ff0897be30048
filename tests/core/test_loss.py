"""The loss is the note's formula, held against plain Python arithmetic."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from core import flow
from core.loss import dreambooth_loss, part_weights, weighted_mean

CLEAN = [[[0.5, -1.0], [2.0, 0.25]], [[1.0, 1.0], [-0.5, 3.0]]]  # l_T, (B, L, C) = (2, 2, 2)
NOISE = [[[1.5, 0.5], [-2.0, 1.0]], [[0.0, -1.0], [0.75, 2.0]]]  # eps
SIGMA = [0.25, 0.8]
VELOCITY = [[[0.25, 1.0], [-3.0, 1.5]], [[-2.0, 0.5], [0.5, -1.25]]]


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


def losses(clean_BLC: mx.array, noise_BLC: mx.array) -> mx.array:
    """The loss of that network on each example."""
    sigma_B = mx.array(SIGMA * (len(clean_BLC) // 2))
    velocity_BLC = 0.5 * flow.interpolate(clean_BLC, noise_BLC, sigma_B) - 2.0 * sigma_B[:, None, None]
    return dreambooth_loss(velocity_BLC, clean_BLC, noise_BLC)


def test_the_loss_equals_the_formula_on_hand_made_numbers() -> None:
    loss_B = losses(mx.array(CLEAN), mx.array(NOISE))
    assert loss_B.tolist() == pytest.approx([by_hand(0), by_hand(1)], rel=1e-6)


WEIGHT = [[1.0, 0.25], [0.0, 0.5]]  # w, (B, L)


def masked(velocity_BLC: mx.array) -> mx.array:
    return dreambooth_loss(velocity_BLC, mx.array(CLEAN), mx.array(NOISE), mx.array(WEIGHT))


def test_the_masked_loss_equals_the_formula_on_hand_made_numbers() -> None:
    velocity, clean, noise, w = (np.array(each) for each in (VELOCITY, CLEAN, NOISE, WEIGHT))
    errors = ((velocity + clean - noise) ** 2).mean(axis=2)
    expected = (w * errors).mean(axis=1) / w.mean(axis=1)
    assert masked(mx.array(VELOCITY)).tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert expected[1] == errors[1, 1]  # of the second example one token counts, and it counts as much as both would


def test_the_gradient_at_a_token_is_exactly_its_share_of_the_plain_one() -> None:
    """d loss / d velocity = w / mean w * the plain one: none where ignored, the knob's share in the background."""
    clean, noise = mx.array(CLEAN), mx.array(NOISE)
    g = mx.grad(lambda velocity: masked(velocity).sum())(mx.array(VELOCITY))
    plain = mx.grad(lambda velocity: dreambooth_loss(velocity, clean, noise).sum())(mx.array(VELOCITY))
    for example in (0, 1):
        for token in (0, 1):
            share = WEIGHT[example][token] / (sum(WEIGHT[example]) / 2)
            assert g[example, token].tolist() == pytest.approx((share * plain[example, token]).tolist(), rel=1e-6)
    assert g[1, 0].tolist() == [0.0, 0.0]
    ratio = (g[0, 1] / g[0, 0]) / (plain[0, 1] / plain[0, 0])
    assert ratio.tolist() == pytest.approx([0.25, 0.25], rel=1e-6)


def test_weights_that_are_all_the_same_are_no_mask() -> None:
    plain = dreambooth_loss(mx.array(VELOCITY), mx.array(CLEAN), mx.array(NOISE))
    for weight in (1.0, 0.3):
        found = dreambooth_loss(mx.array(VELOCITY), mx.array(CLEAN), mx.array(NOISE), mx.full((2, 2), weight))
        assert found.tolist() == pytest.approx(plain.tolist(), rel=1e-6)


def test_class_pictures_add_their_own_mean_times_the_prior_weight() -> None:
    photos, pictures = (mx.array(CLEAN), mx.array(NOISE)), (mx.array(NOISE), mx.array(CLEAN))
    both = [mx.concatenate(each) for each in zip(photos, pictures, strict=True)]
    loss = weighted_mean(losses(*both), part_weights(2, 0.3)).item()
    assert loss == pytest.approx(losses(*photos).mean().item() + 0.3 * losses(*pictures).mean().item(), rel=1e-6)


def test_weights_of_one_change_no_bit() -> None:
    loss_B = losses(mx.array(CLEAN), mx.array(NOISE))
    assert weighted_mean(loss_B, mx.array(1.0)).item() == loss_B.mean().item()
    assert weighted_mean(loss_B, mx.ones(2)).item() == loss_B.mean().item()


def test_the_exact_velocity_has_no_loss_at_any_sigma() -> None:
    clean, noise = mx.array(CLEAN), mx.array(NOISE)
    assert dreambooth_loss(noise - clean, clean, noise).tolist() == [0.0, 0.0]


def test_the_loss_is_float32_whatever_the_network_computes_in() -> None:
    clean, noise = mx.array(CLEAN).astype(mx.bfloat16), mx.array(NOISE).astype(mx.bfloat16)
    l_t = flow.interpolate(clean, noise, mx.array(SIGMA))
    assert l_t.dtype == mx.bfloat16
    assert dreambooth_loss(0.5 * l_t, clean, noise).dtype == mx.float32
