"""The blocks of FLUX.1's transformer and the parts that FLUX.2 and Chroma share with it, named as in diffusers.

    double block    a = attention([m(txt), m(img)])                    own weights for image and text tokens,
                    img = img + gate * W_out a_img                     one attention over both
                    txt = txt + gate * W_out a_txt
                    img = img + gate * mlp(m(img))
                    txt = txt + gate * mlp(m(txt))

    single block    x = [txt, img]                                     one set of weights for all tokens
                    x = x + gate * W_out [attention(m(x)), gelu(W_mlp m(x))]

    m(x)            (1 + scale) * norm(x) + shift                      shift, scale, gate = Linear(silu(vec))
    attention(h)    softmax(rope(rms(q)) rope(rms(k))^T / sqrt(d)) v   q, k, v = Linear(h)

Shapes   B batch   L image tokens   N text tokens   S = N + L   D width   H heads   d = D / H
Dtypes   everything in the dtype of the weights, but positions and rotations, which are float32

Source: Esser et al. 2024, arXiv:2403.03206; Black Forest Labs, FLUX.1; rotary embedding: Su et al. 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from core.numerics.attention import attention, contiguous_gradient
from core.numerics.exponentials import gelu_tanh, silu
from core.numerics.layers import RMSNorm, layer_norm
from core.numerics.rope import Rotary, rotate

NORM_EPSILON = 1e-6


def sinusoid(t_B: mx.array, dim: int = 256, max_period: float = 10_000.0) -> mx.array:
    """cos and sin of t * max_period^(-i / (dim/2)): float32 (B, dim), cosines first."""
    half = dim // 2
    # Python's floats: t reaches thousands, and each digit lost in a frequency is lost in the phase.
    frequencies = mx.array([max_period ** (-i / half) for i in range(half)], dtype=mx.float32)
    angles = t_B.astype(mx.float32)[:, None] * frequencies
    return mx.concatenate([mx.cos(angles), mx.sin(angles)], axis=1)


def norm(x: mx.array) -> mx.array:
    """LayerNorm without weights; scale and shift come from the modulation."""
    return layer_norm(x, None, None, NORM_EPSILON)


def modulate(x_BSD: mx.array, shift_BD: mx.array, scale_BD: mx.array) -> mx.array:
    """(1 + scale) * norm(x) + shift."""
    return norm(x_BSD) * (1.0 + scale_BD[:, None]) + shift_BD[:, None]


def gated_mlp(mlp: nn.Module, x_BSD: mx.array, shift_BD: mx.array, scale_BD: mx.array, gate_BD: mx.array) -> mx.array:
    """x + gate * mlp((1 + scale) * norm(x) + shift)."""
    return x_BSD + gate_BD[:, None] * mlp(modulate(x_BSD, shift_BD, scale_BD))


def attend(
    q_BSHd: mx.array, k_BSHd: mx.array, v_BSHd: mx.array, rotary: Rotary, mask_B11S: mx.array | None = None
) -> mx.array:
    """softmax(rope(q) rope(k)^T / sqrt(d)) v, heads concatenated: (B, S, D). `mask_B11S` is True for visible tokens."""
    q_BHSd, k_BHSd, v_BHSd = (x.transpose(0, 2, 1, 3) for x in (q_BSHd, k_BSHd, v_BSHd))
    q_BHSd, k_BHSd = rotate(q_BHSd, *rotary), rotate(k_BHSd, *rotary)
    out_BHSd = attention(q_BHSd, k_BHSd, v_BHSd, scale=q_BHSd.shape[-1] ** -0.5, mask_B11S=mask_B11S)
    batch, _, tokens, _ = out_BHSd.shape
    out_BSD = out_BHSd.transpose(0, 2, 1, 3).reshape(batch, tokens, -1)
    return contiguous_gradient(out_BSD)  # MLX's CUDA attention misreads other layouts


class Modulation(nn.Module):
    """Linear(silu(vec)) in `parts` vectors of width D each; `norm*.linear` in the checkpoint."""

    def __init__(self, width: int, parts: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(width, parts * width, bias)
        self._parts = parts

    def __call__(self, vec_BD: mx.array) -> list[mx.array]:
        """`vec_BD` is silu(vec), which is computed once for all blocks."""
        return self.linear(vec_BD).split(self._parts, axis=-1)


class MLPEmbedder(nn.Module):
    """Linear(silu(Linear(x))): the embedding of time, guidance or the pooled text."""

    def __init__(self, width_in: int, width: int, bias: bool = True) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width_in, width, bias)
        self.linear_2 = nn.Linear(width, width, bias)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear_2(silu(self.linear_1(x)))


class TimeTextEmbed(nn.Module):
    """vec = time(1000 sigma) + text(pooled) [+ guidance(1000 g), where the model was distilled with guidance]."""

    def __init__(self, width: int, pooled_width: int, guidance: bool) -> None:
        super().__init__()
        self.timestep_embedder = MLPEmbedder(256, width)
        if guidance:
            self.guidance_embedder = MLPEmbedder(256, width)
        self.text_embedder = MLPEmbedder(pooled_width, width)

    def __call__(self, sigma_B: mx.array, guidance_B: mx.array | None, pooled_BC: mx.array) -> mx.array:
        dtype = pooled_BC.dtype
        vec_BD = self.timestep_embedder(sinusoid(1000.0 * sigma_B.astype(mx.float32)).astype(dtype))
        if guidance_B is not None:
            vec_BD = vec_BD + self.guidance_embedder(sinusoid(1000.0 * guidance_B.astype(mx.float32)).astype(dtype))
        return vec_BD + self.text_embedder(pooled_BC)


class GELUProjection(nn.Module):
    """gelu(proj(x)): the first half of the MLP."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width_in, width_out)

    def __call__(self, x: mx.array) -> mx.array:
        return gelu_tanh(self.proj(x))


