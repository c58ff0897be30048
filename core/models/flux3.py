"""FLUX.3 klein: text and image alone first, then together, conditioned on the prompt by Qwen3-VL's text tower.

    T_theta:  img = W_x l_t,  txt = W_c [h_4, h_8, ... h_32](prompt)
              vec_img = time(sigma),  vec_txt = time(0);   where the model is a flow map, + target(sigma') to both
              text blocks over txt,  image blocks over img,  then single blocks over [txt, img]
              velocity = W_o ((1 + scale(vec_img)) * norm(img) + shift(vec_img))

    block     x = x + gate * (attention(m(x)) + W_out swiglu(W_in m(x)))       one set of weights for all of its tokens
    m(x) = (1 + scale) * norm(x) + shift        swiglu([a, b]) = silu(a) * b
    shift, scale, gate = Linear(silu(vec)), of text and of image, shared by the blocks before and after they meet

No layer has a bias. The text is always at time 0. A flow map was distilled to draw in few steps: sigma', where a step
ends, is an input, and the velocity is the straight way there; in training a step ends where it begins. A token's
position has four axes: (0, row / 2, column / 2, 0) for the image, (0, 0, 0, index) for the text.

A text is padded to a multiple of 80 tokens, and its padding is attended to, as it was in training. In a batch of texts
of other lengths what lies beyond a text's own 80s is masked, so an example's result does not depend on the others.

Shapes   B batch   H W pixels   L image tokens   C channels of one token   N text tokens   S = N + L   D width
Dtypes   transformer and text encoder in `dtype`; the VAE, its latents and sigma in float32

Source: Black Forest Labs, FLUX.3 (2026); names and numbers as in diffusers' Flux3ModularPipeline. Reference images, for
which the checkpoint has further blocks, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from itertools import accumulate
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from core.errors import ModelProblem
from core.models import blocks
from core.models.autoencoder import AutoencoderKLFlux2
from core.models.base import TARGET, Conditioning, Grid, Stream
from core.models.flux2 import FeedForward
from core.models.folder import FolderFamily, Stack
from core.models.parts import Part
from core.models.text.qwen3 import Qwen3VLTextEncoder
from core.models.text.tokenizers import TextTokenizer, chat_message
from core.numerics.exponentials import silu
from core.numerics.layers import RMSNorm
from core.numerics.rope import Rotary, rotary_table

TEXT_TOKENS, TEXT_LENGTHS = 8192, 80  # the most, and a multiple to which each text is padded
TAPS = (4, 8, 12, 16, 20, 24, 28, 32)  # the hidden states of Qwen3-VL that are the features
SHIFT = 6.93  # of the drawing schedule, where the folder has no scheduler
IMAGE_SCALE = 0.5  # of rows and columns, as positions
SEQUENCE = ("txt", "img")  # the parts of the stream that are one sequence, in this order
REFERENCES = "image_cond"  # the mode of reference images in the checkpoint


class Attention(nn.Module):
    """softmax(rope(rms(q)) rope(rms(k))^T / sqrt(d)) v, over the tokens where `mask` is True."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm_q = RMSNorm(width // heads, blocks.NORM_EPSILON)
        self.norm_k = RMSNorm(width // heads, blocks.NORM_EPSILON)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = [nn.Linear(width, width, bias=False)]

    def __call__(self, x_BSD: mx.array, rotary: Rotary, mask_B11S: mx.array) -> mx.array:
        batch, tokens, _ = x_BSD.shape
        q, k, v = (layer(x_BSD).reshape(batch, tokens, self._heads, -1) for layer in (self.to_q, self.to_k, self.to_v))
        return self.to_out[0](blocks.attend(self.norm_q(q), self.norm_k(k), v, rotary, mask_B11S))


class Block(nn.Module):
    """`txt_mode_blocks.i`, `mode_blocks.image.i` and `single_transformer_blocks.i`: one design."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.ff = FeedForward(width, inner)


class Modulations(nn.Module):
    """One Linear of `width` to 3 * width for each mode: shift, scale and gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image = blocks.Modulation(width, 3, bias=False)
        self.txt = blocks.Modulation(width, 3, bias=False)


class Flux3Transformer(nn.Module):
    """The network of a `transformer/config.json`; module paths are the checkpoint's."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Raises ModelProblem when the rotary axes do not fill a head."""
        super().__init__()
        heads, head_width = config["num_attention_heads"], config["attention_head_dim"]
        width, channels = heads * head_width, config["in_channels"]
        self._axes = tuple(config.get("axes_dims_rope", (32, 32, 32, 32)))
        if sum(self._axes) != head_width:
            raise ModelProblem(f"axes_dims_rope is {self._axes}; it must add up to the head's width, {head_width}.")
        self._theta = float(config.get("rope_theta", 10_000))
        self._frequencies = config.get("timestep_channels", 256)
        self.timestep_embedder = blocks.MLPEmbedder(self._frequencies, width, bias=False)
        if config.get("flow_map", False):
            self.target_timestep_embedder = blocks.MLPEmbedder(self._frequencies, width, bias=False)
        self.early_stream_modulations = Modulations(width)
        self.single_stream_modulations = Modulations(width)
        self.x_embedders = {"image": nn.Linear(channels, width, bias=False)}
        self.context_embedder = nn.Linear(config["joint_attention_dim"], width, bias=False)
        build = partial(Block, width, heads, int(width * config.get("mlp_ratio", 3.0)))
        self.mode_blocks = {"image": [build() for _ in range(config["num_layers"])]}
        self.txt_mode_blocks = [build() for _ in range(config["num_layers"])]
        self.single_transformer_blocks = [build() for _ in range(config["num_single_layers"])]
        self.norm_out = blocks.Modulation(width, 2, bias=False)
        self.proj_out = nn.Linear(width, channels, bias=False)

    @staticmethod
    def checkpoint_name(name: str) -> str | None:
        """Our name of a checkpoint's tensor; None for those of reference images."""
        return None if REFERENCES in name.split(".") else name

    def embed(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> Stream:
        """The input of the first block, and what every block needs: token streams, modulations, table, mask ("seen").

        Token streams and modulations are in the dtype of l_t.
        """
        dtype = l_t_BLC.dtype
        tokens_BNC, lengths_B1 = conditioning["tokens"].astype(dtype), conditioning["lengths"][:, None]
        batch, text_tokens, _ = tokens_BNC.shape
        vec_img_BD, vec_txt_BD = self._times(sigma_B, conditioning.get(TARGET, sigma_B), dtype)
        cos, sin = rotary_table(position_ids(text_tokens, grid), self._axes, self._theta)
        text_seen_BN = mx.arange(text_tokens) < lengths_B1
        image_seen_BL = mx.ones((batch, grid.tokens), dtype=mx.bool_)
        return {
            "img": self.x_embedders["image"](l_t_BLC),
            "txt": self.context_embedder(tokens_BNC),
            "vec": vec_img_BD,
            "early_img": self.early_stream_modulations.image.linear(vec_img_BD),
            "early_txt": self.early_stream_modulations.txt.linear(vec_txt_BD),
            "single_img": self.single_stream_modulations.image.linear(vec_img_BD),
            "single_txt": self.single_stream_modulations.txt.linear(vec_txt_BD),
            "cos": cos,
            "sin": sin,
            "seen": mx.concatenate([text_seen_BN, image_seen_BL], axis=1)[:, None, None],
        }

    def _times(self, sigma_B: mx.array, target_B: mx.array, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
        """silu of vec_img and of vec_txt: (B, D) each."""

        def waves(value_B: mx.array) -> mx.array:
            return blocks.sinusoid(1000.0 * value_B.astype(mx.float32), self._frequencies).astype(dtype)

        vecs = [self.timestep_embedder(waves(value_B)) for value_B in (sigma_B, mx.zeros_like(sigma_B))]
        if "target_timestep_embedder" in self:
            target_BD = self.target_timestep_embedder(waves(target_B))
            vecs = [vec_BD + target_BD for vec_BD in vecs]
        return silu(vecs[0]), silu(vecs[1])

    def project(self, stream: Stream) -> mx.array:
        """The velocity of the image tokens. The checkpoint's order here is scale, shift."""
        scale_BD, shift_BD = self.norm_out(stream["vec"])
        return self.proj_out(blocks.modulate(stream["img"], shift_BD, scale_BD))


def run_block(block: nn.Module, stream: Stream, *, over: tuple[str, ...], place: str) -> Stream:
    """The stream after one block over the parts `over` of SEQUENCE; `place` is "early" or "single"."""
    lengths = {name: stream[name].shape[1] for name in SEQUENCE}
    begin = sum(lengths[name] for name in SEQUENCE[: SEQUENCE.index(over[0])])
    here = slice(begin, begin + sum(lengths[name] for name in over))
    modulations = {name: stream[f"{place}_{name}"].split(3, axis=-1) for name in over}

    h_BSD = mx.concatenate([blocks.modulate(stream[name], *modulations[name][:2]) for name in over], axis=1)
    rotary = (stream["cos"][here], stream["sin"][here])
    update_BSD = block.attn(h_BSD, rotary, stream["seen"][..., here]) + block.ff(h_BSD)

    ends = list(accumulate(lengths[name] for name in over))
    updates = dict(zip(over, mx.split(update_BSD, ends[:-1], axis=1), strict=True))
    return {**stream, **{name: stream[name] + modulations[name][2][:, None] * updates[name] for name in over}}


def position_ids(text_tokens: int, grid: Grid) -> mx.array:
    """(0, 0, 0, index) of every text token, (0, row / 2, column / 2, 0) of every image token: float32 (N + L, 4)."""
    text, image = mx.arange(text_tokens), mx.arange(grid.tokens)
    none_N, none_L = mx.zeros_like(text), mx.zeros_like(image)
    rows, columns = IMAGE_SCALE * (image // grid.columns), IMAGE_SCALE * (image % grid.columns)
    return mx.concatenate(
        [
            mx.stack([none_N, none_N, none_N, text], axis=1).astype(mx.float32),
            mx.stack([none_L, rows, columns, none_L], axis=1).astype(mx.float32),
        ]
    )


class Flux3(FolderFamily):
    """FLUX.3 klein as `core.models.base.Family` asks for it."""

    name = "flux3"
    parts: ClassVar[dict[str, Part]] = {
        "transformer": Part("transformer", Flux3Transformer, "diffusion_pytorch_model"),
        "vae": Part("vae", AutoencoderKLFlux2, "diffusion_pytorch_model"),
        "qwen3": Part("text_encoder", partial(Qwen3VLTextEncoder, taps=TAPS), "model"),
    }
    text_parts = ("qwen3",)
    default_shift = SHIFT
    modelspec: ClassVar[dict[str, str]] = {
        "architecture": "Flux.3-klein/lora",
        "implementation": "https://github.com/black-forest-labs/flux-3-image-klein",
    }
    stacks: ClassVar[dict[str, Stack]] = {
        "txt_mode_blocks": Stack("text", partial(run_block, over=("txt",), place="early")),
        "mode_blocks.image": Stack("image", partial(run_block, over=("img",), place="early")),
        "single_transformer_blocks": Stack("single", partial(run_block, over=SEQUENCE, place="single")),
    }

    # Text

    @cached_property
    def tokenizers(self) -> Sequence[TextTokenizer]:
        """Qwen3-VL's."""
        return (TextTokenizer(self._parts.folder / "tokenizer", TEXT_TOKENS),)

    def encode_each(self, prompts: Sequence[str]) -> list[Conditioning]:
        """{"tokens": Qwen3-VL's features at every tap, concatenated (1, N, .), "lengths": int32 (1,), N} of each."""
        messages = [self.tokenizers[0].with_padding([chat_message(prompt, thinking=True)]) for prompt in prompts]
        padded = [-(-int(own_1N.sum()) // TEXT_LENGTHS) * TEXT_LENGTHS for _, own_1N in messages]
        texts = [
            (ids_1N[:, :length], own_1N[:, :length]) for (ids_1N, own_1N), length in zip(messages, padded, strict=True)
        ]
        return [
            {"tokens": features, "lengths": mx.array([features.shape[1]])}
            for features in self._parts["qwen3"].read(texts)
        ]

    # Pictures

    def encode_photo(self, pixels_BHWC: mx.array) -> mx.array:
        """l_T: the tokens of the VAE's mean, each channel normalized: float32 (B, L, C)."""
        return self._parts["vae"].encode_tokens(pixels_BHWC.astype(mx.float32))

    def decode(self, latents_BLC: mx.array, grid: Grid) -> mx.array:
        """Pictures of clean latents: float32 (B, H, W, 3), clipped to [-1, 1]."""
        return mx.clip(self._parts["vae"].decode_tokens(latents_BLC.astype(mx.float32), grid), -1.0, 1.0)
