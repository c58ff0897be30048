"""Qwen3's decoder as a text encoder, named as in transformers' Qwen3Model, for FLUX.2, Z-Image and FLUX.3.

    h_0 = token(id)
    h   = h_i + attention(rms(h_i)) W_o               rope(rms(q)), rope(rms(k)) for each head; heads of q share k and v
    h_{i+1} = h + (silu(rms(h) W_gate) * rms(h) W_up) W_down
    features = [h_i for i in taps], concatenated       h_i is hidden_states[i] in transformers

A token attends to itself and those before it, but not to padding. Only the layers below the highest tap are built and
read; the layers above it, the last norm and the language model head are never used.

Shapes   B batch   N tokens   C channels   H heads   K heads of keys and values   d width of a head
Dtypes   those of the weights, but rotations, which are float32

Source: Qwen Team 2025, arXiv:2505.09388; grouped queries: Ainslie et al. 2023, arXiv:2305.13245.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from core.models.base import Block, Stream
from core.models.text.encoder import encode
from core.numerics.attention import scaled_attention
from core.numerics.exponentials import silu
from core.numerics.layers import Embedding, RMSNorm
from core.numerics.rope import angles

Halves = tuple[mx.array, mx.array]
"""cos and sin of every position's angles: float32 (B, 1, N, d / 2) each."""

HEAD_WIDTH = 128  # default of configs without head_dim
NEVER_USED = ("norm.weight", "lm_head.weight")  # beside the layers above the highest tap


class SelfAttention(nn.Module):
    """Attention in which H / K query heads share one head of keys and values."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, heads, kv_heads = (
            config[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads")
        )
        self._head_width = config.get("head_dim", HEAD_WIDTH)
        self.q_proj = nn.Linear(width, heads * self._head_width, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * self._head_width, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * self._head_width, bias=False)
        self.o_proj = nn.Linear(heads * self._head_width, width, bias=False)
        self.q_norm = RMSNorm(self._head_width, config["rms_norm_eps"])
        self.k_norm = RMSNorm(self._head_width, config["rms_norm_eps"])

    def __call__(self, x_BNC: mx.array, rotary: Halves, mask_B1NN: mx.array) -> mx.array:
        batch, tokens, _ = x_BNC.shape
        q, k, v = (
            project(x_BNC).reshape(batch, tokens, -1, self._head_width)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q_BHNd = rotate_halves(self.q_norm(q).transpose(0, 2, 1, 3), rotary)
        k_BKNd = rotate_halves(self.k_norm(k).transpose(0, 2, 1, 3), rotary)
        v_BKNd = v.transpose(0, 2, 1, 3)
        scale = self._head_width**-0.5
        out = scaled_attention(q_BHNd, k_BKNd, v_BKNd, scale, mask_B1NN)
        return self.o_proj(out.transpose(0, 2, 1, 3).reshape(batch, tokens, -1))


class GatedFeedForward(nn.Module):
    """(silu(x W_gate) * x W_up) W_down."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """`layers.i`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.self_attn = SelfAttention(config)
        self.post_attention_layernorm = RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.mlp = GatedFeedForward(config)

    def __call__(self, x_BNC: mx.array, rotary: Halves, mask_B1NN: mx.array) -> mx.array:
        x_BNC = x_BNC + self.self_attn(self.input_layernorm(x_BNC), rotary, mask_B1NN)
        return x_BNC + self.mlp(self.post_attention_layernorm(x_BNC))


