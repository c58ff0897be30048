"""The transformer equals diffusers' FluxTransformer2DModel, in numbers and gradients."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
import torch
from diffusers import FluxTransformer2DModel
from mlx.utils import tree_flatten

from bench.real_models import FLUX1_DEV
from core.models.base import Grid
from core.models.flux1 import FluxTransformer, position_ids, run_block
from tests.interop.reference import TOLERANCE, noise, ours, randomized, relative_error

SMALL = FLUX1_DEV | {
    "num_layers": 2, "num_single_layers": 3, "num_attention_heads": 2, "joint_attention_dim": 40,
    "pooled_projection_dim": 24,
}  # fmt: skip
LEARNED = (
    "transformer_blocks.0.attn.to_q.weight",
    "transformer_blocks.0.attn.add_k_proj.weight",
    "transformer_blocks.1.ff.net.0.proj.weight",
    "transformer_blocks.0.ff_context.net.2.weight",
    "single_transformer_blocks.0.attn.to_v.weight",
    "single_transformer_blocks.2.proj_out.weight",
)
GRID = Grid(rows=6, columns=5, channels=64)
SIGMA = [0.93, 0.21]
L_T, TOKENS, POOLED = noise(2, 30, 64), noise(2, 7, 40, seed=1), noise(2, 24, seed=2)


def reference_velocity(reference: FluxTransformer2DModel, l_t: torch.Tensor, guidance: bool) -> torch.Tensor:
    return reference(
        hidden_states=l_t,
        encoder_hidden_states=torch.from_numpy(TOKENS),
        pooled_projections=torch.from_numpy(POOLED),
        timestep=torch.tensor(SIGMA),
        guidance=torch.tensor([3.5, 3.5]) if guidance else None,
        txt_ids=torch.zeros(7, 3),
        img_ids=torch.tensor(position_ids(0, GRID).tolist(), dtype=torch.float32),
    ).sample


def our_velocity(transformer: FluxTransformer, l_t: mx.array) -> mx.array:
    conditioning = {"tokens": mx.array(TOKENS), "pooled": mx.array(POOLED)}
    stream = transformer.embed(l_t, mx.array(SIGMA), conditioning, GRID, guidance=3.5)
    for block in [*transformer.transformer_blocks, *transformer.single_transformer_blocks]:
        stream = run_block(block, stream)
    return transformer.project(stream)


@pytest.mark.parametrize("guidance", [True, False], ids=["dev-like", "schnell-like"])
def test_velocity_and_gradients_equal_the_references(tmp_path: Path, guidance: bool) -> None:
    reference = randomized(FluxTransformer2DModel(**SMALL | {"guidance_embeds": guidance}), seed=1)
    reference.save_pretrained(tmp_path)
    transformer = ours(FluxTransformer, tmp_path, "diffusion_pytorch_model")

    expected_l_t = torch.from_numpy(L_T).requires_grad_()
    expected = reference_velocity(reference, expected_l_t, guidance)
    expected.square().mean().backward()
    assert relative_error(our_velocity(transformer, mx.array(L_T)), expected) <= TOLERANCE

    gradient = mx.grad(lambda l_t: our_velocity(transformer, l_t).square().mean())(mx.array(L_T))
    assert relative_error(gradient, expected_l_t.grad) <= TOLERANCE
    _, gradients = nn.value_and_grad(transformer, lambda l_t: our_velocity(transformer, l_t).square().mean())(
        mx.array(L_T)
    )
    ours_by_name, theirs_by_name = dict(tree_flatten(gradients)), dict(reference.named_parameters())
    for name in LEARNED:
        assert relative_error(ours_by_name[name], theirs_by_name[name].grad) <= TOLERANCE, name


def test_positions_equal_the_pipelines() -> None:
    from diffusers import FluxPipeline

    expected = FluxPipeline._prepare_latent_image_ids(1, 4, 7, "cpu", torch.float32)
    assert position_ids(3, Grid(4, 7, 64)).tolist() == [[0, 0, 0]] * 3 + expected.int().tolist()
