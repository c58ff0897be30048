"""diffusers' own pipeline draws the same picture as ours, from the same folder and the same noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from core.hub.catalog import POCKET_FOLDER
from core.models.base import Family
from core.models.load import load_family
from core.sampling import Picture, draw, starting_noise
from tests import tiny
from tests.interop.reference import psnr

PROMPT = "a photo of a red toy car on the beach"
LEAST_PSNR_DB = 40.0


def reference_picture(folder: Path, family: Family, side_px: int, steps: int, **guidance: object) -> np.ndarray:
    pipeline = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    noise = starting_noise(family.grid(side_px, side_px), seed=7)
    picture = pipeline(
        PROMPT,
        height=side_px,
        width=side_px,
        num_inference_steps=steps,
        latents=torch.from_numpy(np.array(noise)),
        max_sequence_length=family.text_tokens,
        **guidance,
    ).images[0]
    return np.array(picture)


def our_picture(family: Family, side_px: int, steps: int, guidance: float) -> Picture:
    return draw(family, PROMPT, height_px=side_px, width_px=side_px, steps=steps, guidance=guidance, seed=7)


@pytest.mark.parametrize("embedded", [False, True], ids=["true guidance", "embedded guidance"])
def test_a_tiny_models_picture_is_the_references(tmp_path: Path, embedded: bool) -> None:
    folder = tiny.make_model_folder(tmp_path, guidance=embedded)
    family = load_family(folder)
    told = {"guidance_scale": 3.5} if embedded else {"true_cfg_scale": 3.5, "negative_prompt": ""}
    expected = reference_picture(folder, family, 64, 4, **told)
    assert psnr(np.array(our_picture(family, 64, 4, 3.5).image), expected) >= LEAST_PSNR_DB


@pytest.mark.parametrize("guidance", [1.0, 4.0], ids=["one pass", "true guidance"])
def test_pockets_picture_is_the_references(guidance: float) -> None:
    family = load_family(POCKET_FOLDER)
    told = {"true_cfg_scale": guidance, "negative_prompt": ""} if guidance > 1 else {}
    expected = reference_picture(POCKET_FOLDER, family, 256, 8, **told)
    picture = np.array(our_picture(family, 256, 8, guidance).image)
    assert picture.std() > 5  # a picture, not a plain grey
    assert psnr(picture, expected) >= LEAST_PSNR_DB
