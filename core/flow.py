"""Rectified flow: the straight path between noise and an image, in the notation of the note.

    sigma = 1  noise  (t = 0)       l_t = (1 - sigma_t) * l_T + sigma_t * eps
    sigma = 0  image  (t = T)       T_theta(l_t, t) predicts the velocity  eps - l_T
                                    l'_{t+1} = l_t + eps'_t * (sigma_{t+1} - sigma_t)

Generation goes from t = 0 to T, from noise to image. The sampler step and the training loss (`core/loss.py`) follow
from the same equation: with the exact velocity, a step from any t to any later t stays on the path.

Shapes   B batch   L tokens   C channels of one 2x2 latent patch
Dtypes   sigma is float32, always; latents and network may be bfloat16

Source: "DreamBooth loss" (Filip Strand, 2024-10-27). The shift: Esser et al. 2024, arXiv:2403.03206, section 5.3.2.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TypeVar

import mlx.core as mx

from core.config.choices import SigmaDraw

Sigma = TypeVar("Sigma", mx.array, float)


def interpolate(clean_BLC: mx.array, noise_BLC: mx.array, sigma_B: mx.array) -> mx.array:
    """l_t = (1 - sigma_t) * l_T + sigma_t * eps, in the dtype of `clean_BLC`.

    The products are computed in float32 and rounded once, so a bfloat16 path is the rounded exact path.
    """
    sigma_B11 = sigma_B.astype(mx.float32)[:, None, None]
    l_t = (1.0 - sigma_B11) * clean_BLC.astype(mx.float32) + sigma_B11 * noise_BLC.astype(mx.float32)
    return l_t.astype(clean_BLC.dtype)


def euler_step(l_t_BLC: mx.array, velocity_BLC: mx.array, sigma: float, sigma_next: float) -> mx.array:
    """l'_{t+1} = l_t + eps'_t * (sigma_{t+1} - sigma_t)."""
    return l_t_BLC + velocity_BLC * (sigma_next - sigma)


def shift(sigma: Sigma, factor: float) -> Sigma:
    """Move sigmas towards noise: s * sigma / (1 + (s - 1) * sigma); factor 1 changes nothing."""
    return factor * sigma / (1.0 + (factor - 1.0) * sigma)


def draw_sigmas(key: mx.array, shape: tuple[int, ...], draw: SigmaDraw, model_shift: float = 1.0) -> mx.array:
    """Sigmas to train at, float32, strictly between 0 and 1.

    uniform        all sigmas equally often
    logit_normal   sigmoid of a standard normal: the middle more often than the ends
    model_shift    logit-normal, then shifted as the model was trained; `Family.training_shift` has the factor
    """
    if draw == "uniform":
        edge = 2.0**-20  # keeps l_t from being exactly the photo or exactly the noise
        return mx.random.uniform(edge, 1.0 - edge, shape, dtype=mx.float32, key=key)
    sigma = mx.sigmoid(mx.random.normal(shape, dtype=mx.float32, key=key))
    return shift(sigma, model_shift) if draw == "model_shift" else sigma


def quantile(share: float, draw: SigmaDraw, model_shift: float = 1.0) -> float:
    """The quantile of `draw_sigmas` at `share`, which is strictly between 0 and 1."""
    if draw == "uniform":
        return share
    sigma = 1.0 / (1.0 + math.exp(-NormalDist().inv_cdf(share)))
    return float(shift(sigma, model_shift)) if draw == "model_shift" else sigma


def schedule(steps: int, factor: float = 1.0) -> list[float]:
    """`steps + 1` sigmas for drawing, from 1 down to 0, evenly spaced and then shifted."""
    return [float(shift(1.0 - index / steps, factor)) for index in range(steps)] + [0.0]


def dynamic_shift(
    tokens: int, base_tokens: int = 256, max_tokens: int = 4096, base_mu: float = 0.5, max_mu: float = 1.15
) -> float:
    """exp(mu), with mu linear in the number of image tokens: larger pictures need more noisy steps.

    The defaults are FLUX.1-dev's; a model's scheduler_config.json holds its own.
    """
    slope = (max_mu - base_mu) / (max_tokens - base_tokens)
    return math.exp(base_mu + slope * (tokens - base_tokens))
