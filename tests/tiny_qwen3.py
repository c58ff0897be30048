"""A tiny random Qwen3 and its tokenizer, as the folders of FLUX.2, Z-Image and FLUX.3 hold them.

write_encoder(path / "text_encoder", layers=28)
write_tokenizer(path / "tokenizer")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from core.models.text.qwen3 import Qwen3Encoder, Qwen3VLTextEncoder
from tests import tiny

WORDS = 400
WIDTH = 16
TOKENS = 64

CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": WORDS, "hidden_size": WIDTH,
    "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-6,
    "hidden_act": "silu", "max_position_embeddings": 40960, "rope_theta": 1000000, "rope_scaling": None,
    "attention_bias": False, "tie_word_embeddings": True, "use_sliding_window": False,
}  # fmt: skip
# Qwen3's chat template, without what it does with tools and with answers.
TEMPLATE = """{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_encoder(folder: Path, layers: int, seed: int = 0) -> None:
    """A text encoder whose checkpoint holds `layers` layers, all of which have weights, and the last norm."""
    config = CONFIG | {"num_hidden_layers": layers}
    module = Qwen3Encoder(config | {"num_hidden_layers": layers + 1}, taps=(layers,))  # every layer of it
    tiny.randomize(module, seed)
    extra = {"norm.weight": mx.ones((WIDTH,))}
    tiny.save_module(module, folder / "model.safetensors", prefix="model.", extra=extra)
    tiny.write_json(folder / "config.json", config)


VISION: dict[str, Any] = {
    "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH, "patch_size": 4,
    "deepstack_visual_indexes": [0], "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 16,
    "in_channels": 3, "hidden_act": "gelu_pytorch_tanh", "model_type": "qwen3_vl",
}  # fmt: skip


def vl_config(layers: int) -> dict[str, Any]:
    """The config of a tiny Qwen3-VL whose text tower has so many layers."""
    text = {name: value for name, value in CONFIG.items() if name not in ("architectures", "use_sliding_window")}
    rope = {"mrope_interleaved": True, "mrope_section": [2, 1, 1], "rope_type": "default"}
    text |= {"model_type": "qwen3_vl_text", "num_hidden_layers": layers, "rope_theta": 5000000, "rope_scaling": rope}
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "text_config": text,
        "vision_config": VISION, "tie_word_embeddings": True,
    }  # fmt: skip


def write_vl_encoder(folder: Path, layers: int, seed: int = 0) -> None:
    """As `write_encoder`, of a Qwen3-VL, with one tensor of its vision tower."""
    config = vl_config(layers)
    text = config["text_config"] | {"num_hidden_layers": layers + 1}
    module = Qwen3VLTextEncoder(config | {"text_config": text}, taps=(layers,))
    tiny.randomize(module, seed)
    prefix, vision = "model.language_model.", "model.visual.patch_embed.proj.bias"
    tiny.save_module(module, folder / "model.safetensors", prefix=prefix, extra={"norm.weight": mx.ones((WIDTH,))})
    tensors = mx.load(str(folder / "model.safetensors"))
    mx.eval(tensors)
    mx.save_safetensors(str(folder / "model.safetensors"), {**tensors, vision: mx.zeros((16,))}, {"format": "pt"})
    tiny.write_json(folder / "config.json", config)


def write_tokenizer(folder: Path, tokens: int | None = TOKENS) -> None:
    """A tokenizer that is built as Qwen3's is, with its chat template; `tokens` are a prompt's most, None no limit."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS - 5, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([*tiny.SENTENCES, "user assistant"], trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in ("<think>", "</think>")])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "Qwen2Tokenizer", "model_max_length": tokens, "chat_template": TEMPLATE}
    settings |= {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>", "unk_token": None}
    tiny.write_json(folder / "tokenizer_config.json", settings)
