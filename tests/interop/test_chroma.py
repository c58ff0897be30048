"""Chroma equals diffusers': the transformer, with an adapter too, texts, the mask, sigmas, whole pictures.

ChromaPipeline 0.42.1 passes its mask as numbers, which torch's attention adds to the scores: 1 where a token is seen, 0
where it is not, so padding is seen after all. The makers' own code passes booleans, and so does the reference here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.chroma.pipeline_chroma import calculate_shift, retrieve_timesteps

from bench.real_models import CHROMA1_HD
from core.models.base import Conditioning, Grid
from core.models.chroma import ChromaTransformer, places, run_block
from core.models.flux1 import position_ids
from core.models.load import load_family
from core.models.patches import pack, unpack
from core.sampling import starting_noise
from tests import tiny_chroma
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

SMALL = CHROMA1_HD | {
    "num_layers": 2, "num_single_layers": 3, "num_attention_heads": 2, "joint_attention_dim": 40,
    "approximator_hidden_dim": 96,
}  # fmt: skip
LEARNED = (
    "distilled_guidance_layer.in_proj.weight",
    "distilled_guidance_layer.layers.0.linear_1.weight",
    "distilled_guidance_layer.norms.4.weight",
    "distilled_guidance_layer.out_proj.weight",
    "transformer_blocks.0.attn.to_q.weight",
    "transformer_blocks.0.attn.add_k_proj.weight",
    "transformer_blocks.1.ff.net.0.proj.weight",
    "transformer_blocks.0.ff_context.net.2.weight",
    "single_transformer_blocks.0.proj_mlp.weight",
    "single_transformer_blocks.2.proj_out.weight",
)
GRID = Grid(rows=6, columns=5, channels=64)
L_T, TOKENS, LENGTHS = noise(2, 30, 64), noise(2, 9, 40, seed=1), [9, 4]


def reference_velocity(
    reference: ChromaTransformer2DModel, l_t: torch.Tensor, tokens: torch.Tensor, lengths: list[int], grid: Grid
) -> torch.Tensor:
    ids = torch.tensor(position_ids(tokens.shape[1], grid).tolist())
    seen = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
    return reference(
        hidden_states=l_t,
        encoder_hidden_states=tokens,
        timestep=torch.tensor(SIGMA[: len(l_t)]),
        txt_ids=ids[: tokens.shape[1]],
        img_ids=ids[tokens.shape[1] :],
        attention_mask=torch.cat([seen, torch.ones(len(l_t), grid.tokens, dtype=torch.bool)], dim=1),
    ).sample


def our_velocity(transformer: ChromaTransformer, l_t: mx.array) -> mx.array:
    conditioning = {"tokens": mx.array(TOKENS), "lengths": mx.array(LENGTHS)}
    stream = transformer.embed(l_t, mx.array(SIGMA), conditioning, GRID, guidance=1.0)
    for block in [*transformer.transformer_blocks, *transformer.single_transformer_blocks]:
        stream = run_block(block, stream)
    return transformer.project(stream)


def both(tmp_path: Path) -> tuple[ChromaTransformer, ChromaTransformer2DModel, Ours, Theirs]:
    """Both transformers with the same weights, and their velocities."""
    reference = randomized(ChromaTransformer2DModel(**SMALL), seed=1)
    reference.save_pretrained(tmp_path)
    transformer = ours(ChromaTransformer, tmp_path, "diffusion_pytorch_model")
    return (
        transformer,
        reference,
        lambda l_t: our_velocity(transformer, l_t),
        lambda l_t: reference_velocity(reference, l_t, torch.from_numpy(TOKENS), LENGTHS, GRID),
    )


def test_velocity_and_gradients_equal_the_references(tmp_path: Path) -> None:
    check_velocity_and_gradients(*both(tmp_path), L_T, LEARNED)


def test_velocity_with_an_adapter_equals_the_references(tmp_path: Path) -> None:
    check_velocity_with_an_adapter(*both(tmp_path), L_T, ["transformer_blocks."])


def test_the_places_of_all_344_modulations_are_the_references() -> None:
    """At full size, where angles are largest."""
    with torch.device("meta"):
        count = ChromaTransformer2DModel(**CHROMA1_HD).time_text_embed.mod_proj.shape[0]
    assert count == 344
    whole = ChromaTransformer2DModel(**SMALL | {"num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128})
    assert relative_error(places(344, 32), whole.time_text_embed.mod_proj) <= TOLERANCE


class MaskedPipeline(ChromaPipeline):
    """The pipeline with a mask of booleans, as the makers' own code has it."""

    def _prepare_attention_mask(self, *arguments: Any, **named: Any) -> torch.Tensor | None:
        mask = super()._prepare_attention_mask(*arguments, **named)
        return None if mask is None else mask.bool()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chroma.make_model_folder(tmp_path_factory.mktemp("chroma"))


