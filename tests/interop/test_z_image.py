"""Z-Image equals diffusers': the transformer, with an adapter too, texts of any length, the VAE, sigmas, pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL as ReferenceVAE
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas, retrieve_timesteps
from mlx.utils import tree_flatten
from peft.tuners.tuners_utils import BaseTunerLayer

from bench.real_models import Z_IMAGE
from core.adapters import file as adapter_file
from core.adapters import lora
from core.models.base import Grid
from core.models.load import load_family
from core.models.z_image import ZImage, ZImageTransformer, unpack
from core.sampling import draw, guidance_for, sampler_steps, starting_noise
from core.training.events import Finished
from tests import tiny, tiny_qwen3, tiny_z_image
from tests.core.subjects import photo_folder, training
from tests.interop.reference import TOLERANCE, noise, ours, psnr, randomized, relative_error

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
SIGMA = [0.93, 0.21]
L_T = noise(2, GRID.tokens, GRID.channels)
LENGTHS = (7, 75)  # with what fills them up, 32 and 96 tokens
TEXTS = [noise(length, 40, seed=length) for length in LENGTHS]
PROMPT = "a photo of sks can"
LEAST_PSNR_DB = 40.0
ADAPTER_TOLERANCE = 1e-3  # of the change that an adapter makes, read from its bfloat16 file by both
STRONG = {"rank": 3, "alpha": 6, "learning_rate": 0.02, "steps": 6, "warmup_steps": 0, "save_every": 100}


def in_pixels(l_BLC: mx.array | np.ndarray, grid: Grid) -> torch.Tensor:
    """Tokens as the reference takes latents: (B, Z, H/8, W/8)."""
    return torch.from_numpy(np.array(unpack(mx.array(l_BLC), grid))).permute(0, 3, 1, 2)


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


def test_velocity_and_gradients_equal_the_references(pair: tuple[ZImageTransformer2DModel, Path]) -> None:
    reference, folder = pair
    transformer = ours(ZImageTransformer, folder, "diffusion_pytorch_model")
    latent = in_pixels(L_T, GRID).requires_grad_()
    expected = reference_velocity(reference, latent, [torch.from_numpy(text) for text in TEXTS], SIGMA)
    expected.square().mean().backward()

    def loss(l_t: mx.array) -> mx.array:
        return our_velocity(transformer, l_t, SIGMA, TEXTS).square().mean()

    found = our_velocity(transformer, mx.array(L_T), SIGMA, TEXTS)
    assert relative_error(unpack(found, GRID).transpose(0, 3, 1, 2), expected) <= TOLERANCE
    gradient = mx.grad(loss)(mx.array(L_T))
    assert relative_error(unpack(gradient, GRID).transpose(0, 3, 1, 2), latent.grad) <= TOLERANCE
    ours_by_name = dict(tree_flatten(nn.value_and_grad(transformer, loss)(mx.array(L_T))[1]))
    theirs_by_name = dict(reference.named_parameters())
    for name in LEARNED:
        assert relative_error(ours_by_name[name], theirs_by_name[name].grad) <= TOLERANCE, name
    reference.zero_grad()


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
    transformer = ours(ZImageTransformer, tmp_path, "diffusion_pytorch_model")
    plain = our_velocity(transformer, mx.array(L_T), SIGMA, TEXTS)
    factors = {
        path: (noise(3, width_in, seed=i) * width_in**-0.5, noise(width_out, 3, seed=i + 999) * 0.3)
        for i, (path, (width_out, width_in)) in enumerate(tiny.linear_shapes(transformer).items())
        if ".attention." in path or ".feed_forward." in path
    }
    lora.attach_factors(transformer, {path: (mx.array(a), mx.array(b)) for path, (a, b) in factors.items()}, name="one")
    state = {f"transformer.{path}.lora_A.weight": torch.from_numpy(a) for path, (a, _) in factors.items()}
    state |= {f"transformer.{path}.lora_B.weight": torch.from_numpy(b) for path, (_, b) in factors.items()}
    reference.load_lora_adapter(state)
    with torch.no_grad():
        texts = [torch.from_numpy(text) for text in TEXTS]
        expected = reference_velocity(reference, in_pixels(L_T, GRID), texts, SIGMA)

    def error(velocity: mx.array) -> float:
        return relative_error(unpack(velocity, GRID).transpose(0, 3, 1, 2), expected)

    assert error(our_velocity(transformer, mx.array(L_T), SIGMA, TEXTS)) <= TOLERANCE
    assert error(plain) > 0.1  # the adapter says something


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

    texts = [family.encode_text([text]) for text in (PROMPT, "")]
    *_, l_T = sampler_steps(family, *texts, grid, steps, guidance_for(family, guidance), start)
    assert relative_error(unpack(l_T, grid).transpose(0, 3, 1, 2), drawn("latent")) <= TOLERANCE
    picture = draw(family, PROMPT, height_px=64, width_px=48, steps=steps, guidance=guidance, seed=7).image
    assert psnr(np.array(picture), np.array(drawn("pil")[0])) >= LEAST_PSNR_DB
    assert np.array(picture).std() > 5  # a picture, not a plain grey


@pytest.mark.parametrize("which", ["folder", "turbo"])
def test_a_trained_adapter_makes_the_same_change_in_diffusers(
    request: pytest.FixtureRequest, which: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Turbo's is trained with the assistant on, and its file holds nothing of the assistant."""
    folder = request.getfixturevalue(which)
    family, reference = load_family(folder), pipeline_of(folder)
    finished = list(training(family, photo_folder(tmp_path / "photos"), tmp_path / "run", **STRONG))[-1]
    assert isinstance(finished, Finished)
    grid = family.grid(64, 48)
    l_t, text = mx.array(noise(2, grid.tokens, grid.channels)), family.encode_text([PROMPT, "a red toy car"])
    texts = [
        torch.from_numpy(np.array(tokens[:length]))
        for tokens, length in zip(text["tokens"], text["lengths"].tolist(), strict=True)
    ]

    def velocities() -> tuple[mx.array, torch.Tensor]:
        with torch.no_grad():
            theirs = reference_velocity(reference.transformer, in_pixels(l_t, grid), texts, SIGMA)
        mine = family.velocity(l_t, mx.array(SIGMA), text, grid, 1.0)
        return unpack(mine, grid).transpose(0, 3, 1, 2), theirs

    before, their_before = velocities()
    assert relative_error(before, their_before) <= TOLERANCE  # nothing is left on the model, the assistant neither
    held = adapter_file.read(finished.adapter, "z_image")
    lora.attach_factors(family.transformer, held.factors, name="trained")
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        reference.load_lora_weights(str(finished.adapter.parent), weight_name=finished.adapter.name)
    assert not [record.getMessage() for record in caplog.records if "eys" in record.getMessage()]
    tuned = {name for name, module in reference.transformer.named_modules() if isinstance(module, BaseTunerLayer)}
    assert tuned == set(held.factors) == set(family.presets["all_linear"])

    after, their_after = velocities()
    assert relative_error(after - before, their_after - their_before) <= ADAPTER_TOLERANCE
    assert relative_error(after, their_before) > 0.05  # the adapter says something
    reference.unload_lora_weights()
    assert torch.equal(velocities()[1], their_before)
