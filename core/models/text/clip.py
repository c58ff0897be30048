"""CLIP's text encoder, named as in transformers' CLIPTextModel; FLUX.1 uses its pooled vector.

    x = token(id) + position(index)
    x = x + attention(norm(x))          causal: each token attends to itself and those before it
    x = x + fc2(act(fc1(norm(x))))
    pooled = norm(x) at the end-of-text token

Shapes   B batch   N tokens   C channels

Source: Radford et al. 2021, arXiv:2103.00020.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from core.models.base import Block, Stream
from core.models.text.encoder import encode
from core.numerics.attention import scaled_attention
from core.numerics.exponentials import sigmoid, silu
from core.numerics.layers import Embedding, LayerNorm

ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "gelu": lambda x: x * 0.5 * (1.0 + mx.erf(x * 0.5**0.5)),
    "silu": silu,
}
LEGACY_END = 2  # in configs from before transformers 4.31, where it stands for the highest id


class Embeddings(nn.Module):
    """`embeddings`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.token_embedding = Embedding(config["vocab_size"], config["hidden_size"])
        self.position_embedding = Embedding(config["max_position_embeddings"], config["hidden_size"])

    def __call__(self, ids_BN: mx.array) -> mx.array:
        return self.token_embedding(ids_BN) + self.position_embedding.weight[: ids_BN.shape[1]]


class SelfAttention(nn.Module):
    """Causal attention."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self._heads = config["num_attention_heads"]
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def __call__(self, x_BNC: mx.array) -> mx.array:
        batch, tokens, width = x_BNC.shape
        q, k, v = (
            project(x_BNC).reshape(batch, tokens, self._heads, -1).transpose(0, 2, 1, 3)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        scale = (width // self._heads) ** -0.5
        out = scaled_attention(q, k, v, scale, "causal")
        return self.out_proj(out.transpose(0, 2, 1, 3).reshape(batch, tokens, width))


class FeedForward(nn.Module):
    """fc2(act(fc1(x)))."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self._act = ACTIVATIONS[config["hidden_act"]]
        self.fc1 = nn.Linear(config["hidden_size"], config["intermediate_size"])
        self.fc2 = nn.Linear(config["intermediate_size"], config["hidden_size"])

    def __call__(self, x: mx.array) -> mx.array:
        return self.fc2(self._act(self.fc1(x)))


class Layer(nn.Module):
    """`encoder.layers.i`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.layer_norm1 = LayerNorm(config["hidden_size"], config["layer_norm_eps"])
        self.self_attn = SelfAttention(config)
        self.layer_norm2 = LayerNorm(config["hidden_size"], config["layer_norm_eps"])
        self.mlp = FeedForward(config)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Stack(nn.Module):
    """`encoder`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.layers = [Layer(config) for _ in range(config["num_hidden_layers"])]


class CLIPText(nn.Module):
    """Token ids int32 (B, N) to the pooled vector (B, C). Config: transformers' CLIPTextConfig."""

    table: ClassVar[str] = "embeddings.token_embedding"

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self._end = config["eos_token_id"]
        self.embeddings = Embeddings(config)
        self.encoder = Stack(config)
        self.final_layer_norm = LayerNorm(config["hidden_size"], config["layer_norm_eps"])

    @staticmethod
    def checkpoint_name(name: str) -> str | None:
        """Our name of a checkpoint's tensor: older files have the prefix text_model and a table of positions."""
        name = name.removeprefix("text_model.")
        return None if name == "embeddings.position_ids" else name

    def embed(self, ids_BN: mx.array) -> Stream:
        """{"x": tokens with their positions, "ids"}."""
        return {"x": self.embeddings(ids_BN), "ids": ids_BN}

    @property
    def blocks(self) -> Sequence[Block]:
        """Every layer."""
        return [
            Block("layer", f"encoder.layers.{index}", module, run_layer)
            for index, module in enumerate(self.encoder.layers)
        ]

    def project(self, stream: Stream) -> mx.array:
        """The pooled vector (B, C)."""
        x, ids_BN = self.final_layer_norm(stream["x"]), stream["ids"]
        # The first end-of-text token: padding repeats it, and argmax returns the first maximum.
        marks = ids_BN if self._end == LEGACY_END else (ids_BN == self._end).astype(mx.int32)
        end_B = mx.argmax(marks, axis=1)
        return x[mx.arange(x.shape[0]), end_B]

    def __call__(self, ids_BN: mx.array) -> mx.array:
        return encode(self, ids_BN)


def run_layer(layer: nn.Module, stream: Stream) -> Stream:
    """The stream after one layer."""
    return {**stream, "x": layer(stream["x"])}
