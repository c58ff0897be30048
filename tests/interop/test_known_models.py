"""The parameters that the catalog tells, counted again in the references' own classes, built without allocating.

What sets the sizes is written here as the repositories' config.json files say it.
"""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
import transformers

from core.known_models import KNOWN

QWEN3 = {
    "vocab_size": 151_936,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
KLEIN = {"in_channels": 128, "guidance_embeds": False}
VAE = {
    "latent_channels": 16, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "use_quant_conv": False,
    "use_post_quant_conv": False, "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip


def flux1(guidance: bool) -> Any:
    return diffusers.FluxTransformer2DModel(guidance_embeds=guidance)


def klein(double: int, single: int, heads: int, text: int) -> Any:
    sizes = {
        "num_layers": double,
        "num_single_layers": single,
        "num_attention_heads": heads,
        "joint_attention_dim": text,
    }
    return diffusers.Flux2Transformer2DModel(attention_head_dim=128, **sizes, **KLEIN)


def clip() -> Any:
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(vocab_size=49_408, **sizes))


def t5() -> Any:
    sizes = {"d_model": 4096, "d_kv": 64, "d_ff": 10_240, "num_layers": 24, "num_heads": 64}
    config = transformers.T5Config(vocab_size=32_128, feed_forward_proj="gated-gelu", **sizes)
    return transformers.T5EncoderModel(config)


def qwen3(hidden: int, inner: int, tied: bool) -> Any:
    config = transformers.Qwen3Config(hidden_size=hidden, intermediate_size=inner, tie_word_embeddings=tied, **QWEN3)
    model = transformers.Qwen3ForCausalLM(config)
    model.tie_weights()
    return model


PARTS = {
    "flux1-dev": (lambda: flux1(True), clip, t5, lambda: diffusers.AutoencoderKL(**VAE)),
    "flux1-schnell": (lambda: flux1(False), clip, t5, lambda: diffusers.AutoencoderKL(**VAE)),
    "flux2-klein-base-4b": (
        lambda: klein(5, 20, 24, 7680), lambda: qwen3(2560, 9728, True), None, diffusers.AutoencoderKLFlux2,
    ),
    "flux2-klein-base-9b": (
        lambda: klein(8, 24, 32, 12_288), lambda: qwen3(4096, 12_288, False), None, diffusers.AutoencoderKLFlux2,
    ),
    "z-image": (
        diffusers.ZImageTransformer2DModel, lambda: qwen3(2560, 9728, True), None,
        lambda: diffusers.AutoencoderKL(**VAE),
    ),
}  # fmt: skip
ALIKE = {
    "flux1-krea-dev": "flux1-dev", "flux2-klein-4b": "flux2-klein-base-4b", "flux2-klein-9b": "flux2-klein-base-9b",
    "z-image-turbo": "z-image",
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_the_catalog_tells_the_parameters_that_the_references_have(name: str) -> None:
    counted = {}
    with torch.device("meta"):
        for part, build in zip(("transformer", "text_encoder", "text_encoder_2", "vae"), PARTS[name], strict=True):
            if build is not None:
                counted[part] = sum(value.numel() for value in build().parameters())
    assert dict(KNOWN[name].parameters) == counted


def test_models_of_one_shape_are_told_alike() -> None:
    for name, other in ALIKE.items():
        assert KNOWN[name].parameters == KNOWN[other].parameters
    assert PARTS.keys() | ALIKE.keys() == KNOWN.keys()


@pytest.mark.parametrize("known", KNOWN.values(), ids=lambda known: known.name)
def test_the_pipelines_are_diffusers_own_and_need_just_these_parts(known: Any) -> None:
    asked = getattr(diffusers, known.pipeline)._get_signature_keys(getattr(diffusers, known.pipeline))[0]
    weighty = {name for name in asked if name.startswith(("transformer", "text_encoder", "vae"))}
    assert weighty == known.parameters.keys()
