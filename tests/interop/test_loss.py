"""The masked loss and its gradient equal torch's of the same formula."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import torch

from core.loss import dreambooth_loss, part_weights, weighted_mean
from tests.interop.reference import noise, relative_error


def test_the_masked_loss_and_its_gradient_equal_torchs() -> None:
    """Two photos with masks, and two class pictures whose tokens all count the same."""
    velocity, clean, eps = (noise(4, 48, 16, seed=seed) for seed in (1, 2, 3))
    w = np.ones((4, 48), np.float32)
    w[:2] = np.random.default_rng(4).choice([0.0, 0.1, 0.6, 1.0], size=(2, 48))

    theirs = torch.from_numpy(velocity.copy()).requires_grad_()
    errors = torch.nn.functional.mse_loss(theirs, torch.from_numpy(eps - clean), reduction="none")
    losses = (torch.from_numpy(w)[..., None] * errors).sum(dim=(1, 2)) / (16 * torch.from_numpy(w).sum(dim=1))
    loss = losses[:2].mean() + 0.7 * losses[2:].mean()
    loss.backward()

    def ours(given: mx.array) -> mx.array:
        losses_B = dreambooth_loss(given, mx.array(clean), mx.array(eps), mx.array(w))
        return weighted_mean(losses_B, part_weights(2, 0.7))

    found, gradient = mx.value_and_grad(ours)(mx.array(velocity))
    assert relative_error(found, loss) < 1e-6
    assert relative_error(gradient, theirs.grad) < 1e-6
    assert not np.array(gradient)[w == 0].any()
