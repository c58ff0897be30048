"""The layers of the VAE (core/models/autoencoder.py); the large ones compute one strip of rows at a time.

A picture can also be computed tile by tile (core/models/vae_tiles.py): group normalization then takes its statistics
from `core.models.moments`, since those of a tile are not those of the picture.

Shapes   B batch   H W pixels   C channels; MLX keeps channels last
Dtypes   those of the weights, float32
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from itertools import pairwise

import mlx.core as mx
import mlx.nn as nn

from core.device.backend import compile_step, evaluate, prepare
from core.device.capabilities import uses
from core.device.working_set import CHUNK_ON_CPU, SCORES_AT_MOST, STRIP_AT_MOST
from core.models import moments
from core.numerics.attention import attention
from core.numerics.exponentials import silu
from core.numerics.layers import Conv2d, conv2d

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
        """The normalization by the statistics of x, or of the picture that x is a tile of, for x or any rows of it."""
        mean, variance = moments.used(self, x_BHWC, self._statistics)
        scale = mx.rsqrt(variance + NORM_EPSILON) * self.weight
        return lambda rows_BHWC: _scaled()(rows_BHWC, mean, scale, self.bias)

    def _statistics(self, x_BHWC: mx.array) -> tuple[mx.array, mx.array]:
        """The group's mean and variance at each channel: (B, 1, 1, C)."""
        mean = self._mean([x_BHWC])
        return mean, self._mean(_squares()(x_BHWC[:, top:bottom], mean) for top, bottom in strips(x_BHWC))

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
        if prepare().device != "cpu" or x_BHWC.dtype != mx.float32 or not uses("convolution"):
            return conv2d(x_BHWC, self.weight, padding=(zeros, (1, 1))) + self.bias
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
            self.conv_shortcut = Conv2d(width_in, width_out, 1)

    def __call__(self, x_BHWC: mx.array) -> mx.array:
        h = after_norm(self.norm1, self.conv1, x_BHWC)
        h = after_norm(self.norm2, self.conv2, h)
        return h + (self.conv_shortcut(x_BHWC) if "conv_shortcut" in self else x_BHWC)


def after_norm(norm: GroupNorm, conv: Conv3x3, x_BHWC: mx.array) -> mx.array:
    """conv(silu(norm(x)))."""
    normed = norm.of(x_BHWC)
    return conv(x_BHWC, lambda rows: silu(normed(rows)))


class MidAttention(nn.Module):
    """Attention of one head between all pixels of the smallest map: 4,096 at 512 px, 65,536 at 2,048 px.

    All scores would be 1.1 GB at 1,024 px and 17 GB at 2,048 px, so a few queries are taken at a time.
    """

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = GroupNorm(groups, width)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = [nn.Linear(width, width)]

    def __call__(self, x_BHWC: mx.array) -> mx.array:
        batch, height, width, channels = x_BHWC.shape
        pixels = height * width
        h = self.group_norm(x_BHWC).reshape(batch, 1, pixels, channels)
        k, v = self.to_k(h), self.to_v(h)
        evaluate(k, v)
        at_most = CHUNK_ON_CPU if prepare().device == "cpu" else SCORES_AT_MOST
        count = min(pixels, -(-batch * pixels * pixels * h.dtype.size // at_most))
        parts = []
        for start, end in pairwise(pixels * number // count for number in range(count + 1)):
            out = attention(self.to_q(h[:, :, start:end]), k, v, channels**-0.5)
            parts.append(self.to_out[0](out))
            evaluate(parts[-1])
        del h, k, v
        return x_BHWC + mx.concatenate(parts, axis=2).reshape(x_BHWC.shape)


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
        self.conv = Conv2d(width, width, 3, stride=2)

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
        self.width = max(width_in, width_out)
        self.resnets = [ResnetBlock(width_in if i == 0 else width_out, width_out, groups) for i in range(layers)]
        if change == "down":
            self.downsamplers = [Halve(width_out)]
        elif change == "up":
            self.upsamplers = [Double(width_out)]

    def __call__(self, x_BHWC: mx.array) -> mx.array:
        return self.change(self.resnet(x_BHWC))

    def resnet(self, x_BHWC: mx.array) -> mx.array:
        """The blocks alone."""
        for resnet in self.resnets:
            x_BHWC = resnet(x_BHWC)
        return x_BHWC

    def change(self, x_BHWC: mx.array) -> mx.array:
        """The change to the next resolution alone."""
        for change in self.get("downsamplers", []) + self.get("upsamplers", []):
            x_BHWC = change(x_BHWC)
        return x_BHWC
