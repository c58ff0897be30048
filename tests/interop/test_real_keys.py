"""Every tensor of a real checkpoint has its place here, by name and shape, or is on a list of what is never used.

Both sides are built from the real configs, the references on the meta device and ours lazily: nothing is allocated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
import torch
from diffusers import AutoencoderKL as ReferenceVAE
from diffusers import AutoencoderKLFlux2 as ReferenceVAEFlux2
from diffusers import (
    ChromaTransformer2DModel,
    Flux2Transformer2DModel,
    Flux3Transformer2DModel,
    FluxTransformer2DModel,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
)

from bench import real_models as real
from core.models.autoencoder import AutoencoderKL, AutoencoderKLFlux2
from core.models.chroma import ChromaTransformer
from core.models.flux1 import FluxTransformer
from core.models.flux2 import TAPS, Flux2Transformer
from core.models.flux3 import TAPS as FLUX3_TAPS
from core.models.flux3 import Flux3Transformer
from core.models.parts import checkpoint_name
from core.models.text.clip import CLIPText
from core.models.text.qwen3 import Qwen3Encoder, Qwen3VLTextEncoder
from core.models.text.t5 import T5Encoder
from core.models.z_image import TAPS as Z_IMAGE_TAPS
from core.models.z_image import ZImageTransformer
from tests.interop.reference import names_and_shapes


def by_config(model: Callable[[Any], torch.nn.Module], config: Callable[..., Any]) -> Callable[..., torch.nn.Module]:
    """How transformers builds a model: from a config object rather than from its values."""
    return lambda **values: model(config(**values))


@dataclass(frozen=True)
class Part:
    """One part of a model: its config, the class that saved its checkpoint, ours, and what ours never uses."""

    config: Mapping[str, Any]
    reference: Callable[..., torch.nn.Module]
    ours: Callable[[Mapping[str, Any]], nn.Module]
    never_used: tuple[str, ...] = ()  # patterns of whole names


T5 = by_config(T5EncoderModel, T5Config)
CLIP = by_config(CLIPTextModel, CLIPTextConfig)
QWEN3 = by_config(Qwen3ForCausalLM, Qwen3Config)
QWEN3_VL = by_config(Qwen3VLForConditionalGeneration, Qwen3VLConfig)

TOKEN_TABLE_AGAIN = r"encoder\.embed_tokens\.weight"  # is shared.weight
LAYERS_FROM_27 = r"model\.layers\.(2[7-9]|3[0-5])\..+"  # above klein's highest tap
LAST_LAYER = r"model\.layers\.35\..+"  # above the state that Z-Image is told
NO_WORDS_ARE_PREDICTED = (r"model\.norm\.weight", r"lm_head\.weight")
PICTURES = (r"model\.visual\..+",)  # Qwen3-VL's vision tower
REFERENCE_IMAGES = r"(.+\.)?image_cond\..+"
VL_LAYERS_FROM_32 = r"model\.language_model\.layers\.3[2-5]\..+"
NO_WORDS_ARE_PREDICTED_BY_VL = (r"model\.language_model\.norm\.weight", r"lm_head\.weight")
HOW_MANY_BATCHES_WERE_COUNTED = r"bn\.num_batches_tracked"

KLEIN_TEXT = partial(Qwen3Encoder, taps=TAPS)
FLUX3_TEXT = partial(Qwen3VLTextEncoder, taps=FLUX3_TAPS)
Z_IMAGE_TEXT = partial(Qwen3Encoder, taps=Z_IMAGE_TAPS)
PARTS = {
    "FLUX.1-dev and Krea-dev": Part(real.FLUX1_DEV, FluxTransformer2DModel, FluxTransformer),
    "FLUX.1-schnell": Part(real.FLUX1_SCHNELL, FluxTransformer2DModel, FluxTransformer),
    "FLUX.1's VAE": Part(real.FLUX1_VAE, ReferenceVAE, AutoencoderKL),
    "FLUX.1's T5-XXL": Part(real.T5_XXL, T5, T5Encoder, (TOKEN_TABLE_AGAIN,)),
    "FLUX.1's CLIP-L": Part(real.CLIP_L, CLIP, CLIPText),
    "klein-4B, base and distilled": Part(real.KLEIN_4B, Flux2Transformer2DModel, Flux2Transformer),
    "klein-9B, base and distilled": Part(real.KLEIN_9B, Flux2Transformer2DModel, Flux2Transformer),
    "FLUX.2's VAE": Part(real.FLUX2_VAE, ReferenceVAEFlux2, AutoencoderKLFlux2, (HOW_MANY_BATCHES_WERE_COUNTED,)),
    "klein-4B's Qwen3-4B": Part(real.QWEN3_4B, QWEN3, KLEIN_TEXT, (LAYERS_FROM_27, *NO_WORDS_ARE_PREDICTED)),
    "klein-9B's Qwen3-8B": Part(real.QWEN3_8B, QWEN3, KLEIN_TEXT, (LAYERS_FROM_27, *NO_WORDS_ARE_PREDICTED)),
    "Z-Image and Z-Image-Turbo": Part(real.Z_IMAGE, ZImageTransformer2DModel, ZImageTransformer),
    "Z-Image's VAE": Part(real.FLUX1_VAE, ReferenceVAE, AutoencoderKL),
    "FLUX.3 klein base": Part(real.FLUX3_KLEIN_BASE, Flux3Transformer2DModel, Flux3Transformer, (REFERENCE_IMAGES,)),
    "FLUX.3 klein": Part(real.FLUX3_KLEIN, Flux3Transformer2DModel, Flux3Transformer, (REFERENCE_IMAGES,)),
    "FLUX.3's Qwen3-VL-4B": Part(
        real.QWEN3_VL_4B, QWEN3_VL, FLUX3_TEXT, (VL_LAYERS_FROM_32, *NO_WORDS_ARE_PREDICTED_BY_VL, *PICTURES)
    ),
    "Chroma1-HD": Part(real.CHROMA1_HD, ChromaTransformer2DModel, ChromaTransformer),
    "Z-Image's Qwen3-4B": Part(real.QWEN3_4B, QWEN3, Z_IMAGE_TEXT, (LAST_LAYER, *NO_WORDS_ARE_PREDICTED)),
}


@pytest.mark.parametrize("name", PARTS)
def test_every_key_of_the_real_checkpoint_has_its_place(name: str) -> None:
    part = PARTS[name]
    with torch.device("meta"):
        reference = part.reference(**part.config)
    held = mx.get_active_memory()
    config = reference.config.to_dict() if hasattr(reference.config, "to_dict") else dict(reference.config)
    module = part.ours(config)

    placed, unused = {}, set()
    for theirs, value in reference.state_dict().items():
        mine = checkpoint_name(module, theirs)
        if mine is None:
            unused.add(theirs)
        else:
            assert mine not in placed, f"{theirs} has the place of another"
            placed[mine] = tuple(value.shape)
    assert placed == names_and_shapes(module)
    assert mx.get_active_memory() - held < 1e6  # nothing was allocated

    listed = {pattern: {key for key in unused if re.fullmatch(pattern, key)} for pattern in part.never_used}
    assert unused == set().union(*listed.values())
    assert all(listed.values()), "a pattern that stands for nothing"


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("FLUX.1-dev and Krea-dev", 11.901),
        ("klein-4B, base and distilled", 3.876),
        ("klein-9B, base and distilled", 9.079),
        ("Z-Image and Z-Image-Turbo", 6.155),
        ("Chroma1-HD", 8.900),
        ("FLUX.3 klein base", 4.868),
    ],
)
def test_the_configs_are_those_of_models_with_as_many_parameters_as_the_real_ones(name: str, billions: float) -> None:
    sizes = [torch.Size(shape).numel() for shape in names_and_shapes(PARTS[name].ours(PARTS[name].config)).values()]
    assert sum(sizes) / 1e9 == pytest.approx(billions, abs=1e-3)
