"""A tiny random Z-Image in diffusers' layout, for tests that need a real model of that family.

    folder = make_model_folder(tmp_path / "z-image")                     # as Z-Image: true guidance
    folder = make_model_folder(tmp_path / "turbo", turbo=True)           # as Turbo: few steps, and with an assistant

It draws coloured noise. The layout is genuine: ZImagePipeline.from_pretrained loads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from core.models.autoencoder import AutoencoderKL
from core.models.z_image import ZImageTransformer
from tests import tiny, tiny_qwen3

TRANSFORMER: dict[str, Any] = {
    "_class_name": "ZImageTransformer2DModel", "all_patch_size": [2], "all_f_patch_size": [1], "in_channels": 4,
    "dim": 32, "n_layers": 3, "n_refiner_layers": 2, "n_heads": 2, "n_kv_heads": 2, "norm_eps": 1e-5, "qk_norm": True,
    "cap_feat_dim": tiny_qwen3.WIDTH, "rope_theta": 256.0, "t_scale": 1000.0, "axes_dims": [4, 6, 6],
    "axes_lens": [1024, 512, 512],
}  # fmt: skip
SCHEDULER: dict[str, Any] = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "use_dynamic_shifting": False,
}  # fmt: skip
INDEX: dict[str, Any] = {
    "_class_name": "ZImagePipeline", "_diffusers_version": "0.42.1",
    "transformer": ["diffusers", "ZImageTransformer2DModel"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "Qwen3ForCausalLM"],
    "tokenizer": ["transformers", "Qwen2TokenizerFast"],
}  # fmt: skip
ASSISTANT = "training_adapter.safetensors"


def make_model_folder(path: Path, *, turbo: bool = False, seed: int = 0) -> Path:
    """Write the model to `path` (made where missing) and return it."""
    weights = "diffusion_pytorch_model"
    transformer = ZImageTransformer(TRANSFORMER)
    tiny.write_part(path / "transformer", transformer, TRANSFORMER, weights, seed)
    tiny.write_part(path / "vae", AutoencoderKL(tiny.VAE), tiny.VAE, weights, seed + 1)
    tiny_qwen3.write_encoder(path / "text_encoder", layers=3, seed=seed + 2)
    tiny_qwen3.write_tokenizer(path / "tokenizer")
    shift = {"shift": 3.0 if turbo else 6.0}
    tiny.write_json(path / "scheduler" / "scheduler_config.json", SCHEDULER | shift)
    tiny.write_json(path / "model_index.json", INDEX)
    tiny.write_json(path / "likeness.json", tiny.CARD | ({"assistant": ASSISTANT} if turbo else {}))
    if turbo:
        write_assistant(path / ASSISTANT, transformer, seed + 3)
    return path


def write_assistant(file: Path, transformer: nn.Module, seed: int) -> None:
    """An adapter of rank 2 on every attention of the layers, under the names of the file that people use."""
    keys = iter(mx.random.split(mx.random.key(seed), 2 * len(tiny.linear_shapes(transformer))))
    tensors = {}
    for name, (width_out, width_in) in tiny.linear_shapes(transformer).items():
        if name.startswith("layers.") and ".attention." in name:
            stem = f"diffusion_model.{name}"
            tensors[f"{stem}.lora_A.weight"] = mx.random.normal((2, width_in), key=next(keys)) * width_in**-0.5
            tensors[f"{stem}.lora_B.weight"] = mx.random.normal((width_out, 2), key=next(keys)) * 0.5
    mx.save_safetensors(str(file), tensors, {"format": "pt"})
