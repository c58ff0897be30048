"""FLUX.1: a transformer on a rectified flow, conditioned on the prompt by T5 (every token) and CLIP (one vector).

    T_theta:  img = W_x l_t,  txt = W_c T5(prompt),  vec = time(sigma) + text(CLIP(prompt)) [+ guidance(g)]
              double blocks, then single blocks, over [txt, img]               core/models/blocks.py
              velocity = W_o ((1 + scale(vec)) * norm(img) + shift(vec))

    photo --VAE, pack--> l_T;   l_T --unpack, VAE--> picture

One class for FLUX.1-dev (with guidance), FLUX.1-schnell (without) and Pocket: they differ in config.json only.

Shapes   B batch   H W pixels   L image tokens   C channels of one token   N text tokens   D width   Z latent channels
Dtypes   transformer and text encoders in `dtype`; the VAE, its latents and sigma in float32

Source: Black Forest Labs, FLUX.1 (2024); names and numbers as in diffusers' FluxPipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from core.errors import ModelProblem
from core.models import blocks
from core.models.autoencoder import AutoencoderKL
from core.models.base import Conditioning, Grid, Stream
from core.models.folder import FolderFamily, Stack
from core.models.parts import Part
from core.models.patches import pack, unpack
from core.models.text.clip import CLIPText
from core.models.text.t5 import T5Encoder
from core.models.text.tokenizers import TextTokenizer
from core.numerics.exponentials import silu
from core.numerics.rope import rotary_table

CLIP_TOKENS = 77
T5_TOKENS_DEV, T5_TOKENS_SCHNELL = 512, 256  # with and without guidance; the tokenizer's own limit can lower it


class FluxTransformer(nn.Module):
    """The network of a `transformer/config.json`; module paths are the checkpoint's."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Raises ModelProblem when the rotary axes do not fill a head."""
        super().__init__()
        heads, head_width = config["num_attention_heads"], config["attention_head_dim"]
        width = heads * head_width
        self._axes = tuple(config.get("axes_dims_rope", (16, 56, 56)))
        if sum(self._axes) != head_width:
            raise ModelProblem(f"axes_dims_rope is {self._axes}; it must add up to the head's width, {head_width}.")
        self._guidance = bool(config.get("guidance_embeds", False))
        channels = config["in_channels"]
        self.time_text_embed = blocks.TimeTextEmbed(width, config["pooled_projection_dim"], self._guidance)
        self.context_embedder = nn.Linear(config["joint_attention_dim"], width)
        self.x_embedder = nn.Linear(channels, width)
        self.transformer_blocks = [blocks.DoubleBlock(width, heads) for _ in range(config["num_layers"])]
        self.single_transformer_blocks = [blocks.SingleBlock(width, heads) for _ in range(config["num_single_layers"])]
        self.norm_out = blocks.Modulation(width, 2)
        self.proj_out = nn.Linear(width, config.get("out_channels") or channels)

    @property
    def embeds_guidance(self) -> bool:
        return self._guidance

    def embed(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> Stream:
        """The input of the first block, and what every block needs: token streams, silu(vec), the rotary table.

        Everything but the table is in the dtype of l_t.
        """
        dtype = l_t_BLC.dtype
        txt_BNC, pooled_BC = conditioning["tokens"].astype(dtype), conditioning["pooled"].astype(dtype)
        guidance_B = mx.full(sigma_B.shape, guidance, mx.float32) if self._guidance else None
        vec_BD = self.time_text_embed(sigma_B, guidance_B, pooled_BC)
        cos, sin = rotary_table(position_ids(txt_BNC.shape[1], grid), self._axes)
        return {
            "img": self.x_embedder(l_t_BLC),
            "txt": self.context_embedder(txt_BNC),
            "vec": silu(vec_BD),
            "cos": cos,
            "sin": sin,
        }

    def project(self, stream: Stream) -> mx.array:
        """The velocity of the image tokens. The checkpoint's order here is scale, shift."""
        scale_BD, shift_BD = self.norm_out(stream["vec"])
        return self.proj_out(blocks.modulate(stream["img"], shift_BD, scale_BD))


def run_block(block: nn.Module, stream: Stream) -> Stream:
    """The stream after one block, double or single: both have the same signature."""
    img, txt = block(stream["img"], stream["txt"], stream["vec"], (stream["cos"], stream["sin"]))
    return {**stream, "img": img, "txt": txt}


def position_ids(text_tokens: int, grid: Grid) -> mx.array:
    """(0, row, column) of every image token after (0, 0, 0) for every text token: int32 (N + L, 3)."""
    index = mx.arange(grid.tokens)
    image = mx.stack([mx.zeros_like(index), index // grid.columns, index % grid.columns], axis=1)
    return mx.concatenate([mx.zeros((text_tokens, 3), dtype=image.dtype), image])


class Flux1(FolderFamily):
    """FLUX.1 as `core.models.base.Family` asks for it."""

    name = "flux1"
    parts: ClassVar[dict[str, Part]] = {
        "transformer": Part("transformer", FluxTransformer, "diffusion_pytorch_model"),
        "vae": Part("vae", AutoencoderKL, "diffusion_pytorch_model"),
        "clip": Part("text_encoder", CLIPText, "model"),
        "t5": Part("text_encoder_2", T5Encoder, "model"),
    }
    text_parts: ClassVar[tuple[str, ...]] = ("clip", "t5")
    modelspec: ClassVar[dict[str, str]] = {
        "architecture": "flux-1-dev/lora",  # schnell's too: programs recognize FLUX.1's adapters by this name
        "implementation": "https://github.com/black-forest-labs/flux",
    }
    stacks: ClassVar[dict[str, Stack]] = {
        "transformer_blocks": Stack("double", run_block),
        "single_transformer_blocks": Stack("single", run_block),
    }

    # Text

    @cached_property
    def tokenizers(self) -> Sequence[TextTokenizer]:
        """CLIP's and T5's."""
        folder = self._parts.folder
        t5_tokens = T5_TOKENS_DEV if self.embeds_guidance else T5_TOKENS_SCHNELL
        return TextTokenizer(folder / "tokenizer", CLIP_TOKENS), TextTokenizer(folder / "tokenizer_2", t5_tokens)

    @property
    def text_tokens(self) -> int:
        """N: the number of T5 tokens of every prompt, padding included."""
        return self.tokenizers[1].length

    def encode_each(self, prompts: Sequence[str]) -> list[Conditioning]:
        """{"tokens": T5's features (1, N, .), "pooled": CLIP's vector (1, .)} of each prompt, evaluated."""
        clip_tokenizer, t5_tokenizer = self.tokenizers
        tokens_each = self._parts["t5"].read([(t5_tokenizer([prompt]),) for prompt in prompts])
        pooled_each = self._parts["clip"].read([(clip_tokenizer([prompt]),) for prompt in prompts])
        return [
            {"tokens": tokens_1NC, "pooled": pooled_1C}
            for tokens_1NC, pooled_1C in zip(tokens_each, pooled_each, strict=True)
        ]

    # Pictures

    def encode_photo(self, pixels_BHWC: mx.array) -> mx.array:
        """l_T = (mean - shift) * scale of the VAE's latent, packed: float32 (B, L, C)."""
        mean_BHWZ = self._parts["vae"].encode(pixels_BHWC.astype(mx.float32))
        return pack((mean_BHWZ - (self._vae_config.get("shift_factor") or 0.0)) * self._vae_config["scaling_factor"])

    def decode(self, latents_BLC: mx.array, grid: Grid) -> mx.array:
        """Pictures of clean latents: float32 (B, H, W, 3), clipped to [-1, 1]."""
        latent_BHWZ = unpack(latents_BLC.astype(mx.float32), grid) / self._vae_config["scaling_factor"]
        return mx.clip(
            self._parts["vae"].decode(latent_BHWZ + (self._vae_config.get("shift_factor") or 0.0)), -1.0, 1.0
        )
