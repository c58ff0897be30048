"""A tiny random DINOv2 as its repository looks: config.json, weights under the hub's names, and files nobody needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from core.models.dinov2 import RENAMED, Dinov2
from core.models.parts import convolution_names

CONFIG: dict[str, Any] = {
    "model_type": "dinov2", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 4,
    "hidden_act": "gelu", "layer_norm_eps": 1e-6, "image_size": 70, "patch_size": 14, "num_channels": 3,
    "qkv_bias": True, "use_swiglu_ffn": False,
}  # fmt: skip
NEEDLESS = {"README.md", "pytorch_model.bin"}


def make_model_folder(folder: Path, seed: int = 0) -> Path:
    """Another seed is another network."""
    folder.mkdir(parents=True, exist_ok=True)
    network = Dinov2(CONFIG)
    convolutions = convolution_names(network)
    tensors = {"embeddings.mask_token": mx.zeros((1, CONFIG["hidden_size"]))}
    for number, (name, value) in enumerate(tree_flatten(network.parameters())):
        drawn = mx.random.normal(value.shape, key=mx.random.key(1000 * seed + number)) * 0.2
        for theirs, own in RENAMED.items():
            name = name.replace(own, theirs)
        tensors[name] = drawn.transpose(0, 3, 1, 2) if name in convolutions else drawn
    mx.save_safetensors(
        str(folder / "model.safetensors"), {name: mx.contiguous(each) for name, each in tensors.items()}
    )
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for name in NEEDLESS:
        (folder / name).write_bytes(b"not needed" * 2000)
    return folder
