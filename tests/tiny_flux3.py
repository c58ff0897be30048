"""A tiny random FLUX.3 klein in diffusers' layout, for tests that need a real model of that family.

    folder = make_model_folder(tmp_path / "flux3")                       # as klein-base: true guidance
    folder = make_model_folder(tmp_path / "flux3", distilled=True)       # as klein: a flow map
    folder = make_model_folder(tmp_path / "wide", heads=4)               # wide enough to be quantized

It draws coloured noise. diffusers loads the transformer, which has blocks for reference images too, and the VAE.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from core.models.autoencoder import AutoencoderKLFlux2
from core.models.flux3 import TAPS, Flux3Transformer
from tests import tiny, tiny_klein, tiny_qwen3

TRANSFORMER: dict[str, Any] = {
    "_class_name": "Flux3Transformer2DModel", "in_channels": 16, "cond_in_channels": 16, "num_layers": 2,
    "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": len(TAPS) * tiny_qwen3.WIDTH, "timestep_channels": 32, "mlp_ratio": 3.0,
    "axes_dims_rope": [4, 4, 4, 4], "rope_theta": 10000, "eps": 1e-6, "flow_map": False,
}  # fmt: skip
PARTS = {
    "transformer": ("diffusers", "Flux3Transformer2DModel"), "vae": ("diffusers", "AutoencoderKLFlux2"),
    "text_encoder": ("transformers", "Qwen3VLForConditionalGeneration"), "tokenizer": ("transformers", "AutoProcessor"),
}  # fmt: skip


def make_model_folder(path: Path, *, distilled: bool = False, heads: int = 2, seed: int = 0) -> Path:
    """Write the model to `path` (made where missing) and return it."""
    weights = "diffusion_pytorch_model"
    config = TRANSFORMER | {"flow_map": distilled, "num_attention_heads": heads}
    transformer = Flux3Transformer(config)
    tiny.randomize(transformer, seed)
    tiny.save_module(transformer, path / "transformer" / f"{weights}.safetensors", extra=of_references(transformer))
    tiny.write_json(path / "transformer" / "config.json", config)
    vae = AutoencoderKLFlux2(tiny_klein.VAE)
    tiny.randomize(vae, seed + 1)
    counted = {"bn.num_batches_tracked": mx.array(1000, dtype=mx.int64)}
    tiny.save_module(vae, path / "vae" / f"{weights}.safetensors", extra=counted)
    tiny.write_json(path / "vae" / "config.json", tiny_klein.VAE)
    tiny_qwen3.write_vl_encoder(path / "text_encoder", layers=max(TAPS) + 2, seed=seed + 2)
    tiny_qwen3.write_tokenizer(path / "tokenizer")
    tiny.write_json(path / "modular_model_index.json", index(distilled))
    tiny.write_json(path / "likeness.json", tiny.CARD)
    return path


def index(distilled: bool) -> dict[str, Any]:
    """The index of a modular pipeline; each part is in the folder of its name."""
    kind = "Distilled" if distilled else ""
    named = {
        part: [None, None, {"pretrained_model_name_or_path": "", "subfolder": part, "type_hint": list(made)}]
        for part, made in PARTS.items()
    }
    return {
        "_class_name": f"Flux3{kind}ModularPipeline", "_blocks_class_name": f"Flux3{kind}AutoBlocks",
        "_diffusers_version": "0.42.1", **named,
    }  # fmt: skip


def of_references(transformer: Flux3Transformer) -> dict[str, mx.array]:
    """The tensors for reference images: like those for the image, and not finite, so that a use would show."""
    found = {}
    for name, value in tree_flatten(transformer.parameters()):
        parts = name.split(".")
        if "image" in parts:
            found[".".join("image_cond" if part == "image" else part for part in parts)] = value * mx.nan
    return found
