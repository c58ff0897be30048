"""Chroma equals diffusers': the transformer, with an adapter too, texts, the mask, sigmas, whole pictures.

ChromaPipeline 0.42.1 passes its mask as numbers, which torch's attention adds to the scores: 1 where a token is seen, 0
where it is not, so padding is seen after all. The makers' own code passes booleans, and so does the reference here.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import torch
from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.chroma.pipeline_chroma import calculate_shift, retrieve_timesteps
from mlx.utils import tree_flatten
from peft.tuners.tuners_utils import BaseTunerLayer

from bench.real_models import CHROMA1_HD
from core.adapters import file as adapter_file
from core.adapters import lora
from core.models.base import Grid
from core.models.chroma import ChromaTransformer, places, run_block
from core.models.flux1 import position_ids
from core.models.load import load_family
from core.models.patches import pack, unpack
from core.sampling import draw, guidance_for, sampler_steps, starting_noise
from core.training.events import Finished
from tests import tiny, tiny_chroma
from tests.core.subjects import photo_folder, training
from tests.interop.reference import TOLERANCE, noise, ours, psnr, randomized, relative_error

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
SIGMA = [0.93, 0.21]
L_T, TOKENS, LENGTHS = noise(2, 30, 64), noise(2, 9, 40, seed=1), [9, 4]
PROMPT = "a photo of sks can"
LEAST_PSNR_DB = 40.0
ADAPTER_TOLERANCE = 1e-3  # of the change that an adapter makes, read from its bfloat16 file by both
STRONG = {"rank": 3, "alpha": 6, "learning_rate": 0.02, "steps": 6, "warmup_steps": 0, "save_every": 100}


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


def test_velocity_and_gradients_equal_the_references(tmp_path: Path) -> None:
    reference = randomized(ChromaTransformer2DModel(**SMALL), seed=1)
    reference.save_pretrained(tmp_path)
    transformer = ours(ChromaTransformer, tmp_path, "diffusion_pytorch_model")

    expected_l_t = torch.from_numpy(L_T).requires_grad_()
    expected = reference_velocity(reference, expected_l_t, torch.from_numpy(TOKENS), LENGTHS, GRID)
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


def test_the_places_of_all_344_modulations_are_the_references() -> None:
    """At full size, where angles are largest."""
    with torch.device("meta"):
        count = ChromaTransformer2DModel(**CHROMA1_HD).time_text_embed.mod_proj.shape[0]
    assert count == 344
    whole = ChromaTransformer2DModel(**SMALL | {"num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128})
    assert relative_error(places(344, 32), whole.time_text_embed.mod_proj) <= TOLERANCE


def test_velocity_with_an_adapter_equals_the_references(tmp_path: Path) -> None:
    reference = randomized(ChromaTransformer2DModel(**SMALL), seed=1)
    reference.save_pretrained(tmp_path)
    transformer = ours(ChromaTransformer, tmp_path, "diffusion_pytorch_model")
    plain = our_velocity(transformer, mx.array(L_T))
    factors = {
        path: (noise(3, width_in, seed=i) * width_in**-0.5, noise(width_out, 3, seed=i + 999) * 0.3)
        for i, (path, (width_out, width_in)) in enumerate(tiny.linear_shapes(transformer).items())
        if "transformer_blocks." in path
    }
    lora.attach_factors(transformer, {path: (mx.array(a), mx.array(b)) for path, (a, b) in factors.items()}, name="one")
    state = {f"transformer.{path}.lora_A.weight": torch.from_numpy(a) for path, (a, _) in factors.items()}
    state |= {f"transformer.{path}.lora_B.weight": torch.from_numpy(b) for path, (_, b) in factors.items()}
    reference.load_lora_adapter(state)
    with torch.no_grad():
        expected = reference_velocity(reference, torch.from_numpy(L_T), torch.from_numpy(TOKENS), LENGTHS, GRID)
    assert relative_error(our_velocity(transformer, mx.array(L_T)), expected) <= TOLERANCE
    assert relative_error(plain, expected) > 0.1  # the adapter says something


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

    texts = [family.encode_text([text]) for text in (PROMPT, "")]
    *_, l_T = sampler_steps(family, *texts, grid, steps, guidance_for(family, guidance), start)
    assert relative_error(l_T, drawn("latent")) <= TOLERANCE
    picture = draw(family, PROMPT, height_px=64, width_px=48, steps=steps, guidance=guidance, seed=7).image
    assert psnr(np.array(picture), np.array(drawn("pil")[0])) >= LEAST_PSNR_DB
    assert np.array(picture).std() > 5  # a picture, not a plain grey


def test_a_trained_adapter_makes_the_same_change_in_diffusers(
    folder: Path, pipeline: MaskedPipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    family = load_family(folder)
    finished = list(training(family, photo_folder(tmp_path / "photos"), tmp_path / "run", **STRONG))[-1]
    assert isinstance(finished, Finished)
    grid = family.grid(64, 48)
    l_t, text = mx.array(noise(2, grid.tokens, grid.channels)), family.encode_text([PROMPT, "a red toy car"])

    def velocities() -> tuple[mx.array, torch.Tensor]:
        with torch.no_grad():
            theirs = reference_velocity(
                pipeline.transformer,
                torch.from_numpy(np.array(l_t)),
                torch.from_numpy(np.array(text["tokens"])),
                text["lengths"].tolist(),
                grid,
            )
        return family.velocity(l_t, mx.array(SIGMA), text, grid, 1.0), theirs

    before, their_before = velocities()
    held = adapter_file.read(finished.adapter, "chroma")
    lora.attach_factors(family.transformer, held.factors, name="trained")
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        pipeline.load_lora_weights(str(finished.adapter.parent), weight_name=finished.adapter.name)
    said = [record.getMessage() for record in caplog.records if "eys" in record.getMessage()]
    assert not [text for text in said if "T5EncoderModel" not in text]  # of the text encoder it says that it has none
    tuned = {name for name, module in pipeline.transformer.named_modules() if isinstance(module, BaseTunerLayer)}
    assert tuned == set(held.factors) == set(family.presets["all_linear"])

    after, their_after = velocities()
    assert relative_error(after - before, their_after - their_before) <= ADAPTER_TOLERANCE
    assert relative_error(after, their_before) > 0.05  # the adapter says something
    pipeline.unload_lora_weights()
    assert torch.equal(velocities()[1], their_before)
