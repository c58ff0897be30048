"""FLUX.2-klein equals diffusers': the transformer, with an adapter too, the VAE, positions, sigmas, whole pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2 as ReferenceVAE
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu, retrieve_timesteps
from mlx.utils import tree_flatten
from peft.tuners.tuners_utils import BaseTunerLayer

from bench.real_models import FLUX2_VAE, KLEIN_4B
from core.adapters import file as adapter_file
from core.adapters import lora
from core.models.autoencoder import AutoencoderKLFlux2
from core.models.base import Grid
from core.models.flux2 import Flux2Transformer, position_ids, run_block
from core.models.load import load_family
from core.sampling import draw, guidance_for, sampler_steps, starting_noise
from core.training.events import Finished
from tests import tiny_klein, tiny_qwen3
from tests.core.subjects import photo_folder, training
from tests.interop.reference import TOLERANCE, noise, ours, psnr, randomized, relative_error

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
SIGMA = [0.93, 0.21]
L_T, TOKENS = noise(2, 30, 128), noise(2, 7, 40, seed=1)
PROMPT = "a photo of sks can"
LEAST_PSNR_DB = 40.0
ADAPTER_TOLERANCE = 1e-3  # of the change that an adapter makes, read from its bfloat16 file by both
STRONG = {"rank": 3, "alpha": 6, "learning_rate": 0.02, "steps": 6, "warmup_steps": 0, "save_every": 100}


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


@pytest.mark.parametrize("guidance", [None, 3.5], ids=["as klein", "with guidance"])
def test_velocity_and_gradients_equal_the_references(tmp_path: Path, guidance: float | None) -> None:
    reference = randomized(Flux2Transformer2DModel(**SMALL | {"guidance_embeds": guidance is not None}), seed=1)
    reference.save_pretrained(tmp_path)
    transformer = ours(Flux2Transformer, tmp_path, "diffusion_pytorch_model")

    expected_l_t = torch.from_numpy(L_T).requires_grad_()
    expected = reference_velocity(reference, expected_l_t, torch.from_numpy(TOKENS), GRID, guidance)
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


def test_velocity_with_an_adapter_equals_the_references(tmp_path: Path) -> None:
    reference = randomized(Flux2Transformer2DModel(**SMALL), seed=1)
    reference.save_pretrained(tmp_path)
    transformer = ours(Flux2Transformer, tmp_path, "diffusion_pytorch_model")
    plain = our_velocity(transformer, mx.array(L_T))
    sizes = {path: module.weight.shape for path, module in transformer.named_modules() if isinstance(module, nn.Linear)}
    factors = {
        path: (noise(3, width_in, seed=i) * width_in**-0.5, noise(width_out, 3, seed=i + 999) * 0.3)
        for i, (path, (width_out, width_in)) in enumerate(sizes.items())
        if "blocks." in path
    }
    lora.attach_factors(transformer, {path: (mx.array(a), mx.array(b)) for path, (a, b) in factors.items()}, name="one")
    state = {f"transformer.{path}.lora_A.weight": torch.from_numpy(a) for path, (a, _) in factors.items()}
    state |= {f"transformer.{path}.lora_B.weight": torch.from_numpy(b) for path, (_, b) in factors.items()}
    reference.load_lora_adapter(state)
    with torch.no_grad():
        expected = reference_velocity(reference, torch.from_numpy(L_T), torch.from_numpy(TOKENS), GRID, None)
    found = our_velocity(transformer, mx.array(L_T))
    assert relative_error(found, expected) <= TOLERANCE
    assert relative_error(plain, expected) > 0.1  # the adapter says something


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
    texts = [family.encode_text([text]) for text in (PROMPT, "")]
    walk = sampler_steps(family, *texts, grid, steps, guidance_for(family, guidance), starting_noise(grid, seed=7))
    *_, l_T = walk
    bn = reference.pipeline.vae.bn
    latent = reference.pipeline._patchify_latents(reference.draw(guidance, "latent"))
    latent = (latent - bn.running_mean.view(1, -1, 1, 1)) / torch.sqrt(bn.running_var.view(1, -1, 1, 1) + bn.eps)
    assert relative_error(l_T, reference.pipeline._pack_latents(latent)) <= TOLERANCE
    picture = draw(family, PROMPT, height_px=64, width_px=48, steps=steps, guidance=guidance, seed=7).image
    assert psnr(np.array(picture), np.array(reference.draw(guidance, "pil")[0])) >= LEAST_PSNR_DB
    assert np.array(picture).std() > 5  # a picture, not a plain grey


def test_a_trained_adapter_makes_the_same_change_in_diffusers(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    family = load_family(folder)
    photos = photo_folder(tmp_path / "photos")
    finished = list(training(family, photos, tmp_path / "run", **STRONG))[-1]
    assert isinstance(finished, Finished)
    grid = family.grid(64, 48)
    l_t, text = mx.array(noise(2, grid.tokens, grid.channels)), family.encode_text([PROMPT, "a red toy car"])
    reference = Reference(folder, grid, steps=4)

    def velocities() -> tuple[mx.array, torch.Tensor]:
        with torch.no_grad():
            theirs = reference_velocity(
                reference.pipeline.transformer,
                torch.from_numpy(np.array(l_t)),
                torch.from_numpy(np.array(text["tokens"])),
                grid,
                None,
            )
        return family.velocity(l_t, mx.array(SIGMA), text, grid, 1.0), theirs

    before, their_before = velocities()
    held = adapter_file.read(finished.adapter, family.name)
    lora.attach_factors(family.transformer, held.factors, name="trained")
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        reference.pipeline.load_lora_weights(str(finished.adapter.parent), weight_name=finished.adapter.name)
    assert not [record.getMessage() for record in caplog.records if "eys" in record.getMessage()]
    tuned = {
        name for name, module in reference.pipeline.transformer.named_modules() if isinstance(module, BaseTunerLayer)
    }
    assert tuned == set(held.factors) == set(family.presets["all_linear"])

    after, their_after = velocities()
    assert relative_error(after - before, their_after - their_before) <= ADAPTER_TOLERANCE
    assert relative_error(after, their_before) > 0.05  # the adapter says something
    reference.pipeline.unload_lora_weights()
    assert torch.equal(velocities()[1], their_before)
