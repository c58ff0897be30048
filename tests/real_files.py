"""The single files of ComfyUI at full size: the names and shapes of their tensors, and how many there are.

Nothing is computed: the shapes are those of our networks, built lazily, under the names of tests/comfy.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from bench import real_models as real
from core.models.autoencoder import AutoencoderKL, AutoencoderKLFlux2
from core.models.chroma import ChromaTransformer
from core.models.flux1 import FluxTransformer
from core.models.flux2 import Flux2Transformer
from core.models.text.clip import CLIPText
from core.models.text.qwen3 import Qwen3Encoder
from core.models.text.t5 import T5Encoder
from core.models.z_image import ZImageTransformer
from tests import comfy


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Every tensor of a network at full size, by our names, in a checkpoint's layout; nothing is computed."""
    convolutions = {f"{path}.weight" for path, each in module.named_modules() if isinstance(each, nn.Conv2d)}
    found = {name: value.shape for name, value in tree_flatten(module.parameters())}
    return {name: (s[0], s[3], s[1], s[2]) if name in convolutions else s for name, s in found.items()}


def zeros(sizes: Mapping[str, tuple[int, ...]]) -> dict[str, mx.array]:
    return {name: mx.broadcast_to(mx.zeros((), mx.bfloat16), size) for name, size in sizes.items()}


@dataclass(frozen=True)
class RealFile:
    """A file of ComfyUI at full size: how many tensors it has, our network, its part, and the file's names of ours."""

    count: int
    ours: Callable[[], nn.Module]
    part: str
    named: Callable[[dict[str, mx.array]], dict[str, mx.array]]

    def tensors(self) -> dict[str, mx.array]:
        return self.named(zeros(shapes(self.ours())))


def transformer(count: int, family: str, network: Callable[[Any], nn.Module], config: Mapping[str, Any]) -> RealFile:
    return RealFile(count, partial(network, config), "transformer", partial(comfy.named, family))


def vae(count: int, network: Callable[[Any], nn.Module], config: Mapping[str, Any]) -> RealFile:
    counted = zeros({"bn.num_batches_tracked": ()} if network is AutoencoderKLFlux2 else {})
    return RealFile(count, partial(network, config), "vae", lambda ours: comfy.named_vae(ours | counted))


def qwen3(count: int, config: Mapping[str, Any]) -> RealFile:
    """All 36 layers and the last norm; ours is built with the layers below its highest tap."""
    every = Qwen3Encoder({**config, "num_hidden_layers": 37}, taps=(36,))
    whole = zeros(shapes(every) | {"norm.weight": (config["hidden_size"],)})
    named = {f"model.{name}": value for name, value in whole.items()}
    return RealFile(count, lambda: Qwen3Encoder(config, taps=(27,)), "text_encoder", lambda _: named)


def clip(ours: dict[str, mx.array]) -> dict[str, mx.array]:
    return {f"text_model.{name}": value for name, value in ours.items()}


REAL: dict[str, RealFile] = {
    "flux1-dev": transformer(780, "flux1", FluxTransformer, real.FLUX1_DEV),
    "flux1-schnell": transformer(776, "flux1", FluxTransformer, real.FLUX1_SCHNELL),
    "flux-2-klein-4b": transformer(149, "flux2", Flux2Transformer, real.KLEIN_4B),
    "flux-2-klein-9b": transformer(201, "flux2", Flux2Transformer, real.KLEIN_9B),
    "z_image": transformer(453, "z_image", ZImageTransformer, real.Z_IMAGE),
    "chroma1-hd": transformer(643, "chroma", ChromaTransformer, real.CHROMA1_HD),
    "ae": vae(244, AutoencoderKL, real.FLUX1_VAE | real.RGB),
    "flux2-vae": vae(251, AutoencoderKLFlux2, real.FLUX2_VAE | real.RGB),
    "t5xxl": RealFile(219, partial(T5Encoder, real.T5_XXL_COMPLETE), "text_encoder_2", lambda ours: ours),
    "clip_l": RealFile(196, partial(CLIPText, real.CLIP_L_COMPLETE), "text_encoder", clip),
    "qwen_3_4b": qwen3(398, real.QWEN3_4B),
    "qwen_3_8b": qwen3(398, real.QWEN3_8B),
}
"""File: its tensors, as the makers' modules have them (blocks x tensors of a block + the rest), and our network.

780 = 19 x 24 + 38 x 8 + 20 in FLUX.1 dev, 776 without guidance_in; 149 = 5 x 12 + 20 x 4 + 9 in klein-4B and
201 = 8 x 12 + 24 x 4 + 9 in klein-9B; 453 = 32 x 13 + 2 x 11 + 15 in Z-Image; 643 = 19 x 20 + 38 x 6 + 35 in Chroma;
219 = 24 x 9 + 3 in T5, 196 = 12 x 16 + 4 in CLIP, 398 = 36 x 11 + 2 in Qwen3, whose lm_head ComfyUI's files leave out.
Sources: the modules in ComfyUI's comfy/ldm (flux, lumina, chroma, models/autoencoder) and comfy/text_encoders.
"""