class FeedForward(nn.Module):
    """W_2 gelu(W_0 x), four times as wide inside; `net.1` is the checkpoint's dropout, without weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = [GELUProjection(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)]

    def __call__(self, x: mx.array) -> mx.array:
        for layer in self.net:
            x = layer(x)
        return x


class Attention(nn.Module):
    """Attention over [txt, img]. With `text` (double blocks) the text tokens have their own projections."""

    def __init__(self, width: int, heads: int, text: bool, bias: bool = True) -> None:
        super().__init__()
        self._heads = heads
        head_width = width // heads
        self.norm_q = RMSNorm(head_width, NORM_EPSILON)
        self.norm_k = RMSNorm(head_width, NORM_EPSILON)
        self.to_q = nn.Linear(width, width, bias)
        self.to_k = nn.Linear(width, width, bias)
        self.to_v = nn.Linear(width, width, bias)
        if text:
            self.to_out = [nn.Linear(width, width, bias)]
            self.norm_added_q = RMSNorm(head_width, NORM_EPSILON)
            self.norm_added_k = RMSNorm(head_width, NORM_EPSILON)
            self.add_q_proj = nn.Linear(width, width, bias)
            self.add_k_proj = nn.Linear(width, width, bias)
            self.add_v_proj = nn.Linear(width, width, bias)
            self.to_add_out = nn.Linear(width, width, bias)

    def joint(
        self, img_BLD: mx.array, txt_BND: mx.array, rotary: Rotary, mask_B11S: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """The updates (img, txt) of a double block, from its modulated tokens."""
        q_txt_BNHd = self.norm_added_q(self._split(self.add_q_proj(txt_BND)))
        q_img_BLHd = self.norm_q(self._split(self.to_q(img_BLD)))
        k_txt_BNHd = self.norm_added_k(self._split(self.add_k_proj(txt_BND)))
        k_img_BLHd = self.norm_k(self._split(self.to_k(img_BLD)))
        v_txt_BNHd, v_img_BLHd = self._split(self.add_v_proj(txt_BND)), self._split(self.to_v(img_BLD))
        q_BSHd = mx.concatenate([q_txt_BNHd, q_img_BLHd], axis=1)
        k_BSHd = mx.concatenate([k_txt_BNHd, k_img_BLHd], axis=1)
        v_BSHd = mx.concatenate([v_txt_BNHd, v_img_BLHd], axis=1)
        out_BSD = attend(q_BSHd, k_BSHd, v_BSHd, rotary, mask_B11S)
        txt_BND, img_BLD = mx.split(out_BSD, [txt_BND.shape[1]], axis=1)
        return self.to_out[0](img_BLD), self.to_add_out(txt_BND)

    def __call__(self, x_BSD: mx.array, rotary: Rotary, mask_B11S: mx.array | None = None) -> mx.array:
        """Attention without an output projection: a single block has one for attention and MLP together."""
        q_BSHd = self.norm_q(self._split(self.to_q(x_BSD)))
        k_BSHd = self.norm_k(self._split(self.to_k(x_BSD)))
        return attend(q_BSHd, k_BSHd, self._split(self.to_v(x_BSD)), rotary, mask_B11S)

    def _split(self, x_BSD: mx.array) -> mx.array:
        """x by head: (B, S, H, d)."""
        batch, tokens, _ = x_BSD.shape
        return x_BSD.reshape(batch, tokens, self._heads, -1)


Modulations = Sequence[mx.array]
"""shift, scale and gate (B, D); of a double block's stream for attention, then for the MLP."""


