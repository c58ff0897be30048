"""Z-Image: one stack of blocks over image and text together, after a small stack for each alone.

    T_theta:  img = W_x l_t,  txt = W_c rms(h_-2(prompt)),  vec = time(1 - sigma);  img and txt padded to 32s
              noise refiner over img,  context refiner over txt,  then layers over [img, txt]
              velocity = -W_o ((1 + scale(silu(vec))) * norm(img))

    block     x = x + gate * rms(attention(m(x)));   x = x + gate * rms(W_2 (silu(W_1 m(x)) * W_3 m(x)))
    m(x) = (1 + scale) * rms(x)       [scale, g] = Linear(vec), gate = tanh(g); in the context refiner m = rms, gate = 1

The checkpoint's time runs from noise (0) to picture (1) and its output is l_T - eps: both are reversed here. Padding
is a learned token. A token's position has three axes: (1 ... M, 0, 0) for the text, M being its length padded to 32s;
(M + 1, row, column) for the image, (0, 0, 0) for the image's padding.

Texts differ in length. `encode_each` pads each with zeros to a multiple of 128, so that a compiled step sees few
shapes, and records its length; a batch is padded to its longest text. Tokens beyond a text's own 32s are masked, and
positions count from each text's own length, so an example's result does not depend on the rest of its batch.

Shapes   B batch   H W pixels   L image tokens   P L padded to 32s   N text tokens   S = P + N   C channels   D V widths
Dtypes   transformer and text encoder in `dtype`; the VAE, its latents and sigma in float32

Source: Z-Image Team 2025, arXiv:2511.22699; names and numbers as in diffusers' ZImagePipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from itertools import accumulate
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from core.errors import ModelProblem
from core.estimate.architecture import PATCH
from core.models import blocks
from core.models.autoencoder import AutoencoderKL
from core.models.base import Conditioning, Grid, Stream
from core.models.folder import FolderFamily, Stack
from core.models.parts import Part
from core.models.text.qwen3 import Qwen3Encoder
from core.models.text.tokenizers import TextTokenizer, chat_message
from core.numerics.exponentials import silu
from core.numerics.layers import RMSNorm
from core.numerics.rope import Rotary, rotary_table

TEXT_TOKENS = 512
TAPS = (-2,)  # the hidden state of Qwen3 that is the features
MULTIPLE = 32  # image and text are padded to multiples of this many tokens, with a learned token
TEXT_LENGTHS = 128  # conditionings are padded to a multiple of this; most prompts fit in the first
SEQUENCE = ("img", "pad", "txt")  # the parts of the stream that are one sequence, in this order
VEC_WIDTH, TIME_WIDTH = 256, 1024
QK_EPSILON = 1e-5  # whatever the config's norm_eps
FIXED = {  # values in the configs of Z-Image and Turbo that other variants of the architecture do not have
    "all_patch_size": [2], "all_f_patch_size": [1], "qk_norm": True, "siglip_feat_dim": None, "t_scale": 1000.0,
}  # fmt: skip

Factor = mx.array | float


class Attention(nn.Module):
    """softmax(rope(rms(q)) rope(rms(k))^T / sqrt(d)) v, over the tokens where `mask` is True."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm_q = RMSNorm(width // heads, QK_EPSILON)
        self.norm_k = RMSNorm(width // heads, QK_EPSILON)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = [nn.Linear(width, width, bias=False)]

    def __call__(self, x_BSD: mx.array, rotary: Rotary, mask_B11S: mx.array | None) -> mx.array:
        batch, tokens, _ = x_BSD.shape
        q, k, v = (layer(x_BSD).reshape(batch, tokens, self._heads, -1) for layer in (self.to_q, self.to_k, self.to_v))
        return self.to_out[0](blocks.attend(self.norm_q(q), self.norm_k(k), v, rotary, mask_B11S))


class FeedForward(nn.Module):
    """W_2 (silu(W_1 x) * W_3 x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = int(width / 3 * 8)
        self.w1 = nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(inner, width, bias=False)
        self.w3 = nn.Linear(width, inner, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.w2(silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """`layers.i` and the refiners' blocks; those of the context refiner are not `modulated`."""

    def __init__(self, width: int, heads: int, epsilon: float, *, modulated: bool) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.feed_forward = FeedForward(width)
        self.attention_norm1 = RMSNorm(width, epsilon)
        self.attention_norm2 = RMSNorm(width, epsilon)
        self.ffn_norm1 = RMSNorm(width, epsilon)
        self.ffn_norm2 = RMSNorm(width, epsilon)
        if modulated:
            self.adaLN_modulation = [nn.Linear(min(width, VEC_WIDTH), 4 * width)]

    def __call__(self, x_BSD: mx.array, rotary: Rotary, mask_B11S: mx.array | None, vec_BV: mx.array) -> mx.array:
        """The next x."""
        scale, gate, scale_ffn, gate_ffn = self._modulation(vec_BV)
        update_BSD = self.attention(scale * self.attention_norm1(x_BSD), rotary, mask_B11S)
        x_BSD = x_BSD + gate * self.attention_norm2(update_BSD)
        update_BSD = self.feed_forward(scale_ffn * self.ffn_norm1(x_BSD))
        return x_BSD + gate_ffn * self.ffn_norm2(update_BSD)

    def _modulation(self, vec_BV: mx.array) -> tuple[Factor, Factor, Factor, Factor]:
        """1 + scale and gate of attention, then of the MLP: (B, 1, D), or 1 where the block is not modulated."""
        if "adaLN_modulation" not in self:
            return 1.0, 1.0, 1.0, 1.0
        scale, gate, scale_ffn, gate_ffn = self.adaLN_modulation[0](vec_BV)[:, None].split(4, axis=-1)
        return 1.0 + scale, mx.tanh(gate), 1.0 + scale_ffn, mx.tanh(gate_ffn)


class TimeEmbed(nn.Module):
    """vec = Linear(silu(Linear(sinusoid(1000 t))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = [nn.Linear(VEC_WIDTH, TIME_WIDTH), nn.SiLU(), nn.Linear(TIME_WIDTH, width)]

    def __call__(self, t_B: mx.array, dtype: mx.Dtype) -> mx.array:
        waves = blocks.sinusoid(1000.0 * t_B, VEC_WIDTH).astype(dtype)
        return self.mlp[2](silu(self.mlp[0](waves)))


class FinalLayer(nn.Module):
    """W_o ((1 + Linear(silu(vec))) * norm(x)) + b."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, channels)
        self.adaLN_modulation = [nn.SiLU(), nn.Linear(min(width, VEC_WIDTH), width)]

    def __call__(self, x_BLD: mx.array, vec_BV: mx.array) -> mx.array:
        scale_BD = self.adaLN_modulation[1](silu(vec_BV))
        return self.linear(blocks.norm(x_BLD) * (1.0 + scale_BD[:, None]))


class ZImageTransformer(nn.Module):
    """The network of a `transformer/config.json`; module paths are the checkpoint's."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Raises ModelProblem when the rotary axes do not fill a head, or the config is of another kind of Z-Image."""
        super().__init__()
        width, heads, epsilon = config["dim"], config["n_heads"], config.get("norm_eps", 1e-5)
        channels = config["in_channels"] * PATCH**2
        self._axes = tuple(config.get("axes_dims", (32, 48, 48)))
        self._theta = float(config.get("rope_theta", 256.0))
        if sum(self._axes) != width // heads:
            raise ModelProblem(f"axes_dims is {self._axes}; it must add up to the head's width, {width // heads}.")
        for knob, value in FIXED.items():
            actual = config.get(knob, value)
            if (list(actual) if isinstance(actual, tuple) else actual) != value:
                raise ModelProblem(f"{knob} is {actual}; Likeness knows Z-Image models in which it is {value}.")
        self.x_pad_token = mx.zeros((1, width))
        self.cap_pad_token = mx.zeros((1, width))
        self.t_embedder = TimeEmbed(min(width, VEC_WIDTH))
        self.cap_embedder = [RMSNorm(config["cap_feat_dim"], epsilon), nn.Linear(config["cap_feat_dim"], width)]
        self.all_x_embedder = {"2-1": nn.Linear(channels, width)}
        build = partial(Block, width, heads, epsilon)
        self.noise_refiner = [build(modulated=True) for _ in range(config["n_refiner_layers"])]
        self.context_refiner = [build(modulated=False) for _ in range(config["n_refiner_layers"])]
        self.layers = [build(modulated=True) for _ in range(config["n_layers"])]
        self.all_final_layer = {"2-1": FinalLayer(width, channels)}

    def embed(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> Stream:
        """The input of the first block, and what every block needs: token streams, vec, rotary table, mask ("seen").

        Token streams and vec are in the dtype of l_t.
        """
        dtype = l_t_BLC.dtype
        tokens_BNC, lengths_B1 = conditioning["tokens"].astype(dtype), conditioning["lengths"][:, None]
        batch, length, _ = tokens_BNC.shape
        img_BLD = self.all_x_embedder["2-1"](l_t_BLC)
        txt_BND = self.cap_embedder[1](self.cap_embedder[0](tokens_BNC))
        own_BN1 = (mx.arange(length) < lengths_B1)[..., None]
        padded_B1 = -(-lengths_B1 // MULTIPLE) * MULTIPLE
        ids_BSA = position_ids(padded_B1[:, 0], length, grid)
        cos, sin = rotary_table(ids_BSA, self._axes, self._theta)
        text_seen_BN = mx.arange(length) < padded_B1
        image_seen_BP = mx.ones((batch, ids_BSA.shape[1] - length), dtype=mx.bool_)
        return {
            "img": img_BLD,
            "pad": mx.broadcast_to(self.x_pad_token, (batch, -grid.tokens % MULTIPLE, img_BLD.shape[-1])),
            "txt": mx.where(own_BN1, txt_BND, self.cap_pad_token),
            "vec": self.t_embedder(1.0 - sigma_B.astype(mx.float32), dtype),
            "cos": cos[:, None],
            "sin": sin[:, None],
            "seen": mx.concatenate([image_seen_BP, text_seen_BN], axis=1)[:, None, None],
        }

    def project(self, stream: Stream) -> mx.array:
        """The velocity of the image tokens; the checkpoint's output is its negative."""
        return -self.all_final_layer["2-1"](stream["img"], stream["vec"])


def run_block(block: nn.Module, stream: Stream, *, over: tuple[str, ...]) -> Stream:
    """The stream after one block over the parts `over` of SEQUENCE, which are neighbours in it."""
    lengths = {name: stream[name].shape[1] for name in SEQUENCE}
    begin = sum(lengths[name] for name in SEQUENCE[: SEQUENCE.index(over[0])])
    here = slice(begin, begin + sum(lengths[name] for name in over))
    x_BSD = mx.concatenate([stream[name] for name in over], axis=1)
    rotary = (stream["cos"][:, :, here], stream["sin"][:, :, here])
    x_BSD = block(x_BSD, rotary, stream["seen"][..., here], stream["vec"])
    ends = list(accumulate(lengths[name] for name in over))
    return {**stream, **dict(zip(over, mx.split(x_BSD, ends[:-1], axis=1), strict=True))}


def position_ids(padded_B: mx.array, text_tokens: int, grid: Grid) -> mx.array:
    """(M + 1, row, column) of every image token, (0, 0, 0) of its padding, then (1 ..., 0, 0): int32 (B, S, 3).

    `padded_B` is M, the padded length of each text.
    """
    index = mx.arange(grid.tokens)
    first_BL = mx.broadcast_to(padded_B[:, None] + 1, (padded_B.size, grid.tokens))
    rows_BL, columns_BL = (
        mx.broadcast_to(each, first_BL.shape) for each in (index // grid.columns, index % grid.columns)
    )
    image_BLA = mx.stack([first_BL, rows_BL, columns_BL], axis=-1)
    padding_BLA = mx.zeros((padded_B.size, -grid.tokens % MULTIPLE, 3), dtype=image_BLA.dtype)
    number = mx.arange(1, text_tokens + 1)
    text_NA = mx.stack([number, mx.zeros_like(number), mx.zeros_like(number)], axis=-1)
    text_BNA = mx.broadcast_to(text_NA, (padded_B.size, *text_NA.shape))
    return mx.concatenate([image_BLA, padding_BLA, text_BNA], axis=1)


def pack(latent_BHWZ: mx.array) -> mx.array:
    """Latent pixels to tokens, 2 x 2 to one; a token's channels run (row, column, channel), unlike FLUX's."""
    batch, height, width, latent = latent_BHWZ.shape
    x = latent_BHWZ.reshape(batch, height // PATCH, PATCH, width // PATCH, PATCH, latent)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * width // PATCH**2, latent * PATCH**2)


def unpack(l_BLC: mx.array, grid: Grid) -> mx.array:
    """Tokens back to latent pixels (B, H/8, W/8, Z); the inverse of `pack`."""
    x = l_BLC.reshape(l_BLC.shape[0], grid.rows, grid.columns, PATCH, PATCH, grid.channels // PATCH**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(l_BLC.shape[0], grid.rows * PATCH, grid.columns * PATCH, -1)


class ZImage(FolderFamily):
    """Z-Image as `core.models.base.Family` asks for it."""

    name = "z_image"
    parts: ClassVar[dict[str, Part]] = {
        "transformer": Part("transformer", ZImageTransformer, "diffusion_pytorch_model"),
        "vae": Part("vae", AutoencoderKL, "diffusion_pytorch_model"),
        "qwen3": Part("text_encoder", partial(Qwen3Encoder, taps=TAPS), "model"),
    }
    text_parts = ("qwen3",)
    modelspec: ClassVar[dict[str, str]] = {
        "architecture": "Z-Image/lora",
        "implementation": "https://github.com/Tongyi-MAI/Z-Image",
    }
    stacks: ClassVar[dict[str, Stack]] = {
        "noise_refiner": Stack("image refiner", partial(run_block, over=("img", "pad"))),
        "context_refiner": Stack("text refiner", partial(run_block, over=("txt",))),
        "layers": Stack("single", partial(run_block, over=SEQUENCE)),
    }

    # Text

    @cached_property
    def tokenizers(self) -> Sequence[TextTokenizer]:
        """Qwen3's."""
        return (TextTokenizer(self._parts.folder / "tokenizer", TEXT_TOKENS),)

    def encode_each(self, prompts: Sequence[str]) -> list[Conditioning]:
        """{"tokens": Qwen3's features (1, N, .), padded with zeros, "lengths": int32 (1,)} of each, evaluated."""
        messages = [self.tokenizers[0].with_padding([chat_message(prompt, thinking=True)]) for prompt in prompts]
        lengths = [int(own_1N.sum()) for _, own_1N in messages]
        texts = [  # without padding, which no token sees
            (ids_1N[:, :length], own_1N[:, :length]) for (ids_1N, own_1N), length in zip(messages, lengths, strict=True)
        ]
        conditionings = [
            {"tokens": mx.pad(each, [(0, 0), (0, -length % TEXT_LENGTHS), (0, 0)]), "lengths": mx.array([length])}
            for each, length in zip(self._parts["qwen3"].read(texts), lengths, strict=True)
        ]
        mx.eval(conditionings)
        return conditionings

    # Pictures

    def encode_photo(self, pixels_BHWC: mx.array) -> mx.array:
        """l_T = (mean - shift) * scale of the VAE's latent, packed: float32 (B, L, C)."""
        mean = self._parts["vae"].encode(pixels_BHWC.astype(mx.float32))
        return pack((mean - (self._vae_config.get("shift_factor") or 0.0)) * self._vae_config["scaling_factor"])

    def decode(self, latents_BLC: mx.array, grid: Grid) -> mx.array:
        """Pictures of clean latents: float32 (B, H, W, 3), clipped to [-1, 1]."""
        latent = unpack(latents_BLC.astype(mx.float32), grid) / self._vae_config["scaling_factor"]
        return mx.clip(self._parts["vae"].decode(latent + (self._vae_config.get("shift_factor") or 0.0)), -1.0, 1.0)