class Qwen3Encoder(nn.Module):
    """Token ids to the hidden states at `taps`. Config: transformers' Qwen3Config."""

    table: ClassVar[str] = "embed_tokens"

    def __init__(self, config: Mapping[str, Any], taps: Sequence[int]) -> None:
        """Tap 0 is the embedding, tap i the output of layer i - 1; negative taps count from the end, -1 being none.

        Raises ValueError for a tap above the last layer's input, and for configs unlike those of Qwen3-4B and 8B.
        """
        super().__init__()
        layers = config["num_hidden_layers"]
        self._taps = tuple(tap if tap >= 0 else layers + 1 + tap for tap in taps)
        if not all(0 <= tap < layers for tap in self._taps):
            raise ValueError(f"num_hidden_layers is {layers}; features are taken at {tuple(taps)}, before the last one")
        self._theta = theta_of(config)
        self._head_width = config.get("head_dim", HEAD_WIDTH)
        self.embed_tokens = Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = [Layer(config) for _ in range(max(self._taps))]

    def checkpoint_name(self, name: str) -> str | None:
        """Our name of a checkpoint's tensor; None for one that is never used."""
        name = name.removeprefix("model.")
        if name in NEVER_USED:
            return None
        stack, _, rest = name.partition(".")
        index = rest.partition(".")[0]
        return None if stack == "layers" and index.isdecimal() and int(index) >= len(self.layers) else name

    def embed(self, ids_BN: mx.array, real_BN: mx.array) -> Stream:
        """{"h": h_0, the rotary table, the mask}, for int32 ids; `real_BN` is False for padding.

        The state at tap i is added as "h_i".
        """
        tokens = ids_BN.shape[1]
        angles_B1Nd = angles(self.positions(real_BN)[:, None, :, None], (self._head_width,), self._theta)
        mask_B1NN = (mx.tri(tokens, dtype=mx.bool_) & real_BN[:, None, :])[:, None]
        stream = {"h": self.embed_tokens(ids_BN), "cos": mx.cos(angles_B1Nd), "sin": mx.sin(angles_B1Nd)}
        stream |= {"mask": mask_B1NN}
        return stream | ({"h_0": stream["h"]} if 0 in self._taps else {})

    @staticmethod
    def positions(real_BN: mx.array) -> mx.array:
        """The position of each token, int32 (B, N); padding goes on where the text ends."""
        return mx.broadcast_to(mx.arange(real_BN.shape[1]), real_BN.shape)

    @property
    def blocks(self) -> Sequence[Block]:
        """Every layer below the highest tap."""
        return [
            Block("layer", f"layers.{tap - 1}", module, partial(run_layer, tap=tap if tap in self._taps else 0))
            for tap, module in enumerate(self.layers, start=1)
        ]

    def project(self, stream: Stream) -> mx.array:
        """Features (B, N, taps * C), of padding too."""
        return mx.concatenate([stream[f"h_{tap}"] for tap in self._taps], axis=-1)

    def __call__(self, ids_BN: mx.array, real_BN: mx.array) -> mx.array:
        return encode(self, ids_BN, real_BN)


class Qwen3VLTextEncoder(Qwen3Encoder):
    """The text tower of Qwen3-VL, which for texts without pictures is Qwen3. Config: transformers' Qwen3VLConfig.

    Padding is at position 1, as in the version of transformers with which FLUX.3 was trained.
    """

    def __init__(self, config: Mapping[str, Any], taps: Sequence[int]) -> None:
        """See Qwen3Encoder."""
        super().__init__(config["text_config"], taps)

    def checkpoint_name(self, name: str) -> str | None:
        """Our name of a checkpoint's tensor; None for one that is never used, such as those for pictures."""
        name = name.removeprefix("model.")
        return None if name.startswith("visual.") else super().checkpoint_name(name.removeprefix("language_model."))

    @staticmethod
    def positions(real_BN: mx.array) -> mx.array:
        """The position of each token, int32 (B, N), and 1 for padding."""
        return mx.where(real_BN, mx.arange(real_BN.shape[1]), 1)


def run_layer(layer: nn.Module, stream: Stream, *, tap: int) -> Stream:
    """The stream after one layer; a state that is tapped is added to it."""
    h_BNC = layer(stream["h"], (stream["cos"], stream["sin"]), stream["mask"])
    return {**stream, "h": h_BNC, **({f"h_{tap}": h_BNC} if tap else {})}


def rotate_halves(x_BHNd: mx.array, rotary: Halves) -> mx.array:
    """Rotate each pair (x_i, x_{i + d/2}) by the angle of its position; in float32, then cast back."""
    cos, sin = rotary
    first, second = mx.split(x_BHNd.astype(mx.float32), 2, axis=-1)
    rotated = mx.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x_BHNd.dtype)


def theta_of(config: Mapping[str, Any]) -> float:
    """The base of the rotations: `rope_theta`, in newer configs within `rope_parameters`.

    Raises ValueError for scaled positions and sliding windows.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default" or config.get("use_sliding_window"):
        raise ValueError(f"rope_type is {kind!r} and use_sliding_window {config.get('use_sliding_window')!r}")
    return float(config.get("rope_theta") or rope["rope_theta"])
