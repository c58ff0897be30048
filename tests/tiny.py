"""A tiny random FLUX.1 in diffusers' layout, written in well under a second, for tests that need a real model.

    folder = make_model_folder(tmp_path / "model")        # 16 x 16 px and up, true guidance
    folder = make_model_folder(tmp_path / "dev", guidance=True)      # guidance as an input, like FLUX.1-dev

It draws coloured noise. The layout is genuine: FluxPipeline.from_pretrained loads it. Other families have files of
their own beside this one: tests/tiny_klein.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map_with_path
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from core.models.autoencoder import AutoencoderKL
from core.models.flux1 import FluxTransformer
from core.models.parts import convolution_names
from core.models.text.clip import CLIPText
from core.models.text.t5 import T5Encoder

SENTENCES = [
    "a photo of a sks can on the beach",
    "a red toy car in the snow",
    "a dog and a cat, at night",
    "a cup of tea",
]
WORDS = 300
TOKENS = 16

TRANSFORMER: dict[str, Any] = {
    "_class_name": "FluxTransformer2DModel", "patch_size": 1, "in_channels": 16, "out_channels": None,
    "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 24, "pooled_projection_dim": 20, "guidance_embeds": False, "axes_dims_rope": [4, 6, 6],
}  # fmt: skip
VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": 4,
    "block_out_channels": [8, 8, 8, 16], "layers_per_block": 1, "norm_num_groups": 4, "act_fn": "silu",
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "scaling_factor": 0.4, "shift_factor": 0.1, "use_quant_conv": False, "use_post_quant_conv": False,
    "mid_block_add_attention": False, "force_upcast": False, "sample_size": 32,
}  # fmt: skip
CLIP: dict[str, Any] = {
    "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "vocab_size": WORDS, "hidden_size": 20,
    "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": TOKENS,
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    "projection_dim": 20,
}  # fmt: skip
T5: dict[str, Any] = {
    "architectures": ["T5EncoderModel"], "model_type": "t5", "vocab_size": WORDS, "d_model": 24, "d_kv": 8, "d_ff": 32,
    "num_layers": 2, "num_heads": 3, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
    "feed_forward_proj": "gated-gelu", "is_encoder_decoder": False, "layer_norm_epsilon": 1e-6, "eos_token_id": 1,
    "pad_token_id": 1, "decoder_start_token_id": 1, "use_cache": False,
}  # fmt: skip
SCHEDULER: dict[str, Any] = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 2.0,
    "use_dynamic_shifting": False,
}  # fmt: skip
DYNAMIC: dict[str, Any] = {
    "use_dynamic_shifting": True, "shift": 3.0, "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}  # fmt: skip
INDEX: dict[str, Any] = {
    "_class_name": "FluxPipeline", "_diffusers_version": "0.42.1",
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"], "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "tokenizer_2": ["transformers", "PreTrainedTokenizerFast"],
}  # fmt: skip
CARD: dict[str, Any] = {
    "title": "Tiny", "what_for": "Tests.",
    "defaults": {"steps": 4, "side_px": 64, "rank": 4, "learning_rate": 1e-3, "sample_steps": 2, "sample_every": 2},
    "drawing": {"steps": 2, "guidance": 2.0, "side_px": 64},
}  # fmt: skip


def make_model_folder(
    path: Path, *, guidance: bool = False, seed: int = 0, heads: int = 2, single_blocks: int = 2
) -> Path:
    """Write the model to `path` (made where missing) and return it.

    `guidance` gives the transformer a guidance input, the VAE attention in its middle and the scheduler dynamic shift,
    as FLUX.1-dev has them. The transformer is 16 * `heads` wide; from 4 on it is wide enough to be quantized.
    """
    transformer = TRANSFORMER | {"guidance_embeds": guidance, "num_attention_heads": heads}
    transformer |= {"num_single_layers": single_blocks}
    vae = VAE | {"mid_block_add_attention": guidance}
    weights, texts = "diffusion_pytorch_model", "model"
    write_part(path / "transformer", FluxTransformer(transformer), transformer, weights, seed)
    write_part(path / "vae", AutoencoderKL(vae), vae, weights, seed + 1)
    write_part(path / "text_encoder", CLIPText(CLIP), CLIP, texts, seed + 2)
    write_part(path / "text_encoder_2", T5Encoder(T5), T5, texts, seed + 3)
    for name in ("tokenizer", "tokenizer_2"):
        write_tokenizer(path / name, begin=name == "tokenizer")
    write_json(path / "scheduler" / "scheduler_config.json", SCHEDULER | (DYNAMIC if guidance else {}))
    write_json(path / "model_index.json", INDEX)
    write_json(path / "likeness.json", CARD)
    return path


def save_module(
    module: nn.Module, file: Path, *, prefix: str = "", extra: Mapping[str, mx.array] | None = None
) -> None:
    """Save a module's weights under the checkpoint's names and in its layout.

    `extra` are tensors of the checkpoint that the module has no use for, by name without `prefix`.
    """
    convolutions = convolution_names(module)
    tensors = {
        name: mx.contiguous(value.transpose(0, 3, 1, 2)) if name in convolutions else value
        for name, value in tree_flatten(module.parameters())
    }
    tensors = {f"{prefix}{name}": value for name, value in (tensors | dict(extra or {})).items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(file), tensors, {"format": "pt"})


def randomize(module: nn.Module, seed: int) -> None:
    """Weights whose activations keep their size: norms and variances near 1, matrices scaled by their width."""
    keys = iter(mx.random.split(mx.random.key(seed), len(tree_flatten(module.parameters()))))

    def draw(name: str, old: mx.array) -> mx.array:
        noise = mx.random.normal(old.shape, key=next(keys))
        if old.ndim == 1:
            return 0.1 * noise + (1.0 if name.endswith(("weight", "running_var")) else 0.0)
        table = any(word in name for word in ("embedding", "shared", "embed_tokens"))
        return noise * (0.8 if table else (old.size / old.shape[0]) ** -0.5)

    module.update(tree_map_with_path(draw, module.parameters()))


def linear_shapes(module: nn.Module) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer, by path."""
    return {path: each.weight.shape for path, each in module.named_modules() if isinstance(each, nn.Linear)}


def write_part(folder: Path, module: nn.Module, config: dict[str, Any], stem: str, seed: int) -> None:
    randomize(module, seed)
    save_module(module, folder / f"{stem}.safetensors")
    write_json(folder / "config.json", config)


def write_tokenizer(folder: Path, begin: bool, tokens: int | None = TOKENS) -> None:
    """A tokenizer of few words, whose prompts have at most `tokens`; None is as many as the model takes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=["<begin>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    single = "<begin> $A <end>" if begin else "$A <end>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[("<begin>", 0), ("<end>", 1)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": tokens}
    write_json(folder / "tokenizer_config.json", settings | {"pad_token": "<end>", "eos_token": "<end>"})


def write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")
