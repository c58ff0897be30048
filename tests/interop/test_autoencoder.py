"""The VAE equals diffusers' AutoencoderKL, with and without what FLUX.1's and Pocket's configs turn off."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest
import torch
from diffusers import AutoencoderKL as Reference

from bench.real_models import FLUX1_VAE
from core.models.autoencoder import AutoencoderKL
from tests.interop.reference import TOLERANCE, noise, ours, randomized, relative_error

KINDS = {
    "flux-like": {"mid_block_add_attention": True},
    "pocket-like": {"mid_block_add_attention": False, "layers_per_block": 1, "block_out_channels": (16, 24, 24, 32)},
    "with quant convolutions": {"use_quant_conv": True, "use_post_quant_conv": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_encode_and_decode_equal_the_reference(tmp_path: Path, kind: str) -> None:
    small = FLUX1_VAE | {"block_out_channels": (16, 16, 32, 32), "norm_num_groups": 8} | KINDS[kind]
    reference = randomized(Reference(**small), seed=2)
    reference.save_pretrained(tmp_path)
    vae = ours(AutoencoderKL, tmp_path, "diffusion_pytorch_model")

    pixels, latent = noise(2, 3, 48, 32), noise(2, 16, 6, 4, seed=1)
    with torch.no_grad():
        mean = reference.encode(torch.from_numpy(pixels)).latent_dist.mean
        picture = reference.decode(torch.from_numpy(latent)).sample

    assert relative_error(vae.encode(mx.array(pixels.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2), mean) <= TOLERANCE
    assert (
        relative_error(vae.decode(mx.array(latent.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2), picture) <= TOLERANCE
    )
