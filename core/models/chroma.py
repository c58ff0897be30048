"""Chroma: FLUX.1's blocks without modulation of their own, conditioned on the prompt by T5 alone, padding masked.

    T_theta:  img = W_x l_t,  txt = W_c T5(prompt)
              mod_m = approximator([time(sigma), guidance(0), place(m)])      m = 0 ... 3 * singles + 12 * doubles + 1
              double blocks, then single blocks, over [txt, img]              core/models/blocks.py
              velocity = W_o ((1 + scale) * norm(img) + shift)

    approximator    x = W_in x;   x = x + W_2 silu(W_1 rms(x)), in every layer;   W_out x
    rows of mod     3 for each single block,  6 for each double block's img,  6 for each one's txt,  shift and scale

A small network computes all shifts, scales and gates, in the place of FLUX.1's 3.3 billion parameters for them. Each
block takes its rows of `mod`; the guidance input is always 0.

T5 sees a prompt's own tokens, the transformer one token of padding more. All text tokens have the same position, so
those that are masked need not be computed: `encode_each` drops them, and pads with zeros to a multiple of 128, so that
a compiled step sees few shapes.

Shapes   B batch   L image tokens   N text tokens   D width   M rows of `mod`   S = N + L
Dtypes   transformer and text encoder in `dtype`; the VAE, its latents and sigma in float32

Source: Lodestone Rock, Chroma (2025); names as in diffusers' ChromaPipeline, the mask as in the makers' own code.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from core.errors import ModelProblem
from core.models import blocks
from core.models.autoencoder import AutoencoderKL
from core.models.base import Conditioning, Grid, Stream
from core.models.flux1 import Flux1, position_ids
from core.models.folder import Stack
from core.models.parts import Part
from core.models.text.t5 import T5Encoder
from core.models.text.tokenizers import TextTokenizer
from core.numerics.layers import RMSNorm
from core.numerics.rope import rotary_table

TEXT_TOKENS = 512
TEXT_LENGTHS = 128  # conditionings are padded to a multiple of this; most prompts fit in the first
NORM_EPSILON = 1e-6


class DoubleBlock(nn.Module):
    """`transformer_blocks.i`: FLUX.1's without its modulation."""

    def __init__(self, width: int, heads: int, row_img: int, row_txt: int) -> None:
        super().__init__()
        self._row_img, self._row_txt = mx.array(row_img), mx.array(row_txt)  # arrays, so that blocks are one function
        self.attn = blocks.Attention(width, heads, text=True)
        self.ff = blocks.FeedForward(width)
        self.ff_context = blocks.FeedForward(width)

    def __call__(self, stream: Stream) -> Stream:
        """The stream with the next img and txt."""
        of_img, of_txt = (rows(stream["mod"], first, 6) for first in (self._row_img, self._row_txt))
        rotary = (stream["cos"], stream["sin"])
        img, txt = blocks.double(self, stream["img"], stream["txt"], of_img, of_txt, rotary, stream["seen"])
        return {**stream, "img": img, "txt": txt}


class SingleBlock(nn.Module):
    """`single_transformer_blocks.i`: FLUX.1's without its modulation."""

    def __init__(self, width: int, heads: int, row: int) -> None:
        super().__init__()
        self._row = mx.array(row)
        self.attn = blocks.Attention(width, heads, text=False)
        self.proj_mlp = nn.Linear(width, 4 * width)
        self.proj_out = nn.Linear(width + 4 * width, width)

    def __call__(self, stream: Stream) -> Stream:
        """The stream with the next img and txt."""
        rotary = (stream["cos"], stream["sin"])
        of_x = rows(stream["mod"], self._row, 3)
        img, txt = blocks.single(self, stream["img"], stream["txt"], of_x, rotary, stream["seen"])
        return {**stream, "img": img, "txt": txt}