@pytest.fixture
def pipeline(folder: Path) -> MaskedPipeline:
    found = MaskedPipeline.from_pretrained(folder, dtype=torch.float32)
    found.set_progress_bar_config(disable=True)
    return found


def test_text_features_and_mask_are_the_pipelines(folder: Path, pipeline: MaskedPipeline) -> None:
    prompts = [PROMPT, "", "  Ünïcödé,\nit's a DOG's 42 toys! ", "word " * 90]
    with torch.no_grad():
        expected, mask = pipeline._get_t5_prompt_embeds(prompts, max_sequence_length=tiny_chroma.TOKENS)
    found = load_family(folder).encode_text(prompts)
    assert found["lengths"].tolist() == mask.sum(dim=1).tolist()
    assert len(set(found["lengths"].tolist())) == len(prompts)
    for ours_ND, length, theirs in zip(found["tokens"], found["lengths"].tolist(), expected, strict=True):
        assert relative_error(ours_ND[:length], theirs[:length]) <= TOLERANCE


@pytest.mark.parametrize("steps", [1, 4, 35, 50])
def test_sigmas_equal_the_pipelines(folder: Path, steps: int) -> None:
    family = load_family(folder)
    grid = family.grid(512, 768)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    mu = calculate_shift(grid.tokens)
    retrieve_timesteps(scheduler, steps, "cpu", sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    assert family.drawing_sigmas(steps, grid) == pytest.approx(scheduler.sigmas.tolist(), rel=1e-6, abs=1e-7)


def test_photos_and_packing_equal_the_pipelines(folder: Path, pipeline: MaskedPipeline) -> None:
    family, vae = load_family(folder), pipeline.vae
    pixels, grid = noise(2, 3, 64, 48).clip(-1, 1), family.grid(64, 48)
    l_T = noise(2, grid.tokens, grid.channels, seed=1)
    shift, scale = vae.config.shift_factor, vae.config.scaling_factor
    with torch.no_grad():
        latent = (vae.encode(torch.from_numpy(pixels)).latent_dist.mode() - shift) * scale
        packed = pipeline._pack_latents(latent, *latent.shape)
        unpacked = pipeline._unpack_latents(torch.from_numpy(l_T), 64, 48, pipeline.vae_scale_factor)
        picture = vae.decode(unpacked / scale + shift).sample.clamp(-1, 1)
    assert relative_error(family.encode_photo(mx.array(pixels.transpose(0, 2, 3, 1))), packed) <= TOLERANCE
    assert relative_error(unpack(mx.array(l_T), grid).transpose(0, 3, 1, 2), unpacked) <= TOLERANCE
    assert relative_error(pack(unpack(mx.array(l_T), grid)), torch.from_numpy(l_T)) <= TOLERANCE
    assert relative_error(family.decode(mx.array(l_T), grid).transpose(0, 3, 1, 2), picture) <= TOLERANCE


@pytest.mark.parametrize("guidance", [3.0, 1.0], ids=["true guidance", "one pass"])
def test_a_picture_is_the_pipelines(folder: Path, pipeline: MaskedPipeline, guidance: float) -> None:
    family, steps = load_family(folder), 4
    grid = family.grid(64, 48)
    start = starting_noise(grid, seed=7)

    def drawn(output: str) -> Any:
        return pipeline(
            prompt=PROMPT,
            negative_prompt="",
            height=64,
            width=48,
            num_inference_steps=steps,
            guidance_scale=guidance,
            latents=torch.from_numpy(np.array(start)),
            max_sequence_length=tiny_chroma.TOKENS,
            output_type=output,
        ).images

    check_picture(family, guidance, steps, drawn("latent"), drawn("pil")[0])


def test_a_trained_adapter_makes_the_same_change_in_diffusers(
    folder: Path, pipeline: MaskedPipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the text encoder diffusers says that it has none."""

    def theirs(l_t: torch.Tensor, text: Conditioning, grid: Grid) -> torch.Tensor:
        tokens, lengths = to_torch(text["tokens"]), text["lengths"].tolist()
        return reference_velocity(pipeline.transformer, l_t, tokens, lengths, grid)

    check_trained_adapter(load_family(folder), pipeline, theirs, tmp_path, caplog, known="T5EncoderModel")
