"""DINOv2, the vision transformer whose features compare photos, named as in transformers' Dinov2Model.

    x = [class token, patches projected] + positions        positions are resized to the photo's grid
    x = x + lambda1 * attention(norm1(x))                    in each block; the lambdas are LayerScale's
    x = x + lambda2 * fc2(gelu(fc1(norm2(x))))
    features = norm(x) of the class token

DINOv2-small: 12 blocks of 384 channels and 6 heads, patches of 14 px, positions of a photo of 518 px.

Shapes   B batch   H W pixels   h w patches   N = 1 + h w tokens   C channels

Sources: Oquab et al. 2023, arXiv:2304.07193 (DINOv2); Dosovitskiy et al. 2020, arXiv:2010.11929 (the transformer);
Touvron et al. 2021, arXiv:2103.17239 (LayerScale).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from core.numerics.attention import attention

CUBIC_A = -0.75  # the slope at distance 1 of the cubic kernel, torch's
RENAMED = {  # in the files of the hub, which are older than these modules
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}


class PatchEmbeddings(nn.Module):
    """`embeddings.patch_embeddings`: each patch of pixels times one matrix."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        side = config["patch_size"]
        self.projection = nn.Conv2d(config["num_channels"], config["hidden_size"], kernel_size=side, stride=side)

    def __call__(self, pixels_BHWC: mx.array) -> mx.array:
        return self.projection(pixels_BHWC)


class Embeddings(nn.Module):
    """`embeddings`: the tokens of a photo with their positions."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self._side = config["image_size"] // config["patch_size"]
        self.cls_token = mx.zeros((1, 1, width))
        self.position_embeddings = mx.zeros((1, 1 + self._side**2, width))
        self.patch_embeddings = PatchEmbeddings(config)

    def __call__(self, pixels_BHWC: mx.array) -> mx.array:
        patches_BhwC = self.patch_embeddings(pixels_BHWC)
        batch, height, width, channels = patches_BhwC.shape
        first_B1C = mx.broadcast_to(self.cls_token, (batch, 1, channels))
        x_BNC = mx.concatenate([first_B1C, patches_BhwC.reshape(batch, height * width, channels)], axis=1)
        return x_BNC + self.positions(height, width)

    def positions(self, height: int, width: int) -> mx.array:
        """(1, N, C) for a grid of `height` x `width` patches; the class token has a position of its own."""
        table_ssC = self.position_embeddings[0, 1:].reshape(self._side, self._side, -1)
        rows_hsC = (bicubic(self._side, height) @ table_ssC.reshape(self._side, -1)).reshape(height, self._side, -1)
        grid_hwC = bicubic(self._side, width) @ rows_hsC
        return mx.concatenate([self.position_embeddings[:, :1], grid_hwC.reshape(1, height * width, -1)], axis=1)


class Attention(nn.Module):
    """`attention`: every token sees every other."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, bias = config["hidden_size"], config["qkv_bias"]
        self._heads = config["num_attention_heads"]
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.o_proj = nn.Linear(width, width)

    def __call__(self, x_BNC: mx.array) -> mx.array:
        batch, tokens, width = x_BNC.shape
        q, k, v = (
            project(x_BNC).reshape(batch, tokens, self._heads, -1).transpose(0, 2, 1, 3)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = attention(q, k, v, (width // self._heads) ** -0.5)
        return self.o_proj(out.transpose(0, 2, 1, 3).reshape(batch, tokens, width))


class FeedForward(nn.Module):
    """`mlp`: fc2(gelu(fc1(x))), with GELU's exact form."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        if config["hidden_act"] != "gelu" or config.get("use_swiglu_ffn"):
            raise ValueError("its feed-forward layers are not gelu")
        inner = int(config["hidden_size"] * config["mlp_ratio"])
        self.fc1 = nn.Linear(config["hidden_size"], inner)
        self.fc2 = nn.Linear(inner, config["hidden_size"])

    def __call__(self, x: mx.array) -> mx.array:
        x = self.fc1(x)
        return self.fc2(0.5 * x * (1.0 + mx.erf(x * 0.5**0.5)))


class LayerScale(nn.Module):
    """lambda * x, a factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lambda1 = mx.ones((width,))

    def __call__(self, x: mx.array) -> mx.array:
        return x * self.lambda1


class Layer(nn.Module):
    """`encoder.layer.i`, one block."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.norm1 = nn.LayerNorm(width, eps)
        self.attention = Attention(config)
        self.layer_scale1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = FeedForward(config)
        self.layer_scale2 = LayerScale(width)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.layer_scale1(self.attention(self.norm1(x)))
        return x + self.layer_scale2(self.mlp(self.norm2(x)))


class Encoder(nn.Module):
    """`encoder`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.layer = [Layer(config) for _ in range(config["num_hidden_layers"])]


class Dinov2(nn.Module):
    """Normalised pixels float32 (B, H, W, 3) to features (B, C). Config: transformers' Dinov2Config.

    Raises ValueError or KeyError for the config of another network, such as DINOv2-giant's.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.layernorm = nn.LayerNorm(config["hidden_size"], config["layer_norm_eps"])

    @staticmethod
    def checkpoint_name(name: str) -> str | None:
        """Our name of a checkpoint's tensor; None for the token that only pretraining puts in place of patches."""
        for theirs, own in RENAMED.items():
            name = name.replace(theirs, own)
        return None if name == "embeddings.mask_token" else name

    def tokens(self, pixels_BHWC: mx.array) -> mx.array:
        """(B, N, C): the class token's features, then those of the patches, row by row."""
        x = self.embeddings(pixels_BHWC)
        for layer in self.encoder.layer:
            x = layer(x)
        return self.layernorm(x)

    def __call__(self, pixels_BHWC: mx.array) -> mx.array:
        return self.tokens(pixels_BHWC)[:, 0]


def bicubic(old: int, new: int) -> mx.array:
    """(new, old) float32: the weights of `old` samples in each of `new`, as torch interpolates without antialiasing.

    A sample of the new row lies at (i + 1/2) old / new - 1/2 in the old one; the samples at its ends repeat.
    """
    rows = []
    for i in range(new):
        place = (i + 0.5) * old / new - 0.5
        row = [0.0] * old
        for j in range(math.floor(place) - 1, math.floor(place) + 3):
            row[min(max(j, 0), old - 1)] += cubic(abs(place - j))
        rows.append(row)
    return mx.array(rows, dtype=mx.float32)


def cubic(distance: float) -> float:
    """The kernel of cubic convolution, for distances from 0 to 2 (Keys 1981)."""
    if distance <= 1:
        return ((CUBIC_A + 2) * distance - (CUBIC_A + 3)) * distance**2 + 1
    return ((CUBIC_A * distance - 5 * CUBIC_A) * distance + 8 * CUBIC_A) * distance - 4 * CUBIC_A