class Approximator(nn.Module):
    """`distilled_guidance_layer`: from (time, guidance, place) of every row to its D numbers."""

    def __init__(self, width_in: int, inner: int, width: int, layers: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(width_in, inner)
        self.layers = [blocks.MLPEmbedder(inner, inner) for _ in range(layers)]
        self.norms = [RMSNorm(inner, NORM_EPSILON) for _ in range(layers)]
        self.out_proj = nn.Linear(inner, width)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.in_proj(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + layer(norm(x))
        return self.out_proj(x)


class ChromaTransformer(nn.Module):
    """The network of a `transformer/config.json`; module paths are the checkpoint's."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Raises ModelProblem when the rotary axes do not fill a head."""
        super().__init__()
        heads, head_width = config["num_attention_heads"], config["attention_head_dim"]
        width, channels = heads * head_width, config["in_channels"]
        self._axes = tuple(config.get("axes_dims_rope", (16, 56, 56)))
        if sum(self._axes) != head_width:
            raise ModelProblem(f"axes_dims_rope is {self._axes}; it must add up to the head's width, {head_width}.")
        doubles, singles = config["num_layers"], config["num_single_layers"]
        inputs = config.get("approximator_num_channels", 64)
        self._waves = inputs // 4  # a quarter for time, a quarter for guidance, half for the place
        self._places_MC = places(3 * singles + 12 * doubles + 2, inputs // 2)
        inner, layers = config.get("approximator_hidden_dim", 5120), config.get("approximator_layers", 5)
        self.distilled_guidance_layer = Approximator(inputs, inner, width, layers)
        self.context_embedder = nn.Linear(config["joint_attention_dim"], width)
        self.x_embedder = nn.Linear(channels, width)
        of_img, of_txt = 3 * singles, 3 * singles + 6 * doubles
        self.transformer_blocks = [
            DoubleBlock(width, heads, of_img + 6 * index, of_txt + 6 * index) for index in range(doubles)
        ]
        self.single_transformer_blocks = [SingleBlock(width, heads, 3 * index) for index in range(singles)]
        self.proj_out = nn.Linear(width, config.get("out_channels") or channels)

    def embed(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> Stream:
        """The input of the first block, and what every block needs: token streams, modulations, table, mask ("seen").

        Token streams and modulations are in the dtype of l_t.
        """
        dtype = l_t_BLC.dtype
        tokens_BNC, lengths_B1 = conditioning["tokens"].astype(dtype), conditioning["lengths"][:, None]
        batch, text_tokens, _ = tokens_BNC.shape
        cos, sin = rotary_table(position_ids(text_tokens, grid), self._axes)
        text_seen_BN = mx.arange(text_tokens) < lengths_B1
        image_seen_BL = mx.ones((batch, grid.tokens), dtype=mx.bool_)
        return {
            "img": self.x_embedder(l_t_BLC),
            "txt": self.context_embedder(tokens_BNC),
            "mod": self.modulations(sigma_B, dtype),
            "cos": cos,
            "sin": sin,
            "seen": mx.concatenate([text_seen_BN, image_seen_BL], axis=1)[:, None, None],
        }

    def modulations(self, sigma_B: mx.array, dtype: mx.Dtype) -> mx.array:
        """All shifts, scales and gates: (B, M, D)."""
        shape = (sigma_B.size, self._places_MC.shape[0])
        time_B = 1000.0 * sigma_B.astype(mx.float32)
        waves_BC = [blocks.sinusoid(value_B, self._waves) for value_B in (time_B, mx.zeros_like(time_B))]
        inputs_BMC = [mx.broadcast_to(each[:, None], (*shape, self._waves)) for each in waves_BC]
        inputs_BMC.append(mx.broadcast_to(self._places_MC, (*shape, self._places_MC.shape[1])))
        return self.distilled_guidance_layer(mx.concatenate(inputs_BMC, axis=-1).astype(dtype))

    def project(self, stream: Stream) -> mx.array:
        """The velocity of the image tokens. The order here is shift, scale."""
        shift_BD, scale_BD = stream["mod"][:, -2], stream["mod"][:, -1]
        return self.proj_out(blocks.modulate(stream["img"], shift_BD, scale_BD))


def rows(mod_BMD: mx.array, first: mx.array, count: int) -> list[mx.array]:
    """`count` rows of the modulations from the `first` on: (B, D) each."""
    taken = mx.take(mod_BMD, first + mx.arange(count), axis=1)
    return [taken[:, index] for index in range(count)]


def places(count: int, width: int) -> mx.array:
    """cos and sin of 1000 m * 10000^(-i / (width/2)), for m in range(count): float32 (count, width), cosines first.

    Angles reach 343,000, so one digit of a frequency is worth 0.01 of an angle. The checkpoint was trained with
    frequencies and angles rounded to float32, so they are rounded here; their cosines are exact on every device.
    """
    half = width // 2
    step = rounded(-math.log(10_000.0))
    frequencies = [rounded(math.exp(rounded(rounded(step * i) / half))) for i in range(half)]
    angles = [[rounded(1000.0 * m * frequency) for frequency in frequencies] for m in range(count)]
    table = [[*map(math.cos, row), *map(math.sin, row)] for row in angles]
    return mx.array(table, dtype=mx.float32)


def rounded(value: float) -> float:
    """The nearest float32."""
    nearest: float = struct.unpack("f", struct.pack("f", value))[0]
    return nearest


def run_block(block: nn.Module, stream: Stream) -> Stream:
    """The stream after one block, double or single."""
    return block(stream)


class Chroma(Flux1):
    """Chroma as `core.models.base.Family` asks for it. Photos, latents and schedules are FLUX.1's."""

    name = "chroma"
    parts: ClassVar[dict[str, Part]] = {
        "transformer": Part("transformer", ChromaTransformer, "diffusion_pytorch_model"),
        "vae": Part("vae", AutoencoderKL, "diffusion_pytorch_model"),
        "t5": Part("text_encoder", T5Encoder, "model"),
    }
    text_parts = ("t5",)
    modelspec: ClassVar[dict[str, str]] = {
        "architecture": "chroma/lora",
        "implementation": "https://github.com/lodestone-rock/flow",
    }
    stacks: ClassVar[dict[str, Stack]] = {
        "transformer_blocks": Stack("double", run_block),
        "single_transformer_blocks": Stack("single", run_block),
    }

    @cached_property
    def tokenizers(self) -> Sequence[TextTokenizer]:
        """T5's."""
        return (TextTokenizer(self._parts.folder / "tokenizer", TEXT_TOKENS),)

    @property
    def text_tokens(self) -> int:
        """The most tokens of a prompt, padding included."""
        return self.tokenizers[0].length

    def encode_each(self, prompts: Sequence[str]) -> list[Conditioning]:
        """{"tokens": T5's features (1, N, .), padded with zeros, "lengths": int32 (1,)} of each, evaluated.

        A length counts the prompt's tokens and one of padding, where there is room for it.
        """
        tokenized = [self.tokenizers[0].with_padding([prompt]) for prompt in prompts]
        lengths = [min(int(real_1N.sum()) + 1, real_1N.shape[1]) for _, real_1N in tokenized]
        texts = [
            (ids_1N[:, :length], real_1N[:, :length])
            for (ids_1N, real_1N), length in zip(tokenized, lengths, strict=True)
        ]
        conditionings = [
            {"tokens": mx.pad(each, [(0, 0), (0, -length % TEXT_LENGTHS), (0, 0)]), "lengths": mx.array([length])}
            for each, length in zip(self._parts["t5"].read(texts), lengths, strict=True)
        ]
        mx.eval(conditionings)
        return conditionings
