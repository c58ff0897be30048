"""The path, the velocity and the sampler step are one equation."""

from __future__ import annotations

import mlx.core as mx
import pytest

from core import flow

CLEAN = mx.array([[[1.0, -2.0], [0.5, 4.0]]])
NOISE = mx.array([[[3.0, 0.0], [-1.5, 1.0]]])


def test_the_path_runs_from_noise_to_the_photo() -> None:
    assert mx.array_equal(flow.interpolate(CLEAN, NOISE, mx.array([1.0])), NOISE)
    assert mx.array_equal(flow.interpolate(CLEAN, NOISE, mx.array([0.0])), CLEAN)
    assert flow.interpolate(CLEAN, NOISE, mx.array([0.25])).tolist() == [[[1.5, -1.5], [0.0, 3.25]]]


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.16])
def test_with_the_exact_velocity_a_step_from_any_t_to_any_later_t_lands_on_the_path(factor: float) -> None:
    sigmas = flow.schedule(12, factor)
    clean, noise = (mx.random.normal((2, 6, 4), key=mx.random.key(seed)) for seed in (1, 2))
    exact = noise - clean
    for start, sigma in enumerate(sigmas):
        l_t = flow.interpolate(clean, noise, mx.full((2,), sigma))
        for later in sigmas[start + 1 :]:
            landed = flow.euler_step(l_t, exact, sigma, later)
            expected = flow.interpolate(clean, noise, mx.full((2,), later))
            assert mx.abs(landed - expected).max().item() <= 1e-6


def test_a_bfloat16_path_is_the_rounded_exact_path() -> None:
    clean, noise = (mx.random.normal((1, 8, 4), key=mx.random.key(seed)).astype(mx.bfloat16) for seed in (1, 2))
    sigma = mx.array([0.7123])
    exact = flow.interpolate(clean.astype(mx.float32), noise.astype(mx.float32), sigma)
    assert mx.array_equal(flow.interpolate(clean, noise, sigma), exact.astype(mx.bfloat16))


def test_a_schedule_begins_at_noise_ends_at_the_photo_and_falls() -> None:
    for steps in (1, 2, 28):
        sigmas = flow.schedule(steps, 2.5)
        assert len(sigmas) == steps + 1
        assert sigmas[0] == 1.0
        assert sigmas[-1] == 0.0
        assert sigmas == sorted(sigmas, reverse=True)


def test_the_shift_moves_sigmas_towards_noise_and_keeps_the_ends() -> None:
    assert flow.shift(0.5, 3.0) == 0.75
    assert flow.shift(0.0, 3.0) == 0.0
    assert flow.shift(1.0, 3.0) == 1.0
    assert flow.shift(0.4, 1.0) == 0.4


def test_dynamic_shift_is_linear_in_mu_between_flux1_devs_two_sizes() -> None:
    assert flow.dynamic_shift(256) == pytest.approx(2.718281828**0.5)
    assert flow.dynamic_shift(4096) == pytest.approx(2.718281828**1.15)
    assert flow.dynamic_shift(1024) == pytest.approx(1.8776, abs=1e-3)  # 512 x 512 px


@pytest.mark.parametrize("draw", ["uniform", "logit_normal", "model_shift"])
def test_training_sigmas_are_float32_inside_0_and_1_and_follow_their_key(draw: str) -> None:
    sigma = flow.draw_sigmas(mx.random.key(3), (4000,), draw, model_shift=3.0)
    assert sigma.dtype == mx.float32
    assert 0.0 < sigma.min().item() < sigma.max().item() < 1.0
    assert mx.array_equal(sigma, flow.draw_sigmas(mx.random.key(3), (4000,), draw, model_shift=3.0))
    assert sigma.mean().item() == pytest.approx(0.5 if draw != "model_shift" else 0.71, abs=0.02)


@pytest.mark.parametrize("draw", ["uniform", "logit_normal", "model_shift"])
def test_a_quantile_has_its_share_of_the_draws_below_it(draw: str) -> None:
    drawn = flow.draw_sigmas(mx.random.key(3), (20_000,), draw, 2.5)
    for share in (0.125, 0.5, 0.875):
        below = (drawn < flow.quantile(share, draw, 2.5)).astype(mx.float32).mean().item()
        assert below == pytest.approx(share, abs=0.012)
