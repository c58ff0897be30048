"""The VAE: pictures to latents and back. diffusers' AutoencoderKL and AutoencoderKLFlux2, their names and numbers.

    encode   pixels (B, H, W, 3) in [-1, 1]  ->  mean of the latent (B, H/8, W/8, Z)
    decode   latent (B, H/8, W/8, Z)         ->  pixels (B, H, W, 3)

FLUX.1's has attention in the middle and no quant convolutions, FLUX.2's has both, Pocket's neither. The config says so.

Shapes   B batch   H W pixels   L tokens   Z latent channels   C channels in between; MLX keeps channels last
Dtypes   those of the weights, float32 as `core/models/parts.py` reads them

Source: Rombach et al. 2022, arXiv:2112.10752; the autoencoders of FLUX.1 and FLUX.2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from core.device.backend import compile_step, evaluate, prepare
from core.device.working_set import STRIP_AT_MOST
from core.estimate.architecture import PATCH
from core.models.base import Grid
from core.models.patches import pack, unpack
from core.numerics.exponentials import silu

NORM_EPSILON = 1e-6


class GroupNorm(nn.Module):
    """(x - mean) / sqrt(var + epsilon) * weight + bias, over the pixels and the neighbouring channels of a group.

    MLX's own adds all pixels in one running sum, which loses digits over a large picture, and takes 5 times as long on
    a CPU.
    """

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self._groups = groups
        self.weight = mx.ones((channels,))
        self.bias = mx.zeros((channels,))

    def __call__(self, x_BHWC: mx.array) -> mx.array:
        return self.of(x_BHWC)(x_BHWC)

    def of(self, x_BHWC: mx.array) -> Callable[[mx.array], mx.array]:
        """The normalization by the statistics of x, for x or any rows of it."""
        mean = self._mean([x_BHWC])
        squares = (_squares()(x_BHWC[:, top:bottom], mean) for top, bottom in strips(x_BHWC))
        scale = mx.rsqrt(self._mean(squares) + NORM_EPSILON) * self.weight
        return lambda rows_BHWC: _scaled()(rows_BHWC, mean, scale, self.bias)

    def _mean(self, parts_BHWC: Iterable[mx.array]) -> mx.array:
        """The group's mean at each channel: (B, 1, 1, C); over columns, rows and channels in turn, in short sums."""
        rows: list[mx.array] = []
        for part in parts_BHWC:
            rows.append(part.mean(axis=2))
            evaluate(rows[-1])
        row_BHC = mx.concatenate(rows, axis=1)
        batch, _, channels = row_BHC.shape
        group_BG = row_BHC.mean(axis=1).reshape(batch, self._groups, -1).mean(axis=2)
        return mx.repeat(group_BG, channels // self._groups, axis=1)[:, None, None]


@functools.cache
def _squares() -> Callable[[mx.array, mx.array], mx.array]:
    return compile_step(lambda x_BHWC, mean: (x_BHWC - mean).square())


@functools.cache
def _scaled() -> Callable[[mx.array, mx.array, mx.array, mx.array], mx.array]:
    return compile_step(lambda x_BHWC, mean, scale, bias: (x_BHWC - mean) * scale + bias)


def strips(x_BHWC: mx.array) -> list[tuple[int, int]]:
    """First row and row after the last of each strip of x: as few as keep one under STRIP_AT_MOST bytes."""
    height = x_BHWC.shape[1]
    count = min(height, -(-x_BHWC.nbytes // STRIP_AT_MOST))
    edges = [height * number // count for number in range(count + 1)]
    return list(pairwise(edges))


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution that keeps height and width."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(width_in, width_out, 3, padding=1)

    def __call__(self, x_BHWC: mx.array, before: Callable[[mx.array], mx.array] = lambda rows: rows) -> mx.array:
        """The convolution of before(x), a function of each pixel; computed and evaluated strip by strip."""
        height, parts = x_BHWC.shape[1], []
        for top, bottom in strips(x_BHWC):
            above, below = int(top > 0), int(bottom < height)  # rows of the neighbours that a strip sees
            seen = before(x_BHWC[:, top - above : bottom + below])
            parts.append(self._rows(seen, (1 - above, 1 - below)))
            evaluate(parts[-1])
        return mx.concatenate(parts, axis=1)

    def _rows(self, x_BHWC: mx.array, zeros: tuple[int, int]) -> mx.array:
        """The convolution with `zeros` rows of padding above and below, and one column on either side.

        On a CPU it is three matrix products, one for each row of the kernel, in half the time of MLX's convolution.
        """
        if prepare().device != "cpu" or x_BHWC.dtype != mx.float32:
            return mx.conv_general(x_BHWC, self.weight, padding=([zeros[0], 1], [zeros[1], 1])) + self.bias
        padded = mx.pad(x_BHWC, [(0, 0), zeros, (1, 1), (0, 0)])
        width = x_BHWC.shape[2]
        triples = mx.concatenate([padded[:, :, i : i + width] for i in range(3)], axis=-1)
        kernel = self.weight.transpose(1, 2, 3, 0).reshape(3, 3 * x_BHWC.shape[3], -1)
        batch, height = triples.shape[0], triples.shape[1] - 2
        out = self.bias
        for row in range(3):
            seen = triples[:, row : row + height].reshape(batch * height * width, -1)
            out = seen @ kernel[row] + out
        return out.reshape(batch, height, width, -1)


class ResnetBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1 convolution on x where the width changes."""

    def __init__(self, width_in: int, width_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, width_in)
        self.conv1 = Conv3x3(width_in, width_out)
        self.norm2 = GroupNorm(groups, width_out)
        self.conv2 = Conv3x3(width_out, width_out)
        if width_in != width_out:
            self.conv_shortcut = nn.Conv2d(width_in, width_out, 1)

    def __call__(self, x_BHWC: mx.array) -> mx.array:
        h = after_norm(self.norm1, self.conv1, x_BHWC)
        h = after_norm(self.norm2, self.conv2, h)
        return h + (self.conv_shortcut(x_BHWC) if "conv_shortcut" in self else x_BHWC)


def after_norm(norm: GroupNorm, conv: Conv3x3, x_BHWC: mx.array) -> mx.array:
    """conv(silu(norm(x)))."""
    normed = norm.of(x_BHWC)
    return conv(x_BHWC, lambda rows: silu(normed(rows)))


class MidAttention(nn.Module):
    """Attention of one head between all pixels of the smallest map."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = GroupNorm(groups, width)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = [nn.Linear(width, width)]

    def __call__(self, x_BHWC: mx.array) -> mx.array:
        batch, height, width, channels = x_BHWC.shape
        h = self.group_norm(x_BHWC).reshape(batch, 1, height * width, channels)
        h = mx.fast.scaled_dot_product_attention(self.to_q(h), self.to_k(h), self.to_v(h), scale=channels**-0.5)
        return x_BHWC + self.to_out[0](h).reshape(x_BHWC.shape)


class MidBlock(nn.Module):
    """Two resnet blocks, with attention between them where the config asks for it."""

    def __init__(self, width: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.resnets = [ResnetBlock(width, width, groups), ResnetBlock(width, width, groups)]
        if attention:
            self.attentions = [MidAttention(width, groups)]

    def __call__(self, x_BHWC: mx.array) -> mx.array:
        x = self.resnets[0](x_BHWC)
        if "attentions" in self:
            x = self.attentions[0](x)
        return self.resnets[1](x)


class Halve(nn.Module):
    """A 3x3 convolution with stride 2; one row and column of zeros at the far edges, as the reference pads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def __call__(self, x_BHWC: mx.array) -> mx.array:
        return self.conv(mx.pad(x_BHWC, [(0, 0), (0, 1), (0, 1), (0, 0)]))


class Double(nn.Module):
    """Every pixel four times, then a 3x3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Conv3x3(width, width)

    def __call__(self, x_BHWC: mx.array) -> mx.array:
        return self.conv(mx.repeat(mx.repeat(x_BHWC, 2, axis=1), 2, axis=2))


class Stage(nn.Module):
    """The resnet blocks of one resolution, and the change to the next: "down", "up", or None at the end."""

    def __init__(self, width_in: int, width_out: int, layers: int, groups: int, change: str | None) -> None:
        super().__init__()
        self.resnets = [ResnetBlock(width_in if i == 0 else width_out, width_out, groups) for i in range(layers)]
        if change == "down":
            self.downsamplers = [Halve(width_out)]
        elif change == "up":
            self.upsamplers = [Double(width_out)]

    def __call__(self, x_BHWC: mx.array) -> mx.array:
        for resnet in self.resnets:
            x_BHWC = resnet(x_BHWC)
        for change in self.get("downsamplers", []) + self.get("upsamplers", []):
            x_BHWC = change(x_BHWC)
        return x_BHWC


class Encoder(nn.Module):
    """Pixels to the latent's mean and log-variance, side by side in the channels."""

    def __init__(self, widths: list[int], layers: int, groups: int, channels: int, latent: int, mid: bool) -> None:
        super().__init__()
        last = len(widths) - 1
        self.conv_in = Conv3x3(channels, widths[0])
        self.down_blocks = [
            Stage(widths[max(i - 1, 0)], width, layers, groups, "down" if i < last else None)
            for i, width in enumerate(widths)
        ]
        self.mid_block = MidBlock(widths[-1], groups, mid)
        self.conv_norm_out = GroupNorm(groups, widths[-1])
        self.conv_out = Conv3x3(widths[-1], 2 * latent)

    def __call__(self, x_BHWC: mx.array) -> mx.array:
        x = self.conv_in(x_BHWC)
        for stage in self.down_blocks:
            x = stage(x)
        return after_norm(self.conv_norm_out, self.conv_out, self.mid_block(x))


class Decoder(nn.Module):
    """Latents to pixels; one resnet block more in each stage than the encoder has."""

    def __init__(self, widths: list[int], layers: int, groups: int, channels: int, latent: int, mid: bool) -> None:
        super().__init__()
        last = len(widths) - 1
        down_to_up = widths[::-1]
        self.conv_in = Conv3x3(latent, down_to_up[0])
        self.mid_block = MidBlock(down_to_up[0], groups, mid)
        self.up_blocks = [
            Stage(down_to_up[max(i - 1, 0)], width, layers + 1, groups, "up" if i < last else None)
            for i, width in enumerate(down_to_up)
        ]
        self.conv_norm_out = GroupNorm(groups, down_to_up[-1])
        self.conv_out = Conv3x3(down_to_up[-1], channels)

    def __call__(self, z_BHWC: mx.array) -> mx.array:
        x = self.mid_block(self.conv_in(z_BHWC))
        for stage in self.up_blocks:
            x = stage(x)
        return after_norm(self.conv_norm_out, self.conv_out, x)


class AutoencoderKL(nn.Module):
    """The whole VAE of a `vae/config.json`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        latent = int(config["latent_channels"])
        widths = list(config["block_out_channels"])
        decoder_widths = list(config.get("decoder_block_out_channels") or widths)
        shape = (
            int(config["layers_per_block"]),
            int(config["norm_num_groups"]),
            int(config["in_channels"]),
            latent,
            bool(config.get("mid_block_add_attention", True)),
        )
        self.encoder = Encoder(widths, *shape)
        self.decoder = Decoder(decoder_widths, *shape)
        if config.get("use_quant_conv", True):
            self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        if config.get("use_post_quant_conv", True):
            self.post_quant_conv = nn.Conv2d(latent, latent, 1)

    def encode(self, pixels_BHWC: mx.array) -> mx.array:
        """The mean of the latent distribution: (B, H/8, W/8, Z)."""
        h = self.encoder(pixels_BHWC)
        if "quant_conv" in self:
            h = self.quant_conv(h)
        return mx.split(h, 2, axis=-1)[0]

    def decode(self, z_BHWC: mx.array) -> mx.array:
        """Pixels of a latent; values may reach a little outside [-1, 1]."""
        if "post_quant_conv" in self:
            z_BHWC = self.post_quant_conv(z_BHWC)
        return self.decoder(z_BHWC)


class Statistics(nn.Module):
    """Mean and variance of every channel of a token: the running statistics of a batch normalization."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.running_mean = mx.zeros((channels,))
        self.running_var = mx.ones((channels,))


class AutoencoderKLFlux2(AutoencoderKL):
    """FLUX.2's VAE: its tokens are normalized to mean 0 and variance 1, channel by channel.

    l = (pack(mean) - running_mean) / sqrt(running_var + epsilon)
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self._epsilon = float(config.get("batch_norm_eps", 1e-4))
        self.bn = Statistics(PATCH**2 * int(config["latent_channels"]))

    def checkpoint_name(self, name: str) -> str | None:
        """Our name of a checkpoint's tensor; the number of batches behind the statistics is never used."""
        return None if name == "bn.num_batches_tracked" else name

    def encode_tokens(self, pixels_BHWC: mx.array) -> mx.array:
        """Pictures to tokens (B, L, 4 Z)."""
        return (pack(self.encode(pixels_BHWC)) - self.bn.running_mean) / self._deviation

    def decode_tokens(self, l_BLC: mx.array, grid: Grid) -> mx.array:
        """Tokens to pictures; the inverse of `encode_tokens`, as far as the VAE is one."""
        return self.decode(unpack(l_BLC * self._deviation + self.bn.running_mean, grid))

    @property
    def _deviation(self) -> mx.array:
        return mx.sqrt(self.bn.running_var + self._epsilon)
