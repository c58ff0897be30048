"""A tiny random Chroma in diffusers' layout, for tests that need a real model of that family.

    folder = make_model_folder(tmp_path / "chroma")
    folder = make_model_folder(tmp_path / "wide", heads=4)               # wide enough to be quantized

It draws coloured noise. The layout is genuine: ChromaPipeline.from_pretrained loads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.models.autoencoder import AutoencoderKL
from core.models.chroma import ChromaTransformer
from core.models.text.t5 import T5Encoder
from tests import tiny

TOKENS = 40
TRANSFORMER: dict[str, Any] = {
    "_class_name": "ChromaTransformer2DModel", "patch_size": 1, "in_channels": 16, "out_channels": None,
    "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 24, "axes_dims_rope": [4, 6, 6], "approximator_num_channels": 64,
    "approximator_hidden_dim": 20, "approximator_layers": 2,
}  # fmt: skip
INDEX: dict[str, Any] = {
    "_class_name": "ChromaPipeline", "_diffusers_version": "0.42.1",
    "transformer": ["diffusers", "ChromaTransformer2DModel"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"], "image_encoder": [None, None],
    "feature_extractor": [None, None],
}  # fmt: skip


def make_model_folder(path: Path, *, heads: int = 2, seed: int = 0) -> Path:
    """Write the model to `path` (made where missing) and return it."""
    weights, config = "diffusion_pytorch_model", TRANSFORMER | {"num_attention_heads": heads}
    tiny.write_part(path / "transformer", ChromaTransformer(config), config, weights, seed)
    tiny.write_part(path / "vae", AutoencoderKL(tiny.VAE), tiny.VAE, weights, seed + 1)
    tiny.write_part(path / "text_encoder", T5Encoder(tiny.T5), tiny.T5, "model", seed + 2)
    tiny.write_tokenizer(path / "tokenizer", begin=False, tokens=TOKENS)
    tiny.write_json(path / "scheduler" / "scheduler_config.json", tiny.SCHEDULER | {"shift": 3.0})
    tiny.write_json(path / "model_index.json", INDEX)
    tiny.write_json(path / "likeness.json", tiny.CARD)
    return path
