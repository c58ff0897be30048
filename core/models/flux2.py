"""FLUX.2-klein: double and single blocks as in FLUX.1, with one modulation for all, conditioned on the prompt by Qwen3.

    T_theta:  img = W_x l_t,  txt = W_c [h_9, h_18, h_27](prompt),  vec = time(sigma) [+ guidance(g)]
              shift, scale, gate = Linear(silu(vec)), shared by all image streams, all text streams, all single blocks
              double blocks, then single blocks, over [txt, img]
              velocity = W_o ((1 + scale(vec)) * norm(img) + shift(vec))

    double    x = x + gate * attention(m(x));   x = x + gate * W_out swiglu(W_in m(x))
    single    [q, k, v, ab] = W_in m(x);        x = x + gate * W_out [attention(q, k, v), swiglu(ab)]
    m(x) = (1 + scale) * norm(x) + shift        swiglu([a, b]) = silu(a) * b

No layer has a bias. A token's position has four axes: (0, row, column, 0) for the image, (0, 0, 0, index) for the text
and its padding. One class for klein-4B and klein-9B, base and distilled: they differ in config.json only.

Shapes   B batch   H W pixels   L image tokens   C channels of one token   N text tokens   S = N + L   D width
Dtypes   transformer and text encoder in `dtype`; the VAE, its latents and sigma in float32

Source: Black Forest Labs, FLUX.2 (2025); names and numbers as in diffusers' Flux2KleinPipeline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from core import flow
from core.errors import ModelProblem
from core.hub.catalog import drawing_of
from core.models import blocks
from core.models.autoencoder import AutoencoderKLFlux2
from core.models.base import Conditioning, Grid, Stream
from core.models.folder import FolderFamily, Stack
from core.models.parts import Part
from core.models.text.qwen3 import Qwen3Encoder
from core.models.text.tokenizers import TextTokenizer, chat_message
from core.numerics.exponentials import silu
from core.numerics.layers import RMSNorm
from core.numerics.rope import Rotary, rotary_table

TEXT_TOKENS = 512
TAPS = (9, 18, 27)  # the hidden states of Qwen3 that are the features
SIZES = {3072: "-4b", 4096: "-9b"}  # of the klein models, by the transformer's width


def swiglu(ab: mx.array) -> mx.array:
    """silu(a) * b of [a, b]."""
    a, b = mx.split(ab, 2, axis=-1)
    return silu(a) * b


class FeedForward(nn.Module):
    """W_out swiglu(W_in x)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.linear_in = nn.Linear(width, 2 * inner, bias=False)
        self.linear_out = nn.Linear(inner, width, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear_out(swiglu(self.linear_in(x)))


class DoubleBlock(nn.Module):
    """`transformer_blocks.i`: image and text have their own weights and meet in one attention."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attn = blocks.Attention(width, heads, text=True, bias=False)
        self.ff = FeedForward(width, inner)
        self.ff_context = FeedForward(width, inner)

    def __call__(self, stream: Stream) -> Stream:
        """The stream with the next img and txt."""
        img_BLD, txt_BND = blocks.double(
            self,
            stream["img"],
            stream["txt"],
            thirds(stream["mod_img"], 2),
            thirds(stream["mod_txt"], 2),
            (stream["cos"], stream["sin"]),
        )
        return {**stream, "img": img_BLD, "txt": txt_BND}


class FusedAttention(nn.Module):
    """Attention and MLP in parallel, with one input and one output layer for both."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm_q = RMSNorm(width // heads, blocks.NORM_EPSILON)
        self.norm_k = RMSNorm(width // heads, blocks.NORM_EPSILON)
        self.to_qkv_mlp_proj = nn.Linear(width, 3 * width + 2 * inner, bias=False)
        self.to_out = nn.Linear(width + inner, width, bias=False)

    def __call__(self, x_BSD: mx.array, rotary: Rotary) -> mx.array:
        batch, tokens, width = x_BSD.shape
        *qkv, ab = mx.split(self.to_qkv_mlp_proj(x_BSD), [width, 2 * width, 3 * width], axis=-1)
        q, k, v = (each.reshape(batch, tokens, self._heads, -1) for each in qkv)
        attended = blocks.attend(self.norm_q(q), self.norm_k(k), v, rotary)
        return self.to_out(mx.concatenate([attended, swiglu(ab)], axis=-1))


class SingleBlock(nn.Module):
    """`single_transformer_blocks.i`: image and text are one sequence within the block."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attn = FusedAttention(width, heads, inner)

    def __call__(self, stream: Stream) -> Stream:
        """The stream with the next img and txt."""
        shift, scale, gate = thirds(stream["mod_single"], 1)
        x_BSD = mx.concatenate([stream["txt"], stream["img"]], axis=1)
        update = self.attn(blocks.modulate(x_BSD, shift, scale), (stream["cos"], stream["sin"]))
        txt, img = mx.split(x_BSD + gate[:, None] * update, [stream["txt"].shape[1]], axis=1)
        return {**stream, "img": img, "txt": txt}


class TimeGuidanceEmbed(nn.Module):
    """vec = time(1000 sigma) [+ guidance(1000 g), where the model was distilled with guidance]."""

    def __init__(self, frequencies: int, width: int, guidance: bool) -> None:
        super().__init__()
        self._frequencies = frequencies
        self.timestep_embedder = blocks.MLPEmbedder(frequencies, width, bias=False)
        if guidance:
            self.guidance_embedder = blocks.MLPEmbedder(frequencies, width, bias=False)

    def __call__(self, sigma_B: mx.array, guidance_B: mx.array | None, dtype: mx.Dtype) -> mx.array:
        def waves(value_B: mx.array) -> mx.array:
            return blocks.sinusoid(1000.0 * value_B.astype(mx.float32), self._frequencies).astype(dtype)

        vec_BD = self.timestep_embedder(waves(sigma_B))
        return vec_BD if guidance_B is None else vec_BD + self.guidance_embedder(waves(guidance_B))


class Flux2Transformer(nn.Module):
    """The network of a `transformer/config.json`; module paths are the checkpoint's."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Raises ModelProblem when the rotary axes do not fill a head."""
        super().__init__()
        heads, head_width = config["num_attention_heads"], config["attention_head_dim"]
        width, channels = heads * head_width, config["in_channels"]
        inner = int(width * config.get("mlp_ratio", 3.0))
        self._axes = tuple(config.get("axes_dims_rope", (32, 32, 32, 32)))
        if sum(self._axes) != head_width:
            raise ModelProblem(f"axes_dims_rope is {self._axes}; it must add up to the head's width, {head_width}.")
        self._theta = float(config.get("rope_theta", 2000))
        self._guidance = bool(config.get("guidance_embeds", False))
        frequencies = config.get("timestep_guidance_channels", 256)
        self.time_guidance_embed = TimeGuidanceEmbed(frequencies, width, self._guidance)
        self.double_stream_modulation_img = blocks.Modulation(width, 6, bias=False)
        self.double_stream_modulation_txt = blocks.Modulation(width, 6, bias=False)
        self.single_stream_modulation = blocks.Modulation(width, 3, bias=False)
        self.x_embedder = nn.Linear(channels, width, bias=False)
        self.context_embedder = nn.Linear(config["joint_attention_dim"], width, bias=False)
        self.transformer_blocks = [DoubleBlock(width, heads, inner) for _ in range(config["num_layers"])]
        self.single_transformer_blocks = [SingleBlock(width, heads, inner) for _ in range(config["num_single_layers"])]
        self.norm_out = blocks.Modulation(width, 2, bias=False)
        self.proj_out = nn.Linear(width, config.get("out_channels") or channels, bias=False)

    def embed(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> Stream:
        """The input of the first block, and what every block needs: token streams, modulations, the rotary table.

        Everything but the table is in the dtype of l_t.
        """
        dtype = l_t_BLC.dtype
        txt_BNC = conditioning["tokens"].astype(dtype)
        guidance_B = mx.full(sigma_B.shape, guidance, mx.float32) if self._guidance else None
        vec_BD = silu(self.time_guidance_embed(sigma_B, guidance_B, dtype))
        cos, sin = rotary_table(position_ids(txt_BNC.shape[1], grid), self._axes, self._theta)
        return {
            "img": self.x_embedder(l_t_BLC),
            "txt": self.context_embedder(txt_BNC),
            "vec": vec_BD,
            "mod_img": self.double_stream_modulation_img.linear(vec_BD),
            "mod_txt": self.double_stream_modulation_txt.linear(vec_BD),
            "mod_single": self.single_stream_modulation.linear(vec_BD),
            "cos": cos,
            "sin": sin,
        }

    def project(self, stream: Stream) -> mx.array:
        """The velocity of the image tokens. The checkpoint's order here is scale, shift."""
        scale_BD, shift_BD = self.norm_out(stream["vec"])
        return self.proj_out(blocks.modulate(stream["img"], shift_BD, scale_BD))


def thirds(mod_BM: mx.array, sets: int) -> list[mx.array]:
    """shift, scale and gate (B, D) of each of `sets`."""
    return mod_BM.split(3 * sets, axis=-1)


def run_block(block: nn.Module, stream: Stream) -> Stream:
    """The stream after one block, double or single."""
    return block(stream)


def position_ids(text_tokens: int, grid: Grid) -> mx.array:
    """(0, 0, 0, index) of every text token, then (0, row, column, 0) of every image token: int32 (N + L, 4)."""
    text, image = mx.arange(text_tokens), mx.arange(grid.tokens)
    none_N, none_L = mx.zeros_like(text), mx.zeros_like(image)
    return mx.concatenate(
        [
            mx.stack([none_N, none_N, none_N, text], axis=1),
            mx.stack([none_L, image // grid.columns, image % grid.columns, none_L], axis=1),
        ]
    )


def empirical_mu(tokens: int, steps: int) -> float:
    """mu of the shift e^mu: linear in the steps between 10 and 200, and at both linear in the tokens.

    Above 4300 tokens it is that of 200 steps.
    """
    at_10, at_200 = 8.73809524e-5 * tokens + 1.89833333, 1.6927e-4 * tokens + 0.45666666
    return at_200 if tokens > 4300 else at_10 + (at_200 - at_10) * (steps - 10) / 190


class Flux2(FolderFamily):
    """FLUX.2-klein as `core.models.base.Family` asks for it."""

    name = "flux2"
    parts: ClassVar[dict[str, Part]] = {
        "transformer": Part("transformer", Flux2Transformer, "diffusion_pytorch_model"),
        "vae": Part("vae", AutoencoderKLFlux2, "diffusion_pytorch_model"),
        "qwen3": Part("text_encoder", partial(Qwen3Encoder, taps=TAPS), "model"),
    }
    text_parts = ("qwen3",)
    stacks: ClassVar[dict[str, Stack]] = {
        "transformer_blocks": Stack("double", run_block),
        "single_transformer_blocks": Stack("single", run_block),
    }

    @property
    def modelspec(self) -> Mapping[str, str]:
        """The klein model's name, by its width."""
        size = SIZES.get(self._config["num_attention_heads"] * self._config["attention_head_dim"], "")
        return {
            "architecture": f"Flux.2-klein{size}/lora",
            "implementation": "https://github.com/black-forest-labs/flux2",
        }

    # Text

    @cached_property
    def tokenizers(self) -> Sequence[TextTokenizer]:
        """Qwen3's."""
        return (TextTokenizer(self._parts.folder / "tokenizer", TEXT_TOKENS),)

    @property
    def text_tokens(self) -> int:
        """N: the number of tokens of every prompt, padding included."""
        return self.tokenizers[0].length

    def encode_each(self, prompts: Sequence[str]) -> list[Conditioning]:
        """{"tokens": Qwen3's features at every tap, concatenated (1, N, .)} of each prompt, evaluated."""
        messages = [self.tokenizers[0].with_padding([chat_message(prompt, thinking=False)]) for prompt in prompts]
        return [{"tokens": features} for features in self._parts["qwen3"].read(messages)]

    # Pictures

    def encode_photo(self, pixels_BHWC: mx.array) -> mx.array:
        """l_T: the tokens of the VAE's mean, each channel normalized: float32 (B, L, C)."""
        return self._parts["vae"].encode_tokens(pixels_BHWC.astype(mx.float32))

    def decode(self, latents_BLC: mx.array, grid: Grid) -> mx.array:
        """Pictures of clean latents: float32 (B, H, W, 3), clipped to [-1, 1]."""
        return mx.clip(self._parts["vae"].decode_tokens(latents_BLC.astype(mx.float32), grid), -1.0, 1.0)

    # Schedules

    def _shift(self, steps: int, grid: Grid) -> float:
        if not self._scheduler.get("use_dynamic_shifting", False):
            return float(self._scheduler.get("shift", 1.0))
        return math.exp(empirical_mu(grid.tokens, steps))

    def drawing_sigmas(self, steps: int, grid: Grid) -> list[float]:
        """`steps + 1` sigmas from 1 to 0, those of Flux2KleinPipeline and FlowMatchEulerDiscreteScheduler."""
        return flow.schedule(steps, self._shift(steps, grid))

    def drawing_shift(self, grid: Grid) -> float:
        """The shift of the drawing schedule, in this model's default number of steps."""
        return self._shift(drawing_of(self._parts.folder)["steps"], grid)

    def training_shift(self, grid: Grid) -> float:
        """FLUX.1's dynamic shift: e^0.63 at 512 px, e^1.15 at 1024 px. `empirical_mu` is larger, and for drawing alone:
        1.70 and 2.02 with 50 steps.

        Source: OneTrainer, pull request 1516 (2026-06), with the word of Black Forest Labs that FLUX.1 and FLUX.2 were
        trained with these parameters.
        """
        if not self._scheduler.get("use_dynamic_shifting", False):
            return self.drawing_shift(grid)
        return flow.dynamic_shift(grid.tokens)
