"""FLUX.3 klein equals diffusers': the transformer, base and flow map, with an adapter too, texts, sigmas, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux3Transformer2DModel
from diffusers.modular_pipelines.flux3.before_denoise import (
    Flux3SetTimestepsStep,
    Flux3TextRoPEInputsStep,
    _prepare_image_ids,
)
from diffusers.modular_pipelines.flux3.encoders import Flux3TextEncoderStep, Flux3VaeEncoderStep
from diffusers.modular_pipelines.flux3.modular_blocks_flux3 import Flux3AutoBlocks
from diffusers.modular_pipelines.flux3.modular_blocks_flux3_distilled import Flux3DistilledAutoBlocks
from diffusers.modular_pipelines.flux3.modular_pipeline import Flux3ModularPipeline
from transformers import AutoTokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from bench.real_models import FLUX3_KLEIN_BASE
from core.adapters import lora
from core.models.base import TARGET, Conditioning, Grid
from core.models.flux3 import Flux3, Flux3Transformer, position_ids
from core.models.load import load_family
from core.sampling import starting_noise
from tests import tiny_flux3, tiny_qwen3
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

SMALL = FLUX3_KLEIN_BASE | {
    "num_layers": 2, "num_single_layers": 3, "num_attention_heads": 2, "joint_attention_dim": 40,
}  # fmt: skip
LEARNED = (
    "timestep_embedder.linear_1.weight",
    "early_stream_modulations.txt.linear.weight",
    "single_stream_modulations.image.linear.weight",
    "x_embedders.image.weight",
    "txt_mode_blocks.0.attn.to_q.weight",
    "txt_mode_blocks.1.ff.linear_in.weight",
    "mode_blocks.image.0.attn.norm_k.weight",
    "mode_blocks.image.1.ff.linear_out.weight",
    "single_transformer_blocks.0.attn.to_out.0.weight",
    "single_transformer_blocks.2.attn.to_v.weight",
    "norm_out.linear.weight",
)
GRID = Grid(rows=6, columns=5, channels=128)
SIGMA_NEXT = [0.5, 0.0]
L_T, TOKENS = noise(2, 30, 128), noise(2, 7, 40, seed=1)


def reference_velocity(
    reference: Flux3Transformer2DModel, l_t: torch.Tensor, tokens: torch.Tensor, grid: Grid, sigma: list[float]
) -> torch.Tensor:
    ids = torch.tensor(position_ids(tokens.shape[1], grid).tolist())
    return reference(
        hidden_states=l_t,
        encoder_hidden_states=tokens,
        timestep=torch.tensor(sigma),
        target_timestep=torch.tensor(SIGMA_NEXT[: len(l_t)]) if reference.config.flow_map else None,
        txt_ids=ids[: tokens.shape[1]],
        img_ids=ids[tokens.shape[1] :],
    ).sample


def our_velocity(transformer: Flux3Transformer, l_t: mx.array) -> mx.array:
    conditioning = {"tokens": mx.array(TOKENS), "lengths": mx.array([7, 7]), TARGET: mx.array(SIGMA_NEXT)}
    stream = transformer.embed(l_t, mx.array(SIGMA), conditioning, GRID, guidance=1.0)
    for path, (_, run) in Flux3.stacks.items():
        for block in lora.find(transformer, path):
            stream = run(block, stream)
    return transformer.project(stream)


def both(tmp_path: Path, flow_map: bool) -> tuple[Flux3Transformer, Flux3Transformer2DModel, Ours, Theirs]:
    """Both transformers with the same weights, and their velocities."""
    reference = randomized(Flux3Transformer2DModel(**SMALL | {"flow_map": flow_map}), seed=1)
    reference.save_pretrained(tmp_path)
    transformer = ours(Flux3Transformer, tmp_path, "diffusion_pytorch_model")
    return (
        transformer,
        reference,
        lambda l_t: our_velocity(transformer, l_t),
        lambda l_t: reference_velocity(reference, l_t, torch.from_numpy(TOKENS), GRID, SIGMA),
    )


@pytest.mark.parametrize("flow_map", [False, True], ids=["base", "distilled"])
def test_velocity_and_gradients_equal_the_references(tmp_path: Path, flow_map: bool) -> None:
    more = ("target_timestep_embedder.linear_2.weight",) if flow_map else ()
    check_velocity_and_gradients(*both(tmp_path, flow_map), L_T, LEARNED + more)


def test_velocity_with_an_adapter_equals_the_references(tmp_path: Path) -> None:
    check_velocity_with_an_adapter(*both(tmp_path, False), L_T, ["blocks."])


def test_positions_equal_the_pipelines() -> None:
    text = Flux3TextRoPEInputsStep._prepare_text_ids(torch.zeros(1, 3, 8))
    image = _prepare_image_ids(4, 7, 0.5)
    assert position_ids(3, Grid(4, 7, 128)).tolist() == [*text.tolist(), *image.tolist()]


class Processor:
    """The text side of a Qwen3-VL processor; the image side would need a vision tower's files."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.apply_chat_template = self.tokenizer.apply_chat_template