def double(
    block: nn.Module,
    img_BLD: mx.array,
    txt_BND: mx.array,
    of_img: Modulations,
    of_txt: Modulations,
    rotary: Rotary,
    mask_B11S: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """The next (img, txt) of a double block, which has `attn`, `ff` and `ff_context`."""
    shift_img, scale_img, gate_img, shift_img_mlp, scale_img_mlp, gate_img_mlp = of_img
    shift_txt, scale_txt, gate_txt, shift_txt_mlp, scale_txt_mlp, gate_txt_mlp = of_txt

    img_update_BLD, txt_update_BND = block.attn.joint(
        modulate(img_BLD, shift_img, scale_img), modulate(txt_BND, shift_txt, scale_txt), rotary, mask_B11S
    )

    img_BLD = img_BLD + gate_img[:, None] * img_update_BLD
    txt_BND = txt_BND + gate_txt[:, None] * txt_update_BND
    img_BLD = gated_mlp(block.ff, img_BLD, shift_img_mlp, scale_img_mlp, gate_img_mlp)
    txt_BND = gated_mlp(block.ff_context, txt_BND, shift_txt_mlp, scale_txt_mlp, gate_txt_mlp)
    return img_BLD, txt_BND


def single(
    block: nn.Module,
    img_BLD: mx.array,
    txt_BND: mx.array,
    of_x: Modulations,
    rotary: Rotary,
    mask_B11S: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """The next (img, txt) of a single block, with `attn`, `proj_mlp` and `proj_out`; here both are one sequence."""
    shift_BD, scale_BD, gate_BD = of_x
    x_BSD = mx.concatenate([txt_BND, img_BLD], axis=1)
    h_BSD = modulate(x_BSD, shift_BD, scale_BD)
    attention_and_mlp = mx.concatenate(
        [block.attn(h_BSD, rotary, mask_B11S), gelu_tanh(block.proj_mlp(h_BSD))], axis=-1
    )
    x_BSD = x_BSD + gate_BD[:, None] * block.proj_out(attention_and_mlp)
    txt_BND, img_BLD = mx.split(x_BSD, [txt_BND.shape[1]], axis=1)
    return img_BLD, txt_BND


class DoubleBlock(nn.Module):
    """`transformer_blocks.i`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = Modulation(width, 6)
        self.norm1_context = Modulation(width, 6)
        self.attn = Attention(width, heads, text=True)
        self.ff = FeedForward(width)
        self.ff_context = FeedForward(width)

    def __call__(
        self, img_BLD: mx.array, txt_BND: mx.array, vec_BD: mx.array, rotary: Rotary
    ) -> tuple[mx.array, mx.array]:
        """The next (img, txt)."""
        return double(self, img_BLD, txt_BND, self.norm1(vec_BD), self.norm1_context(vec_BD), rotary)


class SingleBlock(nn.Module):
    """`single_transformer_blocks.i`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = Modulation(width, 3)
        self.attn = Attention(width, heads, text=False)
        self.proj_mlp = nn.Linear(width, 4 * width)
        self.proj_out = nn.Linear(width + 4 * width, width)

    def __call__(
        self, img_BLD: mx.array, txt_BND: mx.array, vec_BD: mx.array, rotary: Rotary
    ) -> tuple[mx.array, mx.array]:
        """The next (img, txt)."""
        return single(self, img_BLD, txt_BND, self.norm(vec_BD), rotary)
