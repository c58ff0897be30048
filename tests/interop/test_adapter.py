"""An adapter that we trained loads in diffusers, all of it, and draws the same picture there as here."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from peft.tuners.tuners_utils import BaseTunerLayer

from core.adapters import file as adapter_file
from core.adapters import lora
from core.hub.catalog import POCKET_FOLDER
from core.models.base import Family
from core.models.load import load_family
from core.sampling import draw, starting_noise
from core.training.events import Finished
from tests.core.subjects import photo_folder, training
from tests.interop.reference import psnr
from tests.tiny import make_model_folder

PROMPT = "a photo of sks can"
LEAST_PSNR_DB = 40.0
STRONG = {"rank": 3, "alpha": 6, "learning_rate": 0.02, "steps": 6, "warmup_steps": 0, "save_every": 100}


def trained(folder: Path, tmp_path: Path, **knobs: Any) -> Path:
    """Train a few strong steps and return the adapter's file."""
    photos = photo_folder(tmp_path / "photos")
    finished = list(training(load_family(folder), photos, tmp_path / "run", **{**STRONG, **knobs}))[-1]
    assert isinstance(finished, Finished)
    return finished.adapter


def our_picture(family: Family, side_px: int, steps: int) -> np.ndarray:
    return np.array(draw(family, PROMPT, height_px=side_px, width_px=side_px, steps=steps, guidance=1.0, seed=7).image)


class Reference:
    """diffusers' pipeline of a folder, drawing from our noise."""

    def __init__(self, folder: Path, family: Family, side_px: int, steps: int) -> None:
        self.pipeline = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        self._noise = torch.from_numpy(np.array(starting_noise(family.grid(side_px, side_px), seed=7)))
        self._tokens, self._side_px, self._steps = family.text_tokens, side_px, steps

    def picture(self) -> np.ndarray:
        images = self.pipeline(
            PROMPT,
            height=self._side_px,
            width=self._side_px,
            num_inference_steps=self._steps,
            guidance_scale=1.0,
            latents=self._noise.clone(),
            max_sequence_length=self._tokens,
        ).images
        return np.array(images[0])

    @property
    def tuned_layers(self) -> int:
        return sum(isinstance(module, BaseTunerLayer) for module in self.pipeline.transformer.modules())


def check(folder: Path, file: Path, side_px: int, steps: int, caplog: pytest.LogCaptureFixture) -> None:
    family = load_family(folder)
    reference = Reference(folder, family, side_px, steps)
    base = our_picture(family, side_px, steps)
    held = adapter_file.read(file, "flux1")
    lora.attach_factors(family.transformer, held.factors, name="trained")
    ours = our_picture(family, side_px, steps)
    assert psnr(ours, base) < 30  # the adapter says something

    plain = reference.picture()
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        reference.pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    loading = [record.getMessage() for record in caplog.records if "eys" in record.getMessage()]
    # A pipeline says so of its text encoders, which have no adapter; of the transformer nothing may be said.
    assert not [text for text in loading if "CLIPTextModel" not in text]
    assert reference.tuned_layers == len(held.factors)
    assert psnr(reference.picture(), ours) >= LEAST_PSNR_DB
    assert psnr(plain, base) >= LEAST_PSNR_DB

    reference.pipeline.unload_lora_weights()
    assert np.array_equal(reference.picture(), plain)


@pytest.mark.parametrize("guidance", [False, True], ids=["schnell-like", "dev-like"])
def test_a_trained_adapter_draws_the_same_in_diffusers(
    tmp_path: Path, guidance: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_model_folder(tmp_path / "model", guidance=guidance)
    check(folder, trained(folder, tmp_path), 64, 4, caplog)


@pytest.mark.skipif(not (POCKET_FOLDER / "model_index.json").is_file(), reason="Pocket's weights are not there")
def test_pockets_adapter_draws_the_same_in_diffusers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = trained(POCKET_FOLDER, tmp_path, learning_rate=5e-3, side_px=256)
    check(POCKET_FOLDER, file, 256, 6, caplog)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # a second adapter is what this is about
def test_adapters_of_different_rank_and_strength_stack_as_in_diffusers(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "model")
    files = [
        trained(folder, tmp_path / "one", targets="attention"),
        trained(folder, tmp_path / "two", rank=5, alpha=5, ranks="mlp=2:6, *.1.attn.to_q=7", seed=3),
    ]
    family = load_family(folder)
    reference = Reference(folder, family, 64, 4)
    for name, file, strength in zip(("one", "two"), files, (0.5, 1.5), strict=True):
        lora.attach_factors(family.transformer, adapter_file.read(file, "flux1").factors, name=name, strength=strength)
        reference.pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name)
    reference.pipeline.set_adapters(["one", "two"], [0.5, 1.5])
    assert psnr(reference.picture(), our_picture(family, 64, 4)) >= LEAST_PSNR_DB


def test_the_file_is_the_weights_with_the_product_added(tmp_path: Path) -> None:
    """The numbers themselves: diffusers' layer with our adapter equals W + B A of the file."""
    folder = make_model_folder(tmp_path / "model")
    file = trained(folder, tmp_path)
    pipeline = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    modules = dict(pipeline.transformer.named_modules())
    for path, (a_RI, b_OR) in adapter_file.read(file, "flux1").factors.items():
        layer = modules[path]
        x = torch.randn(3, a_RI.shape[1])
        delta = torch.from_numpy(np.array(b_OR)) @ torch.from_numpy(np.array(a_RI))
        expected = layer.base_layer(x) + x @ delta.T
        assert torch.allclose(layer(x), expected, atol=1e-5)
