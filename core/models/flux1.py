"""FLUX.1: a transformer on a rectified flow, told about the prompt by T5 (every token) and CLIP (one vector).

    T_theta:  img = W_x l_t,  txt = W_c T5(prompt),  vec = time(sigma) + text(CLIP(prompt)) [+ guidance(g)]
              double blocks, then single blocks, over [txt, img]
              velocity = W_o ((1 + scale(vec)) * norm(img) + shift(vec))

One class for FLUX.1-dev (with guidance), FLUX.1-schnell (without) and Pocket: their config.json is the difference.

Shapes   B batch   H W pixels   L image tokens   C channels of one token   N text tokens   Z latent channels
Dtypes   the transformer's and text encoders' weights in `dtype`; the VAE, sigma and latents at its door in float32

Source: Black Forest Labs, FLUX.1 (2024); names and numbers as in diffusers' FluxPipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from core import flow
from core.catalog import defaults_of
from core.errors import ModelProblem
from core.files import sha256_of
from core.models import blocks
from core.models.autoencoder import AutoencoderKL
from core.models.base import Block, Conditioning, Grid, Stream
from core.models.exponentials import silu
from core.models.text.clip import CLIPText
from core.models.text.t5 import T5Encoder
from core.models.text.tokenizers import TextTokenizer
from core.weights import read_json, weights_sha256_of_all

if TYPE_CHECKING:
    from core.models.load import Parts

PATCH = 2  # a token is 2 x 2 latent pixels
CLIP_TOKENS = 77
T5_TOKENS = {True: 512, False: 256}  # dev (with guidance) and schnell; a tokenizer's own limit can lower it

DOUBLE_ATTENTION = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
                    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out")  # fmt: skip
DOUBLE_LINEAR = (*DOUBLE_ATTENTION, "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
SINGLE_ATTENTION = ("attn.to_q", "attn.to_k", "attn.to_v")
SINGLE_LINEAR = (*SINGLE_ATTENTION, "proj_mlp", "proj_out")


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
        """All that does not depend on depth, once: both token streams, silu(vec), the rotary table."""
        dtype = self.x_embedder.weight.dtype
        txt_BNC, pooled_BC = conditioning["tokens"].astype(dtype), conditioning["pooled"].astype(dtype)
        guidance_B = mx.full(sigma_B.shape, guidance, mx.float32) if self._guidance else None
        vec_BD = self.time_text_embed(sigma_B, guidance_B, pooled_BC)
        cos, sin = blocks.rotary_table(position_ids(txt_BNC.shape[1], grid), self._axes)
        return {
            "img": self.x_embedder(l_t_BLC.astype(dtype)),
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
    """Move the stream through one block, double or single: they have the same signature."""
    img, txt = block(stream["img"], stream["txt"], stream["vec"], (stream["cos"], stream["sin"]))
    return {**stream, "img": img, "txt": txt}


def position_ids(text_tokens: int, grid: Grid) -> mx.array:
    """(0, row, column) of every image token after (0, 0, 0) for every text token: int32 (N + L, 3)."""
    index = mx.arange(grid.tokens)
    image = mx.stack([mx.zeros_like(index), index // grid.columns, index % grid.columns], axis=1)
    return mx.concatenate([mx.zeros((text_tokens, 3), dtype=image.dtype), image])


def pack(latent_BHWZ: mx.array) -> mx.array:
    """Latent pixels to tokens, 2 x 2 to one; a token's channels run (channel, row, column)."""
    batch, height, width, latent = latent_BHWZ.shape
    x = latent_BHWZ.reshape(batch, height // PATCH, PATCH, width // PATCH, PATCH, latent)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(batch, height * width // PATCH**2, latent * PATCH**2)


def unpack(l_BLC: mx.array, grid: Grid) -> mx.array:
    """Tokens back to latent pixels (B, H/8, W/8, Z); the inverse of `pack`."""
    batch = l_BLC.shape[0]
    x = l_BLC.reshape(batch, grid.rows, grid.columns, grid.channels // PATCH**2, PATCH, PATCH)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(batch, grid.rows * PATCH, grid.columns * PATCH, -1)


class Flux1:
    """FLUX.1 as `core.models.base.Family` asks for it."""

    name = "flux1"
    # part: (folder, module, file stem); core/models/load.py reads them
    parts: ClassVar[dict[str, tuple[Any, ...]]] = {
        "transformer": ("transformer", FluxTransformer, "diffusion_pytorch_model"),
        "vae": ("vae", AutoencoderKL, "diffusion_pytorch_model"),
        "clip": ("text_encoder", CLIPText, "model"),
        "t5": ("text_encoder_2", T5Encoder, "model"),
    }

    def __init__(self, parts: Parts, dtype: mx.Dtype) -> None:
        self.dtype = dtype
        self._parts = parts
        self._vae = parts.config("vae")
        scheduler = parts.folder / "scheduler" / "scheduler_config.json"
        self._scheduler = read_json(scheduler)
        self.embeds_guidance = bool(parts.config("transformer").get("guidance_embeds", False))
        self.pixel_multiple = PATCH * 2 ** (len(self._vae["block_out_channels"]) - 1)

    @property
    def transformer(self) -> nn.Module:
        return self._parts["transformer"]

    def grid(self, height_px: int, width_px: int) -> Grid:
        """The latent grid of a picture of this size; sizes must be multiples of `pixel_multiple`."""
        if height_px % self.pixel_multiple or width_px % self.pixel_multiple or min(height_px, width_px) <= 0:
            raise ModelProblem(
                f"A picture cannot be {width_px} x {height_px} px: both must be multiples of {self.pixel_multiple}."
            )
        channels = self._vae["latent_channels"] * PATCH**2
        return Grid(height_px // self.pixel_multiple, width_px // self.pixel_multiple, channels)

    # Text

    @cached_property
    def _tokenizers(self) -> tuple[TextTokenizer, TextTokenizer]:
        folder = self._parts.folder
        t5_tokens = T5_TOKENS[self.embeds_guidance]
        return TextTokenizer(folder / "tokenizer", CLIP_TOKENS), TextTokenizer(folder / "tokenizer_2", t5_tokens)

    @property
    def text_tokens(self) -> int:
        """N: how many tokens T5 reads of every prompt."""
        return self._tokenizers[1].length

    def encode_text(self, prompts: Sequence[str]) -> Conditioning:
        """{"tokens": T5's features (B, N, .), "pooled": CLIP's vector (B, .)}, evaluated."""
        clip_ids, t5_ids = (tokenize(prompts) for tokenize in self._tokenizers)
        conditioning = {"tokens": self._parts["t5"](t5_ids), "pooled": self._parts["clip"](clip_ids)}
        mx.eval(conditioning)
        return conditioning

    # Pictures

    def encode_photo(self, pixels_BHWC: mx.array) -> mx.array:
        """l_T = (mean - shift) * scale of the VAE's latent, packed: float32 (B, L, C)."""
        mean = self._parts["vae"].encode(pixels_BHWC.astype(mx.float32))
        return pack((mean - (self._vae.get("shift_factor") or 0.0)) * self._vae["scaling_factor"])

    def decode(self, latents_BLC: mx.array, grid: Grid) -> mx.array:
        """Pictures of clean latents: float32 (B, H, W, 3), clipped to [-1, 1]."""
        latent = unpack(latents_BLC.astype(mx.float32), grid) / self._vae["scaling_factor"]
        return mx.clip(self._parts["vae"].decode(latent + (self._vae.get("shift_factor") or 0.0)), -1.0, 1.0)

    # The network

    def embed(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> Stream:
        """The stream that enters the first block; `guidance` counts only where the model embeds it."""
        return self.transformer.embed(l_t_BLC, sigma_B, conditioning, grid, guidance)

    @property
    def blocks(self) -> Sequence[Block]:
        """Double blocks, then single blocks."""
        found = []
        for kind, path in (("double", "transformer_blocks"), ("single", "single_transformer_blocks")):
            for index, module in enumerate(self.transformer[path]):
                found.append(Block(kind, f"{path}.{index}", module, run_block))
        return found

    def project(self, stream: Stream) -> mx.array:
        """The velocity (B, L, C) in the compute dtype."""
        return self.transformer.project(stream)

    def velocity(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> mx.array:
        """T_theta(l_t, t) = eps - l_T, as far as it has learned it."""
        stream = self.embed(l_t_BLC, sigma_B, conditioning, grid, guidance)
        for block in self.blocks:
            stream = block.run(block.module, stream)
        return self.project(stream)

    # Schedules

    def _shift(self, grid: Grid) -> float:
        scheduler = self._scheduler
        if not scheduler.get("use_dynamic_shifting", False):
            return float(scheduler.get("shift", 1.0))
        return flow.dynamic_shift(
            grid.tokens,
            scheduler.get("base_image_seq_len", 256),
            scheduler.get("max_image_seq_len", 4096),
            scheduler.get("base_shift", 0.5),
            scheduler.get("max_shift", 1.15),
        )

    def drawing_sigmas(self, steps: int, grid: Grid) -> list[float]:
        """`steps + 1` sigmas from 1 to 0, as FluxPipeline asks FlowMatchEulerDiscreteScheduler for them."""
        return flow.schedule(steps, self._shift(grid))

    def training_shift(self, grid: Grid) -> float:
        """The same shift as in drawing."""
        return self._shift(grid)

    # Adapters and knobs

    @cached_property
    def presets(self) -> Mapping[str, Sequence[str]]:
        """Every linear layer of the blocks, or those of attention; modulation and embedders stay out."""
        doubles, singles = (self._parts.config("transformer")[name] for name in ("num_layers", "num_single_layers"))

        def expand(double: Sequence[str], single: Sequence[str]) -> list[str]:
            paths = [f"transformer_blocks.{index}.{name}" for index in range(doubles) for name in double]
            return paths + [f"single_transformer_blocks.{index}.{name}" for index in range(singles) for name in single]

        return {
            "all_linear": expand(DOUBLE_LINEAR, SINGLE_LINEAR),
            "attention": expand(DOUBLE_ATTENTION, SINGLE_ATTENTION),
        }

    @property
    def defaults(self) -> Mapping[str, Any]:
        """From the folder's likeness.json, else FLUX.1's own."""
        return defaults_of(self._parts.folder)

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """One SHA-256 each for the transformer, the VAE and all that reads text, tokenizers included."""
        tokenizers = [path for each in self._tokenizers for path in each.files]
        text = [self._parts.sha256("clip"), self._parts.sha256("t5"), weights_sha256_of_all(tokenizers)]
        return {
            "transformer": self._parts.sha256("transformer"),
            "vae": self._parts.sha256("vae"),
            "text": sha256_of("".join(text).encode()),
        }

    def free(self, *parts: str) -> None:
        """Drop "text", "vae" or "transformer" from memory."""
        for part in parts:
            for name in ("clip", "t5") if part == "text" else (part,):
                self._parts.free(name)
        mx.clear_cache()
