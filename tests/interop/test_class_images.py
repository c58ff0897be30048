"""The loss of a run with class pictures is the one of diffusers' DreamBooth scripts, on the same batch.

Their scripts put the class pictures behind the photos, halve the prediction and add the weighted second mean. That is
redone here in torch by hand, on diffusers' own transformer, from `examples/dreambooth/train_dreambooth_lora_flux.py`.
"""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel

from core.adapters import lora
from core.adapters.layers import resolve_targets
from core.dataset.batches import Batch, Batches, Encoded
from core.loss import weighted_mean
from core.models.flux1 import position_ids
from core.models.load import load_family
from core.training.gradient import Gradient
from tests.core.subjects import settings
from tests.tiny import make_model_folder

PRIOR_WEIGHT = 0.7


def in_torch(array: mx.array) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def loss_of_the_script(transformer: FluxTransformer2DModel, batch: Batch) -> torch.Tensor:
    clean, noise, sigma = (in_torch(each) for each in (batch.clean_BLC, batch.noise_BLC, batch.sigma_B))
    tokens, pooled = (in_torch(batch.conditioning[name]) for name in ("tokens", "pooled"))
    spread = sigma[:, None, None]
    prediction = transformer(
        hidden_states=(1.0 - spread) * clean + spread * noise,
        encoder_hidden_states=tokens,
        pooled_projections=pooled,
        timestep=sigma,
        txt_ids=torch.zeros(tokens.shape[1], 3),
        img_ids=torch.tensor(position_ids(0, batch.grid).tolist(), dtype=torch.float32),
    ).sample
    photos, pictures = (prediction - (noise - clean)).chunk(2)
    return photos.square().mean() + PRIOR_WEIGHT * pictures.square().mean()


@pytest.mark.parametrize("kept", [0, None])
def test_the_loss_is_that_of_diffusers_script(tmp_path: Path, kept: int | None) -> None:
    torch.set_num_threads(1)
    folder = make_model_folder(tmp_path / "model")
    family = load_family(folder)
    grid = family.grid(48, 64)

    def example(seed: int, caption: str) -> Encoded:
        l_T = mx.random.normal((1, grid.tokens, grid.channels), key=mx.random.key(seed))
        return Encoded(l_T, None, family.encode_text([caption]), grid)

    photos = [example(seed, "a photo of a sks can") for seed in range(3)]
    pictures = [example(seed, "a photo of a can") for seed in range(3, 7)]
    config = settings(batch_size=2, prior_weight=PRIOR_WEIGHT, class_pictures=4)
    batch = Batches(photos, family.encode_text([""]), config, family.training_shift, pictures).batch(1, 0)

    targets = resolve_targets(family.architecture.layers, "all_linear")
    adapter = lora.attach(family.transformer, targets, 2, 2.0, mx.random.key(0))  # B is zero: it changes nothing yet
    losses_B, _ = Gradient(family, adapter, 1.0, kept)(adapter.parameters(), batch)
    loss = weighted_mean(losses_B, batch.weight_B)
    reference = FluxTransformer2DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32)
    with torch.no_grad():
        expected = loss_of_the_script(reference, batch).item()
    assert batch.clean_BLC.shape[0] == 4
    assert loss.item() == pytest.approx(expected, rel=1e-5)
