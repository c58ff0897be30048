"""Pocket's parts as diffusers and transformers build them, with fresh weights, and the folder they are saved in.

    part             class                   size
    transformer      FluxTransformer2DModel  3 double + 6 single blocks, 4 heads x 64, RoPE axes (16, 24, 24)
    vae              AutoencoderKL           16-32-96-128 channels, /8, 16 latent channels, no mid attention
    text_encoder     CLIPTextModel           2 layers x 128, pooled at the end-of-text token
    text_encoder_2   T5EncoderModel          3 layers x 256, gated GELU
    tokenizer(s)     core.pocket.bpe.py

Torch is needed for pretraining only: nothing that trains, draws or serves imports this file.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from core.pocket.bpe import CLIP_END, CLIP_START, LENGTH, T5_END, T5_PAD, VOCABULARY_SIZE

WIDTH, POOLED, SHIFT = 256, 128, 2.0
CARD = {  # Pocket's description in the studio, and its defaults
    "title": "Pocket",
    "what_for": "Trying everything out, on any computer: small pictures of simple things, in minutes.",
    "licence": "MIT",
    "defaults": {
        "steps": 500, "side_px": 256, "batch_size": 2, "rank": 16, "learning_rate": 0.002, "warmup_steps": 20,
        "sigma_draw": "model_shift", "score_every": 40, "score_draws": 2, "shapes": "square", "sample_steps": 20,
        "sample_guidance": 4.0,
    },
    "drawing": {"steps": 28, "guidance": 4.0, "side_px": 256},
}  # fmt: skip


@dataclass
class Parts:
    """The four networks."""

    transformer: FluxTransformer2DModel
    vae: AutoencoderKL
    clip: CLIPTextModel
    t5: T5EncoderModel

    def named(self) -> dict[str, nn.Module]:
        """The networks by the folder they are saved in."""
        return {
            "transformer": self.transformer,
            "vae": self.vae,
            "text_encoder": self.clip,
            "text_encoder_2": self.t5,
        }


def fresh() -> Parts:
    """All parts, with random weights from torch's current seed."""
    return Parts(_transformer(), _vae(), _clip(), _t5())


def _transformer() -> FluxTransformer2DModel:
    """With adaLN-zero: every block starts as the identity, and the last layer at zero."""
    transformer = FluxTransformer2DModel(
        in_channels=64, num_layers=3, num_single_layers=6, attention_head_dim=64, num_attention_heads=4,
        joint_attention_dim=WIDTH, pooled_projection_dim=POOLED, guidance_embeds=False, axes_dims_rope=(16, 24, 24),
    )  # fmt: skip
    for block in [*transformer.transformer_blocks, *transformer.single_transformer_blocks]:
        for name in ("norm1", "norm1_context", "norm"):
            if hasattr(block, name):
                nn.init.zeros_(getattr(block, name).linear.weight)
                nn.init.zeros_(getattr(block, name).linear.bias)
    nn.init.zeros_(transformer.norm_out.linear.weight)
    nn.init.zeros_(transformer.norm_out.linear.bias)
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)
    return transformer


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 96, 128), layers_per_block=1, latent_channels=16, norm_num_groups=4,
        sample_size=256, scaling_factor=1.0, shift_factor=0.0, use_quant_conv=False, use_post_quant_conv=False,
        mid_block_add_attention=False, force_upcast=False,
    )  # fmt: skip


def _clip() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY_SIZE,
            hidden_size=POOLED,
            intermediate_size=4 * POOLED,
            projection_dim=POOLED,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            hidden_act="quick_gelu",
            bos_token_id=CLIP_START,
            eos_token_id=CLIP_END,
            pad_token_id=CLIP_END,
        )
    )


def _t5() -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=VOCABULARY_SIZE,
            d_model=WIDTH,
            d_kv=64,
            d_ff=2 * WIDTH,
            num_layers=3,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
            pad_token_id=T5_PAD,
            eos_token_id=T5_END,
            tie_word_embeddings=False,
        )
    )


def load(folder: Path) -> Parts:
    """The parts of a saved folder, float32."""
    return Parts(
        FluxTransformer2DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32),
        AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32),
        CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32),
        T5EncoderModel.from_pretrained(folder / "text_encoder_2", dtype=torch.float32),
    )


def save(parts: Parts, tokenizers: Path, folder: Path) -> None:
    """Write a diffusers folder in fp16 atomically; `tokenizers` has tokenizer/ and tokenizer_2/.

    The parts themselves do not change.
    """
    part = folder.with_name(f".part-{folder.name}")
    old = folder.with_name(f".old-{folder.name}")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    made = fresh()
    made.vae.register_to_config(**{k: parts.vae.config[k] for k in ("scaling_factor", "shift_factor")})
    for name, module in made.named().items():
        module.load_state_dict(parts.named()[name].state_dict())
        module.half().save_pretrained(part / name)
        for config in (part / name).glob("*config.json"):
            _without_path(config)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(tokenizers / name, part / name)
    FlowMatchEulerDiscreteScheduler(shift=SHIFT, use_dynamic_shifting=False).save_pretrained(part / "scheduler")
    index = {
        "_class_name": "FluxPipeline", "_diffusers_version": "0.35.0",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "FluxTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"],
    }  # fmt: skip
    (part / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    (part / "likeness.json").write_text(json.dumps(CARD, indent=2) + "\n")
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _without_path(config: Path) -> None:
    """Remove `_name_or_path`, a path of this computer."""
    entries = json.loads(config.read_text())
    entries.pop("_name_or_path", None)
    config.write_text(json.dumps(entries, indent=2) + "\n")
