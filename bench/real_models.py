"""The published models, by the fields of their config.json files that matter here, and their folders without weights.

    write_configs(folder, "klein-4b", {"num_layers": 2})     every config.json of the folder, with a smaller transformer

bench/random_models.py fills such a folder's networks with random weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

Config = dict[str, Any]

FLUX1_DEV: Config = {
    "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24,
    "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True, "axes_dims_rope": (16, 56, 56),
}  # fmt: skip
FLUX1_SCHNELL = FLUX1_DEV | {"guidance_embeds": False}
FLUX1_VAE: Config = {
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 16, "norm_num_groups": 32,
    "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False,
    "mid_block_add_attention": True,
}  # fmt: skip
T5_XXL: Config = {
    "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
}  # fmt: skip
CLIP_L: Config = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 77, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1,
}  # fmt: skip

DINOV2_SMALL: Config = {
    "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4, "hidden_act": "gelu",
    "layer_norm_eps": 1e-6, "image_size": 518, "patch_size": 14, "num_channels": 3, "qkv_bias": True,
    "layerscale_value": 1.0, "use_swiglu_ffn": False,
}  # fmt: skip

KLEIN_4B: Config = {
    "patch_size": 1, "in_channels": 128, "out_channels": None, "num_layers": 5, "num_single_layers": 20,
    "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 7680, "mlp_ratio": 3.0,
    "timestep_guidance_channels": 256, "axes_dims_rope": (32, 32, 32, 32), "rope_theta": 2000, "eps": 1e-6,
    "guidance_embeds": False,
}  # fmt: skip
KLEIN_9B = KLEIN_4B | {
    "num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288,
}  # fmt: skip
FLUX2_VAE: Config = {
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 32, "norm_num_groups": 32,
    "use_quant_conv": True, "use_post_quant_conv": True, "mid_block_add_attention": True, "sample_size": 1024,
    "batch_norm_eps": 1e-4, "batch_norm_momentum": 0.1, "patch_size": (2, 2),
}  # fmt: skip
QWEN3_4B: Config = {
    "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu", "rms_norm_eps": 1e-6,
    "rope_theta": 1000000, "max_position_embeddings": 40960, "attention_bias": False, "tie_word_embeddings": True,
    "use_sliding_window": False,
}  # fmt: skip
QWEN3_8B = QWEN3_4B | {"hidden_size": 4096, "intermediate_size": 12288, "tie_word_embeddings": False}

Z_IMAGE: Config = {
    "all_patch_size": (2,), "all_f_patch_size": (1,), "in_channels": 16, "dim": 3840, "n_layers": 30,
    "n_refiner_layers": 2, "n_heads": 30, "n_kv_heads": 30, "norm_eps": 1e-5, "qk_norm": True, "cap_feat_dim": 2560,
    "rope_theta": 256.0, "t_scale": 1000.0, "axes_dims": (32, 48, 48), "axes_lens": (1024, 512, 512),
}  # fmt: skip

CHROMA1_HD: Config = {
    "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24,
    "joint_attention_dim": 4096, "axes_dims_rope": (16, 56, 56), "approximator_num_channels": 64,
    "approximator_hidden_dim": 5120, "approximator_layers": 5,
}  # fmt: skip

FLUX3_KLEIN_BASE: Config = {
    "in_channels": 128, "cond_in_channels": 128, "num_layers": 5, "num_single_layers": 28, "attention_head_dim": 128,
    "num_attention_heads": 24, "joint_attention_dim": 20480, "timestep_channels": 256, "mlp_ratio": 3.0,
    "axes_dims_rope": (32, 32, 32, 32), "rope_theta": 10000, "eps": 1e-6, "flow_map": False,
}  # fmt: skip
FLUX3_KLEIN = FLUX3_KLEIN_BASE | {"flow_map": True}
QWEN3_VL_4B: Config = {
    "text_config": {
        **{name: value for name, value in QWEN3_4B.items() if name != "use_sliding_window"},
        "model_type": "qwen3_vl_text", "rope_theta": 5000000, "max_position_embeddings": 262144,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
    },
    "vision_config": {
        "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": 2560,
        "deepstack_visual_indexes": [5, 11, 17], "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "num_position_embeddings": 2304, "in_channels": 3, "hidden_act": "gelu_pytorch_tanh",
    },
    "tie_word_embeddings": True,
}  # fmt: skip

# What transformers and diffusers fill in where the published files say nothing.
CLIP_L_COMPLETE = CLIP_L | {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
T5_XXL_COMPLETE = T5_XXL | {
    "layer_norm_epsilon": 1e-6, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
}  # fmt: skip
RGB = {"in_channels": 3, "out_channels": 3}
DYNAMIC_SHIFT = {"use_dynamic_shifting": True, "shift": 3.0}


class RealModel(NamedTuple):
    """A published model: its pipeline class, its configs, and the shapes of an encoded prompt."""

    pipeline: str
    transformer: Config
    vae: Config
    scheduler: Config
    conditioning: dict[str, tuple[int, ...]]


MODELS = {
    "flux1-dev": RealModel(
        "FluxPipeline", FLUX1_DEV, FLUX1_VAE, DYNAMIC_SHIFT, {"tokens": (1, 512, 4096), "pooled": (1, 768)},
    ),
    "klein-4b": RealModel("Flux2KleinPipeline", KLEIN_4B, FLUX2_VAE, DYNAMIC_SHIFT, {"tokens": (1, 512, 7680)}),
    "klein-9b": RealModel("Flux2KleinPipeline", KLEIN_9B, FLUX2_VAE, DYNAMIC_SHIFT, {"tokens": (1, 512, 12288)}),
    "chroma1-hd": RealModel("ChromaPipeline", CHROMA1_HD, FLUX1_VAE, {"shift": 3.0}, {"tokens": (1, 128, 4096)}),
    "flux3-klein-base": RealModel(
        "Flux3ModularPipeline", FLUX3_KLEIN_BASE, FLUX2_VAE, {"shift": 6.93}, {"tokens": (1, 80, 20480)},
    ),
    "z-image": RealModel("ZImagePipeline", Z_IMAGE, FLUX1_VAE, {"shift": 6.0}, {"tokens": (1, 128, 2560)}),
}  # fmt: skip
SHRUNK = {
    "num_layers": 2, "num_single_layers": 2, "n_layers": 2, "num_attention_heads": 2, "dim": 256, "n_heads": 2,
    "n_kv_heads": 2,
}  # fmt: skip


def write_configs(folder: Path, model: str, changes: Config) -> Path:
    """Write the config files of a model folder, without any weights, and return the folder.

    `changes` replace fields of the transformer's config; with any, the VAE is narrowed too.
    """
    pipeline, transformer, vae, scheduler, _ = MODELS[model]
    transformer = transformer | {name: value for name, value in changes.items() if name in transformer}
    vae = RGB | vae | ({"block_out_channels": (32, 32, 64, 64)} if changes else {})
    tables = {
        "model_index.json": {"_class_name": pipeline},
        "transformer/config.json": transformer,
        "vae/config.json": vae,
        "scheduler/scheduler_config.json": scheduler,
    }
    for name, table in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(table), encoding="utf-8")
    return folder
