"""The DreamBooth loss on a rectified flow.

    loss = mean (T_theta(l_t, t) + l_T - eps)^2        l_t = (1 - sigma_t) * l_T + sigma_t * eps

T_theta is the network and predicts the velocity eps - l_T. t = T is clean (sigma 0), t = 0 is noise (sigma 1). One
random t per example gives an unbiased estimate of the loss.

Prior preservation adds the same loss on pictures of the class, drawn by the base model before training:

    loss = mean over photos + prior_weight * mean over class pictures = mean over both of weight * error
           weight = 2 for a photo, 2 * prior_weight for a class picture, in a batch that is half of each

Class preservation draws the network, on the caption without the trigger, to what it predicts there without the
adapter, at the photo's own l_t and t. It is the same loss with the base's velocity in the place of eps - l_T:

    loss = mean over photos + class_preservation * mean (T_theta+adapter(l_t, t, class) - T_theta(l_t, t, class))^2

Both may be on; a batch then has three parts of one size, and their weights are 3, 3 * prior_weight and
3 * class_preservation.

A mask weighs the tokens of a photo, and the mean weight normalises the loss, so that a small subject counts as much as
a large one. The gradient at a token is w / mean w times that of the loss without a mask:

    loss = mean w (T_theta(l_t, t) + l_T - eps)^2 / mean w           core/dataset/masks.py has w
           w = 1 for the subject, `background_weight` for the background, 0 for what is ignored

`core/flow.py` has the path l_t. `core/training/gradient.py` computes the velocity, this loss and its gradient.

Shapes   B batch   L tokens   C channels of one 2x2 latent patch
Dtypes   the error is squared and averaged in float32, whatever dtype the network computes in

Sources: "DreamBooth loss" (Filip Strand, 2024-10-27); Ruiz et al. 2022, arXiv:2208.12242; class preservation is
"differential output preservation" in AI Toolkit (Ostris, 2025).
"""

from __future__ import annotations

import mlx.core as mx


def dreambooth_loss(
    velocity_BLC: mx.array, clean_BLC: mx.array, noise_BLC: mx.array, weight_BL: mx.array | None = None
) -> mx.array:
    """mean w (T_theta(l_t, t) + l_T - eps)^2 / mean w of each example: float32 (B,).

    `velocity_BLC` is T_theta(l_t, t), `clean_BLC` l_T, `noise_BLC` eps and `weight_BL` w, float32 and not all 0 in an
    example; None weighs all tokens the same.
    """
    error_BLC = velocity_BLC.astype(mx.float32) + clean_BLC.astype(mx.float32) - noise_BLC.astype(mx.float32)
    # Two short means instead of one long one: the CPU's mean is a plain running sum and loses digits over many terms.
    error_BL = error_BLC.square().mean(axis=2)
    if weight_BL is None:
        return error_BL.mean(axis=1)
    return (weight_BL * error_BL).mean(axis=1) / weight_BL.mean(axis=1)


def weighted_mean(loss_B: mx.array, weight_B: mx.array) -> mx.array:
    """The loss of a batch: the mean of its examples' weighted losses, a float32 scalar."""
    return (weight_B * loss_B).mean()


def part_weights(photos: int, *weights: float) -> mx.array:
    """The weights of a batch of `photos` photos followed by parts of as many examples each, one part for each of
    `weights`: float32 ((1 + len(weights)) * photos,). The weighted mean is that of the photos plus weight * mean of
    each part."""
    parts = (1.0, *weights)
    return mx.array([len(parts) * weight for weight in parts for _ in range(photos)])
