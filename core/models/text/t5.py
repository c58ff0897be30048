"""The encoder of T5 v1.1, named as in transformers' T5EncoderModel.

    bias(i, j) = table[bucket(j - i)]       near distances have their own bucket, far ones share
    x = x + attention(rms(x), bias)         no scale on q k^T
    x = x + (gelu(rms(x) W_0) * rms(x) W_1) W_o

Padding is attended to, as FLUX.1 was trained, or masked, as Chroma was: then bias is -inf where j is padding.

Shapes   B batch   N tokens   C channels   H heads

Source: Raffel et al. 2020, arXiv:1910.10683; gated GELU: Shazeer 2020, arXiv:2002.05202.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from core.models import base
from core.models.base import Stream
from core.models.text.encoder import encode
from core.numerics.attention import scaled_attention
from core.numerics.exponentials import gelu_tanh
from core.numerics.layers import Embedding, RMSNorm


def distance_buckets(tokens: int, buckets: int, max_distance: int) -> mx.array:
    """The bucket of every (query, key) pair: int32 (N, N). Half of the buckets are for keys ahead."""
    position = mx.arange(tokens)
    distance = position[None, :] - position[:, None]
    half, exact = buckets // 2, buckets // 4
    far = mx.abs(distance)
    # float32 like the reference: rounding decides the edge of a bucket.
    spread = mx.log(mx.maximum(far, 1).astype(mx.float32) / exact) / math.log(max_distance / exact) * (half - exact)
    shared = mx.minimum(exact + spread.astype(mx.int32), half - 1)
    return mx.where(far < exact, far, shared) + mx.where(distance > 0, half, 0)


class SelfAttention(nn.Module):
    """Attention with a bias by distance; only the first layer owns the table."""

    def __init__(self, config: Mapping[str, Any], owns_bias: bool) -> None:
        super().__init__()
        width, inner = config["d_model"], config["num_heads"] * config["d_kv"]
        self._heads = config["num_heads"]
        self.q = nn.Linear(width, inner, bias=False)
        self.k = nn.Linear(width, inner, bias=False)
        self.v = nn.Linear(width, inner, bias=False)
        self.o = nn.Linear(inner, width, bias=False)
        if owns_bias:
            self.relative_attention_bias = Embedding(config["relative_attention_num_buckets"], self._heads)

    def __call__(self, x_BNC: mx.array, bias_BHNN: mx.array) -> mx.array:
        batch, tokens, _ = x_BNC.shape
        q, k, v = (
            project(x_BNC).reshape(batch, tokens, self._heads, -1).transpose(0, 2, 1, 3)
            for project in (self.q, self.k, self.v)
        )
        out = scaled_attention(q, k, v, 1.0, bias_BHNN)
        return self.o(out.transpose(0, 2, 1, 3).reshape(batch, tokens, -1))


class GatedFeedForward(nn.Module):
    """(gelu(x W_0) * x W_1) W_o."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(config["d_model"], config["d_ff"], bias=False)
        self.wi_1 = nn.Linear(config["d_model"], config["d_ff"], bias=False)
        self.wo = nn.Linear(config["d_ff"], config["d_model"], bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.wo(gelu_tanh(self.wi_0(x)) * self.wi_1(x))


class AttentionLayer(nn.Module):
    """`block.i.layer.0`."""

    def __init__(self, config: Mapping[str, Any], owns_bias: bool) -> None:
        super().__init__()
        self.SelfAttention = SelfAttention(config, owns_bias)
        self.layer_norm = RMSNorm(config["d_model"], config["layer_norm_epsilon"])


class FeedForwardLayer(nn.Module):
    """`block.i.layer.1`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.DenseReluDense = GatedFeedForward(config)
        self.layer_norm = RMSNorm(config["d_model"], config["layer_norm_epsilon"])


class Block(nn.Module):
    """`block.i`."""

    def __init__(self, config: Mapping[str, Any], owns_bias: bool) -> None:
        super().__init__()
        self.layer = [AttentionLayer(config, owns_bias), FeedForwardLayer(config)]

    def __call__(self, x: mx.array, bias_BHNN: mx.array) -> mx.array:
        attention, feed_forward = self.layer
        x = x + attention.SelfAttention(attention.layer_norm(x), bias_BHNN)
        return x + feed_forward.DenseReluDense(feed_forward.layer_norm(x))


class Stack(nn.Module):
    """`encoder`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.block = [Block(config, owns_bias=index == 0) for index in range(config["num_layers"])]
        self.final_layer_norm = RMSNorm(config["d_model"], config["layer_norm_epsilon"])


class T5Encoder(nn.Module):
    """Token ids int32 (B, N) to features (B, N, d_model). Config: transformers' T5Config, gated GELU only."""

    table: ClassVar[str] = "shared"

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        if config.get("feed_forward_proj") != "gated-gelu":
            raise ValueError(f"feed_forward_proj is {config.get('feed_forward_proj')!r}; it must be 'gated-gelu'")
        self._buckets = config["relative_attention_num_buckets"]
        self._max_distance = config.get("relative_attention_max_distance", 128)
        self.shared = Embedding(config["vocab_size"], config["d_model"])
        self.encoder = Stack(config)

    @staticmethod
    def checkpoint_name(name: str) -> str | None:
        """Our name of a checkpoint's tensor: the token table may appear twice."""
        return None if name == "encoder.embed_tokens.weight" else name

    def embed(self, ids_BN: mx.array, real_BN: mx.array | None = None) -> Stream:
        """{"x": the tokens' embeddings, "buckets": the bucket of each pair of tokens}.

        `real_BN` is False for padding that no token sees, which adds {"real": the same}; None lets every token be seen.
        """
        stream = {
            "x": self.shared(ids_BN),
            "buckets": distance_buckets(ids_BN.shape[1], self._buckets, self._max_distance),
        }
        return stream if real_BN is None else stream | {"real": real_BN}

    @property
    def blocks(self) -> Sequence[base.Block]:
        """Every layer, with the bias table of the first."""
        run = partial(run_block, table=self.encoder.block[0].layer[0].SelfAttention.relative_attention_bias)
        return [
            base.Block("layer", f"encoder.block.{index}", module, run)
            for index, module in enumerate(self.encoder.block)
        ]

    def project(self, stream: Stream) -> mx.array:
        """Features (B, N, C)."""
        return self.encoder.final_layer_norm(stream["x"])

    def __call__(self, ids_BN: mx.array, *real_BN: mx.array) -> mx.array:
        return encode(self, ids_BN, *real_BN)


def run_block(block: nn.Module, stream: Stream, *, table: nn.Embedding) -> Stream:
    """The stream after one layer. The biases of N x N pairs are computed in each layer, to save memory."""
    bias_BHNN = table(stream["buckets"]).transpose(2, 0, 1)[None]
    if "real" in stream:
        bias_BHNN = mx.where(stream["real"][:, None, None, :], bias_BHNN, -mx.inf)
    return {**stream, "x": block(stream["x"], bias_BHNN)}
