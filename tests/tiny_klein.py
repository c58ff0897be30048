"""A tiny random FLUX.2-klein in diffusers' layout, for tests that need a real model of that family.

    folder = make_model_folder(tmp_path / "klein")                       # as klein-base: true guidance
    folder = make_model_folder(tmp_path / "klein", distilled=True)       # as klein: few steps, no guidance

It draws coloured noise. The layout is genuine: Flux2KleinPipeline.from_pretrained loads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx

from core.models.autoencoder import AutoencoderKLFlux2
from core.models.flux2 import TAPS, Flux2Transformer
from tests import tiny, tiny_qwen3

TRANSFORMER: dict[str, Any] = {
    "_class_name": "Flux2Transformer2DModel", "patch_size": 1, "in_channels": 16, "out_channels": None,
    "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 3 * tiny_qwen3.WIDTH, "timestep_guidance_channels": 32, "mlp_ratio": 3.0,
    "axes_dims_rope": [4, 4, 4, 4], "rope_theta": 2000, "eps": 1e-6, "guidance_embeds": False,
}  # fmt: skip
VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKLFlux2", "in_channels": 3, "out_channels": 3, "latent_channels": 4,
    "block_out_channels": [8, 8, 8, 16], "layers_per_block": 1, "norm_num_groups": 4, "act_fn": "silu",
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "use_quant_conv": True, "use_post_quant_conv": True, "mid_block_add_attention": True, "force_upcast": True,
    "sample_size": 1024, "batch_norm_eps": 1e-4, "batch_norm_momentum": 0.1, "patch_size": [2, 2],
}  # fmt: skip
SCHEDULER: dict[str, Any] = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "time_shift_type": "exponential",
} | tiny.DYNAMIC  # fmt: skip
INDEX: dict[str, Any] = {
    "_class_name": "Flux2KleinPipeline", "_diffusers_version": "0.42.1",
    "transformer": ["diffusers", "Flux2Transformer2DModel"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "vae": ["diffusers", "AutoencoderKLFlux2"], "text_encoder": ["transformers", "Qwen3ForCausalLM"],
    "tokenizer": ["transformers", "Qwen2TokenizerFast"],
}  # fmt: skip


def make_model_folder(path: Path, *, distilled: bool = False, seed: int = 0) -> Path:
    """Write the model to `path` (made where missing) and return it."""
    weights = "diffusion_pytorch_model"
    tiny.write_part(path / "transformer", Flux2Transformer(TRANSFORMER), TRANSFORMER, weights, seed)
    vae = AutoencoderKLFlux2(VAE)
    tiny.randomize(vae, seed + 1)
    counted = {"bn.num_batches_tracked": mx.array(1000, dtype=mx.int64)}
    tiny.save_module(vae, path / "vae" / f"{weights}.safetensors", extra=counted)
    tiny.write_json(path / "vae" / "config.json", VAE)
    tiny_qwen3.write_encoder(path / "text_encoder", layers=max(TAPS) + 2, seed=seed + 2)
    tiny_qwen3.write_tokenizer(path / "tokenizer")
    tiny.write_json(path / "scheduler" / "scheduler_config.json", SCHEDULER)
    tiny.write_json(path / "model_index.json", INDEX | {"is_distilled": distilled})
    tiny.write_json(path / "likeness.json", tiny.CARD)
    return path
