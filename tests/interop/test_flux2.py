"""FLUX.2-klein equals diffusers': the transformer, with an adapter too, the VAE, positions, sigmas, whole pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2 as ReferenceVAE
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu, retrieve_timesteps

from bench.real_models import FLUX2_VAE, KLEIN_4B
from core.models.autoencoder import AutoencoderKLFlux2
from core.models.base import Conditioning, Grid
from core.models.flux2 import Flux2Transformer, position_ids, run_block
from core.models.load import load_family
from core.sampling import starting_noise
from tests import tiny_klein, tiny_qwen3
from tests.interop.checks import (
    PROMPT,
    SIGMA,
    Ours,
    Theirs,
    check_picture,
    check_trained_adapter,
    check_velocity_and_gradients,
    check_velocity_with_an_adapter,
    to_torch,
)
from tests.interop.reference import TOLERANCE, noise, ours, randomized, relative_error

SMALL = KLEIN_4B | {"num_layers": 2, "num_single_layers": 3, "num_attention_heads": 2, "joint_attention_dim": 40}
LEARNED = (
    "transformer_blocks.0.attn.to_q.weight",
    "transformer_blocks.0.attn.add_k_proj.weight",
    "transformer_blocks.1.ff.linear_in.weight",
    "transformer_blocks.0.ff_context.linear_out.weight",
    "single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight",
    "single_transformer_blocks.2.attn.to_out.weight",
)
GRID = Grid(rows=6, columns=5, channels=128)
L_T, TOKENS = noise(2, 30, 128), noise(2, 7, 40, seed=1)


def reference_velocity(
    reference: Flux2Transformer2DModel, l_t: torch.Tensor, tokens: torch.Tensor, grid: Grid, guidance: float | None
) -> torch.Tensor:
    ids = torch.tensor(position_ids(tokens.shape[1], grid).tolist())
    return reference(
        hidden_states=l_t,
        encoder_hidden_states=tokens,
        timestep=torch.tensor(SIGMA[: len(l_t)]),
        guidance=None if guidance is None else torch.full((len(l_t),), guidance),
        txt_ids=ids[: tokens.shape[1]],
        img_ids=ids[tokens.shape[1] :],
    ).sample


def our_velocity(transformer: Flux2Transformer, l_t: mx.array) -> mx.array:
    stream = transformer.embed(l_t, mx.array(SIGMA), {"tokens": mx.array(TOKENS)}, GRID, guidance=3.5)
    for block in [*transformer.transformer_blocks, *transformer.single_transformer_blocks]:
        stream = run_block(block, stream)
    return transformer.project(stream)


def both(tmp_path: Path, guidance: float | None) -> tuple[Flux2Transformer, Flux2Transformer2DModel, Ours, Theirs]:
    """Both transformers with the same weights, and their velocities."""
    reference = randomized(Flux2Transformer2DModel(**SMALL | {"guidance_embeds": guidance is not None}), seed=1)
    reference.save_pretrained(tmp_path)
    transformer = ours(Flux2Transformer, tmp_path, "diffusion_pytorch_model")
    return (
        transformer,
        reference,
        lambda l_t: our_velocity(transformer, l_t),
        lambda l_t: reference_velocity(reference, l_t, torch.from_numpy(TOKENS), GRID, guidance),
    )


@pytest.mark.parametrize("guidance", [None, 3.5], ids=["as klein", "with guidance"])
def test_velocity_and_gradients_equal_the_references(tmp_path: Path, guidance: float | None) -> None:
    check_velocity_and_gradients(*both(tmp_path, guidance), L_T, LEARNED)


def test_velocity_with_an_adapter_equals_the_references(tmp_path: Path) -> None:
    check_velocity_with_an_adapter(*both(tmp_path, None), L_T, ["blocks."])


def test_positions_equal_the_pipelines() -> None:
    text = Flux2KleinPipeline._prepare_text_ids(torch.zeros(1, 3, 8))[0]
    image = Flux2KleinPipeline._prepare_latent_ids(torch.zeros(1, 8, 4, 7))[0]
    assert position_ids(3, Grid(4, 7, 128)).tolist() == [*text.tolist(), *image.tolist()]


@pytest.mark.parametrize(
    "kind",
    [{}, {"decoder_block_out_channels": (16, 16, 16, 32)}, {"mid_block_add_attention": False, "use_quant_conv": False}],
    ids=["as klein", "with a smaller decoder", "with less"],
)
def test_photos_and_tokens_equal_the_pipelines(tmp_path: Path, kind: dict[str, Any]) -> None:
    small = FLUX2_VAE | {"block_out_channels": (16, 16, 32, 32), "norm_num_groups": 8, "latent_channels": 8} | kind
    reference = randomized(ReferenceVAE(**small), seed=2)
    reference.bn.running_mean.copy_(torch.from_numpy(noise(32, seed=3)))
    reference.bn.running_var.copy_(torch.from_numpy(noise(32, seed=4) ** 2 + 0.1))
    reference.save_pretrained(tmp_path)
    vae = ours(AutoencoderKLFlux2, tmp_path, "diffusion_pytorch_model")
    pipeline = Flux2KleinPipeline(scheduler=None, vae=reference, text_encoder=None, tokenizer=None, transformer=None)

    pixels, l_T = noise(2, 3, 48, 32), noise(2, 6, 32, seed=1)
    with torch.no_grad():
        tokens = pipeline._pack_latents(pipeline._encode_vae_image(torch.from_numpy(pixels), generator=None))
        latent = torch.from_numpy(l_T).permute(0, 2, 1).reshape(2, 32, 3, 2)
        deviation = torch.sqrt(reference.bn.running_var + reference.config.batch_norm_eps)
        latent = latent * deviation.view(1, -1, 1, 1) + reference.bn.running_mean.view(1, -1, 1, 1)
        picture = reference.decode(pipeline._unpatchify_latents(latent)).sample

    assert relative_error(vae.encode_tokens(mx.array(pixels.transpose(0, 2, 3, 1))), tokens) <= TOLERANCE
    found = vae.decode_tokens(mx.array(l_T), Grid(3, 2, 32)).transpose(0, 3, 1, 2)
    assert relative_error(found, picture) <= TOLERANCE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_klein.make_model_folder(tmp_path_factory.mktemp("klein"))


@pytest.mark.parametrize("steps", [1, 4, 28, 50])
@pytest.mark.parametrize("side_px", [(256, 256), (512, 768), (1024, 1024), (1024, 1536)])
def test_sigmas_equal_the_pipelines(folder: Path, steps: int, side_px: tuple[int, int]) -> None:
    family = load_family(folder)
    grid = family.grid(*side_px)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    mu = compute_empirical_mu(grid.tokens, steps)
    retrieve_timesteps(scheduler, steps, "cpu", sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    assert family.drawing_sigmas(steps, grid) == pytest.approx(scheduler.sigmas.tolist(), rel=1e-6, abs=1e-7)


class Reference:
    """diffusers' pipeline of a folder, drawing from our noise."""

    def __init__(self, folder: Path, grid: Grid, steps: int) -> None:
        self.pipeline = Flux2KleinPipeline.from_pretrained(folder, dtype=torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        self._grid, self._steps = grid, steps
        tokens = torch.from_numpy(np.array(starting_noise(grid, seed=7)))
        self._noise = tokens.permute(0, 2, 1).reshape(1, grid.channels, grid.rows, grid.columns)

    def draw(self, guidance: float, output: str) -> Any:
        """A list of pictures, or with "latent" what the VAE is handed."""
        return self.pipeline(
            prompt=PROMPT,
            height=16 * self._grid.rows,
            width=16 * self._grid.columns,
            num_inference_steps=self._steps,
            guidance_scale=guidance,
            latents=self._noise.clone(),
            max_sequence_length=tiny_qwen3.TOKENS,
            output_type=output,
        ).images


@pytest.mark.parametrize("distilled", [False, True], ids=["base, true guidance", "distilled"])
def test_a_picture_is_the_pipelines(tmp_path: Path, distilled: bool) -> None:
    folder = tiny_klein.make_model_folder(tmp_path, distilled=distilled)
    family, steps, guidance = load_family(folder), 4, 1.0 if distilled else 4.0
    grid = family.grid(64, 48)
    reference = Reference(folder, grid, steps)
    bn = reference.pipeline.vae.bn
    latent = reference.pipeline._patchify_latents(reference.draw(guidance, "latent"))
    latent = (latent - bn.running_mean.view(1, -1, 1, 1)) / torch.sqrt(bn.running_var.view(1, -1, 1, 1) + bn.eps)
    latent = reference.pipeline._pack_latents(latent)
    check_picture(family, guidance, steps, latent, reference.draw(guidance, "pil")[0])


def test_a_trained_adapter_makes_the_same_change_in_diffusers(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    family = load_family(folder)
    pipeline = Reference(folder, family.grid(64, 48), steps=4).pipeline

    def theirs(l_t: torch.Tensor, text: Conditioning, grid: Grid) -> torch.Tensor:
        return reference_velocity(pipeline.transformer, l_t, to_torch(text["tokens"]), grid, None)

    check_trained_adapter(family, pipeline, theirs, tmp_path, caplog)
