"""Z-Image equals diffusers': the transformer, with an adapter too, texts of any length, the VAE, sigmas, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL as ReferenceVAE
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas, retrieve_timesteps

from bench.real_models import Z_IMAGE
from core.models.base import Conditioning, Grid
from core.models.load import load_family
from core.models.z_image import ZImage, ZImageTransformer, unpack
from core.sampling import starting_noise
from tests import tiny_qwen3, tiny_z_image
from tests.interop.checks import (
    PROMPT,
    SIGMA,
    Ours,
    Shaped,
    Theirs,
    check_picture,
    check_trained_adapter,
    check_velocity_and_gradients,
    check_velocity_with_an_adapter,
    to_torch,
)
from tests.interop.reference import TOLERANCE, noise, ours, randomized, relative_error

SMALL = Z_IMAGE | {"dim": 256, "n_heads": 2, "n_kv_heads": 2, "n_layers": 3, "cap_feat_dim": 40}
LEARNED = (
    "x_pad_token",
    "cap_pad_token",
    "cap_embedder.0.weight",
    "t_embedder.mlp.0.weight",
    "noise_refiner.0.attention.to_q.weight",
    "noise_refiner.1.adaLN_modulation.0.weight",
    "context_refiner.1.feed_forward.w3.weight",
    "layers.0.attention.to_out.0.weight",
    "layers.1.feed_forward.w1.weight",
    "layers.2.ffn_norm2.weight",
    "all_final_layer.2-1.adaLN_modulation.1.weight",
)
GRID = Grid(rows=6, columns=7, channels=64)  # 42 tokens, which 22 fill up
L_T = noise(2, GRID.tokens, GRID.channels)
LENGTHS = (7, 75)  # with what fills them up, 32 and 96 tokens
TEXTS = [noise(length, 40, seed=length) for length in LENGTHS]


def in_pixels(l_BLC: mx.array | np.ndarray, grid: Grid) -> torch.Tensor:
    """Tokens as the reference takes latents: (B, Z, H/8, W/8)."""
    return torch.from_numpy(np.array(unpack(mx.array(l_BLC), grid))).permute(0, 3, 1, 2)


def pixels_of(grid: Grid) -> Shaped:
    """The same for `checks`."""
    return lambda l_BLC: unpack(l_BLC, grid).transpose(0, 3, 1, 2)


def reference_velocity(
    reference: ZImageTransformer2DModel, latent_BZHW: torch.Tensor, texts: list[torch.Tensor], sigma: list[float]
) -> torch.Tensor:
    """As ZImagePipeline calls its transformer: a list of pictures of one frame, time reversed, the sign turned."""
    frames = list(latent_BZHW.unsqueeze(2).unbind(0))
    out = reference(frames, 1.0 - torch.tensor(sigma), texts, return_dict=False)[0]
    return -torch.stack(out).squeeze(2)


def our_velocity(
    transformer: ZImageTransformer, l_t: mx.array, sigma: list[float], texts: list[Any], grid: Grid = GRID
) -> mx.array:
    longest = 128
    tokens = mx.stack([mx.pad(mx.array(text), [(0, longest - len(text)), (0, 0)]) for text in texts])
    conditioning = {"tokens": tokens, "lengths": mx.array([len(text) for text in texts])}
    stream = transformer.embed(l_t, mx.array(sigma), conditioning, grid, 1.0)
    for path, (_, run) in ZImage.stacks.items():
        for block in transformer[path]:
            stream = run(block, stream)
    return transformer.project(stream)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[ZImageTransformer2DModel, Path]:
    folder = tmp_path_factory.mktemp("transformer")
    reference = randomized(ZImageTransformer2DModel(**SMALL), seed=1)
    with torch.no_grad():
        for token in (reference.x_pad_token, reference.cap_pad_token):
            token.copy_(torch.from_numpy(noise(*token.shape, seed=5)))
    reference.save_pretrained(folder)
    return reference, folder


def both(reference: ZImageTransformer2DModel, folder: Path) -> tuple[Any, Any, Ours, Theirs]:
    """Both transformers with the same weights, and their velocities."""
    transformer, texts = ours(ZImageTransformer, folder, "diffusion_pytorch_model"), [*map(torch.from_numpy, TEXTS)]
    return (
        transformer,
        reference,
        lambda l_t: our_velocity(transformer, l_t, SIGMA, TEXTS),
        lambda latent: reference_velocity(reference, latent, texts, SIGMA),
    )


def test_velocity_and_gradients_equal_the_references(pair: tuple[ZImageTransformer2DModel, Path]) -> None:
    check_velocity_and_gradients(*both(*pair), L_T, LEARNED, pixels_of(GRID))


@pytest.mark.parametrize("grid", [GRID, Grid(4, 8, 64), Grid(8, 8, 64)], ids=["filled up", "32", "64"])
@pytest.mark.parametrize("length", [1, 31, 32, 33, 64, 128])
def test_a_text_of_any_length_alone_gives_what_the_reference_gives(
    pair: tuple[ZImageTransformer2DModel, Path], length: int, grid: Grid
) -> None:
    """Where a picture has just so many tokens as 32s, nothing fills it up."""
    reference, folder = pair
    transformer = ours(ZImageTransformer, folder, "diffusion_pytorch_model")
    text, l_t = noise(length, 40, seed=length), noise(1, grid.tokens, grid.channels)
    with torch.no_grad():
        expected = reference_velocity(reference, in_pixels(l_t, grid), [torch.from_numpy(text)], SIGMA[:1])
    found = our_velocity(transformer, mx.array(l_t), SIGMA[:1], [text], grid)
    assert relative_error(unpack(found, grid).transpose(0, 3, 1, 2), expected) <= TOLERANCE


def test_velocity_with_an_adapter_equals_the_references(tmp_path: Path) -> None:
    reference = randomized(ZImageTransformer2DModel(**SMALL), seed=1)
    reference.save_pretrained(tmp_path)
    layers = [".attention.", ".feed_forward."]
    check_velocity_with_an_adapter(*both(reference, tmp_path), L_T, layers, pixels_of(GRID))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_z_image.make_model_folder(tmp_path_factory.mktemp("z-image"))


@pytest.fixture(scope="module")
def turbo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_z_image.make_model_folder(tmp_path_factory.mktemp("turbo"), turbo=True)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> ZImagePipeline:
    return pipeline_of(folder)


def pipeline_of(folder: Path) -> ZImagePipeline:
    pipeline = ZImagePipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_text_features_are_the_pipelines(folder: Path, pipeline: ZImagePipeline) -> None:
    prompts = [PROMPT, "", "  Ünïcödé,\nit's a DOG's 42 toys! ", "word " * 90]
    with torch.no_grad():
        expected = pipeline._encode_prompt(list(prompts), device="cpu", max_sequence_length=tiny_qwen3.TOKENS)
    found = load_family(folder).encode_text(prompts)
    assert found["lengths"].tolist() == [len(each) for each in expected]
    assert len(set(found["lengths"].tolist())) == len(prompts)
    for ours_ND, length, theirs in zip(found["tokens"], found["lengths"].tolist(), expected, strict=True):
        assert relative_error(ours_ND[:length], theirs) <= TOLERANCE
        assert not mx.any(ours_ND[length:]).item()


def test_photos_and_latents_equal_the_vaes(folder: Path, pipeline: ZImagePipeline) -> None:
    family, vae = load_family(folder), pipeline.vae
    assert isinstance(vae, ReferenceVAE)
    pixels, grid = noise(2, 3, 64, 48).clip(-1, 1), family.grid(64, 48)
    l_T = noise(2, grid.tokens, grid.channels, seed=1)
    shift, scale = vae.config.shift_factor, vae.config.scaling_factor
    with torch.no_grad():
        latent = (vae.encode(torch.from_numpy(pixels)).latent_dist.mode() - shift) * scale
        picture = vae.decode(in_pixels(l_T, grid) / scale + shift).sample.clamp(-1, 1)
    found = unpack(family.encode_photo(mx.array(pixels.transpose(0, 2, 3, 1))), grid)
    assert relative_error(found.transpose(0, 3, 1, 2), latent) <= TOLERANCE
    assert relative_error(family.decode(mx.array(l_T), grid).transpose(0, 3, 1, 2), picture) <= TOLERANCE


@pytest.mark.parametrize("steps", [1, 8, 9, 28, 50])
@pytest.mark.parametrize("which", ["folder", "turbo"])
def test_sigmas_equal_the_pipelines(request: pytest.FixtureRequest, which: str, steps: int) -> None:
    folder = request.getfixturevalue(which)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    retrieve_timesteps(scheduler, steps, "cpu", sigmas=get_default_z_image_sigmas(steps), mu=0.7)
    family = load_family(folder)
    found = family.drawing_sigmas(steps, family.grid(64, 48))
    assert found == pytest.approx(scheduler.sigmas.tolist(), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(("which", "guidance"), [("folder", 5.0), ("turbo", 1.0)])
def test_a_picture_is_the_pipelines(request: pytest.FixtureRequest, which: str, guidance: float) -> None:
    """The pipeline adds guidance times (with - without) to the prompt's own velocity: it counts from 0, we from 1."""
    folder, steps = request.getfixturevalue(which), 4
    family, reference = load_family(folder), pipeline_of(folder)
    grid = family.grid(64, 48)
    start = starting_noise(grid, seed=7)

    def drawn(output: str) -> Any:
        return reference(
            prompt=PROMPT,
            height=64,
            width=48,
            num_inference_steps=steps,
            guidance_scale=guidance - 1.0,
            latents=in_pixels(start, grid).contiguous(),
            max_sequence_length=tiny_qwen3.TOKENS,
            output_type=output,
        ).images

    check_picture(family, guidance, steps, drawn("latent"), drawn("pil")[0], pixels_of(grid))


@pytest.mark.parametrize("which", ["folder", "turbo"])
def test_a_trained_adapter_makes_the_same_change_in_diffusers(
    request: pytest.FixtureRequest, which: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Turbo's is trained with the assistant on, and its file holds nothing of the assistant."""
    folder = request.getfixturevalue(which)
    family, pipeline = load_family(folder), pipeline_of(folder)

    def theirs(latent: torch.Tensor, text: Conditioning, _grid: Grid) -> torch.Tensor:
        lengths = text["lengths"].tolist()
        texts = [to_torch(tokens[:length]) for tokens, length in zip(text["tokens"], lengths, strict=True)]
        return reference_velocity(pipeline.transformer, latent, texts, SIGMA)

    check_trained_adapter(family, pipeline, theirs, tmp_path, caplog, pixels_of(family.grid(64, 48)))
