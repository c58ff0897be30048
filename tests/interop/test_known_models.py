"""The parameters and shapes that the catalog tells, counted again in the references' own classes.

These are built without allocating. What sets the sizes is written here as the repositories' config.json files say it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers

from bench import real_models as real
from core.estimate.architecture import Architecture
from core.hub.families import FAMILIES
from core.hub.registry import KNOWN, VAE_CHANNELS

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


def qwen3_vl() -> Any:
    model = transformers.Qwen3VLForConditionalGeneration(transformers.Qwen3VLConfig(**real.QWEN3_VL_4B))
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
    "flux3-klein-base": (diffusers.Flux3Transformer2DModel, qwen3_vl, None, diffusers.AutoencoderKLFlux2),
    "flux3-klein": (
        lambda: diffusers.Flux3Transformer2DModel(flow_map=True), qwen3_vl, None, diffusers.AutoencoderKLFlux2,
    ),
    "chroma1-hd": (diffusers.ChromaTransformer2DModel, t5, None, lambda: diffusers.AutoencoderKL(**VAE)),
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


REAL = {  # configs of the transformer, of the VAE, and of the text encoder with the largest layers
    "flux1-dev": (real.FLUX1_DEV, real.FLUX1_VAE, lambda: t5()),
    "flux1-schnell": (real.FLUX1_SCHNELL, real.FLUX1_VAE, lambda: t5()),
    "flux2-klein-base-4b": (real.KLEIN_4B, real.FLUX2_VAE, lambda: qwen3(2560, 9728, True)),
    "flux2-klein-base-9b": (real.KLEIN_9B, real.FLUX2_VAE, lambda: qwen3(4096, 12_288, False)),
    "z-image": (real.Z_IMAGE, real.FLUX1_VAE, lambda: qwen3(2560, 9728, True)),
    "flux3-klein-base": (real.FLUX3_KLEIN_BASE, real.FLUX2_VAE, qwen3_vl),
    "flux3-klein": (real.FLUX3_KLEIN, real.FLUX2_VAE, qwen3_vl),
    "chroma1-hd": (real.CHROMA1_HD, real.FLUX1_VAE, lambda: t5()),
}


@pytest.mark.parametrize("name", REAL)
def test_an_architecture_by_the_catalog_is_that_of_the_real_configs(name: str, tmp_path: Path) -> None:
    known = KNOWN[name]
    transformer, vae, text_encoder = REAL[name]
    tables = {"model_index": {"_class_name": known.pipeline}, "transformer/config": transformer, "vae/config": vae}
    for file, table in tables.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / f"{file}.json").write_text(json.dumps(table))
    with torch.device("meta"):
        layers: Counter[str] = Counter()
        for key, value in text_encoder().named_parameters():
            if layer := re.match(r".*?\.\d+\.", key):
                layers[layer.group()] += value.numel()
    assert vae["block_out_channels"] == VAE_CHANNELS
    read = Architecture.of(tmp_path)
    counted = {"transformer": known.parameters["transformer"] - known.unread, "vae": known.parameters["vae"]}
    assert Architecture.of_known(known) == replace(read, **counted, text_layer=max(layers.values()))
    assert read.transformer == pytest.approx(counted["transformer"], rel=0.06)  # the blocks are nearly all of it


def test_the_parameters_that_are_never_read_are_those_for_reference_images() -> None:
    with torch.device("meta"):
        for name in ("flux3-klein-base", "flux3-klein"):
            tensors = PARTS[name][0]().named_parameters()
            counted = sum(value.numel() for key, value in tensors if re.search(FAMILIES["flux3"].unread, key))
            assert KNOWN[name].unread == counted > 0


def test_models_of_one_shape_are_told_alike() -> None:
    for name, other in ALIKE.items():
        assert (KNOWN[name].parameters, KNOWN[name].shapes) == (KNOWN[other].parameters, KNOWN[other].shapes)
    assert PARTS.keys() | ALIKE.keys() == KNOWN.keys()


@pytest.mark.parametrize("known", KNOWN.values(), ids=lambda known: known.name)
def test_the_pipelines_are_diffusers_own_and_need_just_these_parts(known: Any) -> None:
    pipeline = getattr(diffusers, known.pipeline)
    if issubclass(pipeline, diffusers.ModularPipeline):
        blocks = getattr(diffusers.modular_pipelines.flux3, pipeline.default_blocks_name)()
        asked = {part.name for part in blocks.expected_components}
    else:
        asked = pipeline._get_signature_keys(pipeline)[0]
    weighty = {name for name in asked if name.startswith(("transformer", "text_encoder", "vae"))}
    assert weighty == known.parameters.keys()
