"""The transformer equals diffusers' FluxTransformer2DModel, in names, shapes and numbers."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest
import torch
from diffusers import FluxTransformer2DModel

from core.models.base import Grid
from core.models.flux1 import FluxTransformer, position_ids, run_block
from tests.interop.reference import (
    TOLERANCE,
    names_and_shapes,
    noise,
    ours,
    randomized,
    reference_shapes,
    relative_error,
)

DEV = {
    "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24,
    "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True, "axes_dims_rope": (16, 56, 56),
}  # fmt: skip
SMALL = DEV | {
    "num_layers": 2, "num_single_layers": 3, "num_attention_heads": 2, "joint_attention_dim": 40,
    "pooled_projection_dim": 24,
}  # fmt: skip


@pytest.mark.parametrize("guidance", [True, False], ids=["dev-like", "schnell-like"])
def test_velocity_equals_the_reference(tmp_path: Path, guidance: bool) -> None:
    reference = randomized(FluxTransformer2DModel(**SMALL | {"guidance_embeds": guidance}), seed=1)
    reference.save_pretrained(tmp_path)
    transformer = ours(FluxTransformer, tmp_path, "diffusion_pytorch_model")

    grid = Grid(rows=6, columns=5, channels=64)
    l_t, tokens, pooled = noise(2, 30, 64), noise(2, 7, 40, seed=1), noise(2, 24, seed=2)
    sigma = torch.tensor([0.93, 0.21])
    with torch.no_grad():
        expected = reference(
            hidden_states=torch.from_numpy(l_t),
            encoder_hidden_states=torch.from_numpy(tokens),
            pooled_projections=torch.from_numpy(pooled),
            timestep=sigma,
            guidance=torch.tensor([3.5, 3.5]) if guidance else None,
            txt_ids=torch.zeros(7, 3),
            img_ids=torch.tensor(position_ids(0, grid).tolist(), dtype=torch.float32),
        ).sample

    conditioning = {"tokens": mx.array(tokens), "pooled": mx.array(pooled)}
    stream = transformer.embed(mx.array(l_t), mx.array(sigma.tolist()), conditioning, grid, guidance=3.5)
    for block in [*transformer.transformer_blocks, *transformer.single_transformer_blocks]:
        stream = run_block(block, stream)
    assert relative_error(transformer.project(stream), expected) <= TOLERANCE


def test_positions_equal_the_pipelines() -> None:
    from diffusers import FluxPipeline

    expected = FluxPipeline._prepare_latent_image_ids(1, 4, 7, "cpu", torch.float32)
    assert position_ids(3, Grid(4, 7, 64)).tolist() == [[0, 0, 0]] * 3 + expected.int().tolist()


@pytest.mark.parametrize("guidance", [True, False], ids=["dev", "schnell"])
def test_flux1_at_full_size_has_the_references_names_and_shapes(guidance: bool) -> None:
    config = DEV | {"guidance_embeds": guidance}
    with torch.device("meta"):
        reference = FluxTransformer2DModel(**config)
    assert names_and_shapes(FluxTransformer(config)) == reference_shapes(reference)
