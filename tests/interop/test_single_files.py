"""The names of tests/comfy.py, and so the key maps that are tested with them, against diffusers' own conversions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.loaders import single_file_utils as theirs
from safetensors.torch import load_file

from bench import real_models as real
from tests import comfy, families
from tests.real_files import REAL, shapes

CONVERT = {
    "flux1-dev": theirs.convert_flux_transformer_checkpoint_to_diffusers,
    "flux1-schnell": theirs.convert_flux_transformer_checkpoint_to_diffusers,
    "flux-2-klein-4b": theirs.convert_flux2_transformer_checkpoint_to_diffusers,
    "flux-2-klein-9b": theirs.convert_flux2_transformer_checkpoint_to_diffusers,
    "z_image": theirs.convert_z_image_transformer_checkpoint_to_diffusers,
    "chroma1-hd": theirs.convert_chroma_transformer_checkpoint_to_diffusers,
    "ae": lambda tensors: theirs.convert_ldm_vae_checkpoint(tensors, real.FLUX1_VAE),
}


@pytest.mark.parametrize("file", CONVERT)
def test_diffusers_reads_the_same_names_and_shapes(file: str) -> None:
    expected = REAL[file]
    stored = {name: torch.empty(tuple(value.shape), device="meta") for name, value in expected.tensors().items()}
    assert len(stored) == expected.count
    converted = {name: tuple(value.shape) for name, value in CONVERT[file](stored).items()}
    assert converted == {name: tuple(size) for name, size in shapes(expected.ours()).items()}


@pytest.mark.parametrize(
    ("family", "convert"),
    [
        ("flux2", theirs.convert_flux2_transformer_checkpoint_to_diffusers),
        ("z_image", theirs.convert_z_image_transformer_checkpoint_to_diffusers),
        ("flux3", theirs.convert_flux3_transformer_checkpoint_to_diffusers),
    ],
)
def test_diffusers_reads_the_same_values(tmp_path: Path, family: str, convert: Callable[..., dict]) -> None:
    """Of the conversions that take any width: in FLUX.1's and Chroma's, 3,072 is written down."""
    folder = families.FOLDERS[family](tmp_path / family)
    expected = load_file(next((folder / "transformer").glob("*.safetensors")))
    named = comfy.parts_of(folder, family)["transformer"]
    converted = convert({name: torch.from_numpy(np.array(value)) for name, value in named.items()})
    assert converted.keys() == expected.keys()
    for name, value in converted.items():  # those that are never read are not numbers
        assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(expected[name])), name
