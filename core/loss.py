"""The DreamBooth loss on a rectified flow.

    loss = mean (T_theta(l_t, t) + l_T - eps)^2        l_t = (1 - sigma_t) * l_T + sigma_t * eps

It holds at any t in [0, T): no chain of sampler steps is needed, one random t an example is enough.

Prior preservation adds the same loss on pictures of the class that the untouched base drew:

    loss = mean over photos + prior_weight * mean over class pictures = mean over both of weight * error
           weight = 2 for a photo, 2 * prior_weight for a class picture, in a batch that is half of each

Shapes   B batch   L tokens   C channels of one 2x2 latent patch
Dtypes   the error is squared and averaged in float32, whatever the network computes in

Sources: "DreamBooth loss" (Filip Strand, 2024-10-27); Ruiz et al. 2022, arXiv:2208.12242. Path: `core/flow.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from core import flow

Predict = Callable[[mx.array, mx.array], mx.array]
"""T_theta: (l_t_BLC, sigma_B) -> velocity_BLC."""


def squared_error(velocity_BLC: mx.array, clean_BLC: mx.array, noise_BLC: mx.array) -> mx.array:
    """(T_theta(l_t, t) + l_T - eps)^2, the mean of each example: float32 (B,)."""
    error_BLC = velocity_BLC.astype(mx.float32) + clean_BLC.astype(mx.float32) - noise_BLC.astype(mx.float32)
    # Two short means instead of one long one: the CPU's mean is a plain running sum and loses digits over many terms.
    return error_BLC.square().mean(axis=2).mean(axis=1)


def per_example_loss(predict: Predict, clean_BLC: mx.array, noise_BLC: mx.array, sigma_B: mx.array) -> mx.array:
    """The loss of each example of the batch: float32 (B,). Noise and sigmas are arguments, so this is arithmetic."""
    l_t_BLC = flow.interpolate(clean_BLC, noise_BLC, sigma_B)
    return squared_error(predict(l_t_BLC, sigma_B), clean_BLC, noise_BLC)


def weighted_mean(error_B: mx.array, weight_B: mx.array) -> mx.array:
    """The loss of a batch from the error of each example: a float32 scalar."""
    return (weight_B * error_B).mean()


def prior_weights(photos: int, prior_weight: float) -> mx.array:
    """The weights of a batch of `photos` photos and then as many class pictures: float32 (2 * photos,)."""
    return mx.array([2.0] * photos + [2.0 * prior_weight] * photos)


def dreambooth_loss(
    predict: Predict, clean_BLC: mx.array, noise_BLC: mx.array, sigma_B: mx.array, weight_B: mx.array | None = None
) -> mx.array:
    """The mean of `per_example_loss` over the batch, weighted where there are weights: a float32 scalar."""
    error_B = per_example_loss(predict, clean_BLC, noise_BLC, sigma_B)
    return error_B.mean() if weight_B is None else weighted_mean(error_B, weight_B)