def make_folder(path: Path, *, distilled: bool = False) -> Path:
    """A tiny model whose text encoder is a whole Qwen3-VL, saved by transformers."""
    folder = tiny_flux3.make_model_folder(path, distilled=distilled)
    (folder / "text_encoder" / "model.safetensors").unlink()
    config = Qwen3VLConfig(**tiny_qwen3.vl_config(layers=34))
    randomized(Qwen3VLForConditionalGeneration(config), seed=6).save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("flux3"))


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("distilled"), distilled=True)


def pipeline_of(folder: Path) -> Flux3ModularPipeline:
    transformer = Flux3Transformer2DModel.from_pretrained(folder / "transformer")
    blocks = Flux3DistilledAutoBlocks() if transformer.config.flow_map else Flux3AutoBlocks()
    del blocks.sub_blocks["prompt_upsampler"]  # a language model that rewrites the prompt, which ours leaves as it is
    pipeline = blocks.init_pipeline()
    pipeline.update_components(
        transformer=transformer,
        vae=AutoencoderKLFlux2.from_pretrained(folder / "vae"),
        text_encoder=Qwen3VLForConditionalGeneration.from_pretrained(folder / "text_encoder", dtype=torch.float32),
        tokenizer=Processor(folder / "tokenizer"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("prompt", [PROMPT, "", "  Ünïcödé,\nit's a DOG's 42 toys! ", "word " * 20], ids=len)
def test_text_features_are_the_pipelines_padding_too(folder: Path, prompt: str, tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"  # without a limit, so that a text may be longer than one window
    tiny_qwen3.write_tokenizer(tokenizer, tokens=None)
    encoder = Qwen3VLForConditionalGeneration.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    with torch.no_grad():
        expected = Flux3TextEncoderStep._get_qwen3_vl_prompt_embeds(encoder, Processor(tokenizer), prompt)
    tiny_qwen3.write_tokenizer(folder / "tokenizer", tokens=None)
    found = load_family(folder).encode_text([prompt])
    tiny_qwen3.write_tokenizer(folder / "tokenizer")
    assert found["lengths"].tolist() == [expected.shape[1]]
    assert relative_error(found["tokens"], expected) <= TOLERANCE
    assert expected.shape[1] == (160 if prompt.startswith("word") else 80)


@pytest.mark.parametrize("steps", [1, 4, 16, 50])
def test_sigmas_equal_the_pipelines(folder: Path, steps: int) -> None:
    family = load_family(folder)
    pipeline = Flux3SetTimestepsStep(num_inference_steps=steps).init_pipeline()
    pipeline(output="timesteps")
    assert isinstance(pipeline.scheduler, FlowMatchEulerDiscreteScheduler)
    found = family.drawing_sigmas(steps, family.grid(64, 48))
    assert found == pytest.approx(pipeline.scheduler.sigmas.tolist(), rel=1e-6, abs=1e-7)


def test_photos_are_the_tokens_that_the_pipeline_encodes(folder: Path) -> None:
    pixels = noise(1, 3, 64, 48).clip(-1, 1)
    pipeline = Flux3VaeEncoderStep().init_pipeline()
    pipeline.update_components(vae=AutoencoderKLFlux2.from_pretrained(folder / "vae"))
    (latents,) = pipeline(condition_images=[torch.from_numpy(pixels)], output="image_cond_latents")
    found = load_family(folder).encode_photo(mx.array(pixels.transpose(0, 2, 3, 1)))
    assert relative_error(found, latents.flatten(2).transpose(1, 2)) <= TOLERANCE


@pytest.mark.parametrize(("which", "guidance"), [("folder", 3.5), ("distilled", 1.0)])
def test_a_picture_is_the_pipelines(request: pytest.FixtureRequest, which: str, guidance: float) -> None:
    folder, steps = request.getfixturevalue(which), 4
    family, pipeline = load_family(folder), pipeline_of(folder)
    grid = family.grid(64, 48)
    start = starting_noise(grid, seed=7)
    tokens = torch.from_numpy(np.array(start))

    def drawn(output: str) -> Any:
        return pipeline(
            prompt=PROMPT,
            height=64,
            width=48,
            num_inference_steps=steps,
            latents=tokens.permute(0, 2, 1).reshape(1, grid.channels, grid.rows, grid.columns),
            max_sequence_length=tiny_qwen3.TOKENS,
            output=output,
        )

    latent = drawn("latents").flatten(2).transpose(1, 2)
    check_picture(family, guidance, steps, latent, drawn("images")[0])


def test_a_trained_adapter_makes_the_same_change_in_diffusers(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = pipeline_of(folder)

    def theirs(l_t: torch.Tensor, text: Conditioning, grid: Grid) -> torch.Tensor:
        return reference_velocity(pipeline.transformer, l_t, to_torch(text["tokens"]), grid, SIGMA)

    check_trained_adapter(load_family(folder), pipeline, theirs, tmp_path, caplog)
