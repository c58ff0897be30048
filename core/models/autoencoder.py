"""The VAE: pictures to latents and back. diffusers' AutoencoderKL and AutoencoderKLFlux2, their names and numbers.

    encode   pixels (B, H, W, 3) in [-1, 1]  ->  mean of the latent (B, H/8, W/8, Z)
    decode   latent (B, H/8, W/8, Z)         ->  pixels (B, H, W, 3)

FLUX.1's has attention in the middle and no quant convolutions, FLUX.2's has both, Pocket's neither. The config says so.

Encoder and decoder are each two functions: `fine` at the resolutions above the latent's, where large pictures take
gigabytes, and `coarse` at the latent's, where attention joins all pixels. Where the whole picture does not fit into
memory, `fine` is computed tile by tile (core/models/vae_tiles.py); core/estimate/vae.py decides by the numbers that
the forecast uses.

Shapes   B batch   H W pixels   L tokens   Z latent channels   C channels in between; MLX keeps channels last
Dtypes   those of the weights, float32 as `core/models/parts.py` reads them

Source: Rombach et al. 2022, arXiv:2112.10752; the autoencoders of FLUX.1 and FLUX.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from core.device.backend import prepare
from core.device.hardware import array_bytes
from core.estimate import vae as forecast
from core.estimate.architecture import PATCH
from core.models.base import Grid
from core.models.patches import pack, unpack
from core.models.vae_layers import Conv3x3, GroupNorm, MidBlock, Stage, after_norm
from core.models.vae_tiles import Segment, in_tiles
from core.numerics.layers import Conv2d


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

    def fine(self, x_BHWC: mx.array) -> mx.array:
        """Pixels to the map at the latent's resolution."""
        for segment in self.segments:
            x_BHWC = segment.function(x_BHWC)
        return x_BHWC

    @property
    def segments(self) -> list[Segment]:
        """`fine` by resolution."""
        found = []
        for level, stage in enumerate(self.down_blocks[:-1]):
            function = self._first if level == 0 else stage
            reach = int(level == 0) + 2 * len(stage.resnets) + 2  # of 3x3 convolutions, the last with stride 2
            found.append(Segment(function, False, reach, stage.width))
        return found

    def _first(self, x_BHWC: mx.array) -> mx.array:
        x_BHWC = self.conv_in(x_BHWC)
        return self.down_blocks[0](x_BHWC)

    def coarse(self, x_BHWC: mx.array) -> mx.array:
        """That map to the latent's mean and log-variance."""
        x = self.down_blocks[-1](x_BHWC)
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

    def coarse(self, z_BHWC: mx.array) -> mx.array:
        """Latents to the map that the first doubling takes."""
        return self.up_blocks[0].resnet(self.mid_block(self.conv_in(z_BHWC)))

    def fine(self, x_BHWC: mx.array) -> mx.array:
        """That map to pixels."""
        if len(self.up_blocks) == 1:
            return self._last(x_BHWC)
        for segment in self.segments:
            x_BHWC = segment.function(x_BHWC)
        return x_BHWC

    @property
    def segments(self) -> list[Segment]:
        """`fine` by resolution."""
        found = []
        for level, (lower, stage) in enumerate(pairwise(self.up_blocks), start=1):
            last = level == len(self.up_blocks) - 1

            def function(x_BHWC: mx.array, lower: Stage = lower, stage: Stage = stage, last: bool = last) -> mx.array:
                x_BHWC = stage.resnet(lower.change(x_BHWC))
                return self._last(x_BHWC) if last else x_BHWC

            reach = 1 + 2 * len(stage.resnets) + int(last)  # of 3x3 convolutions
            found.append(Segment(function, True, reach, max(lower.width, stage.width)))
        return found

    def _last(self, x_BHWC: mx.array) -> mx.array:
        return after_norm(self.conv_norm_out, self.conv_out, x_BHWC)


class AutoencoderKL(nn.Module):
    """The whole VAE of a `vae/config.json`.

    `tiles`: None computes the picture whole where that fits into memory; True and False decide.
    """

    tiles: bool | None = None

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
        self._unit = 2 ** (len(widths) - 1)  # pixels of a latent pixel's side
        self._channels = forecast.Channels.of(widths, decoder_widths)
        self.encoder = Encoder(widths, *shape)
        self.decoder = Decoder(decoder_widths, *shape)
        if config.get("use_quant_conv", True):
            self.quant_conv = Conv2d(2 * latent, 2 * latent, 1)
        if config.get("use_post_quant_conv", True):
            self.post_quant_conv = Conv2d(latent, latent, 1)

    def encode(self, pixels_BHWC: mx.array) -> mx.array:
        """The mean of the latent distribution: (B, H/8, W/8, Z)."""
        encoder, (height, width) = self.encoder, pixels_BHWC.shape[1:3]
        if self._takes_tiles("encode", height, width):
            h = encoder.coarse(in_tiles(encoder.segments, pixels_BHWC))
        else:
            h = encoder.coarse(encoder.fine(pixels_BHWC))
        if "quant_conv" in self:
            h = self.quant_conv(h)
        return mx.split(h, 2, axis=-1)[0]

    def decode(self, z_BHWC: mx.array) -> mx.array:
        """Pixels of a latent; values may reach a little outside [-1, 1]."""
        if "post_quant_conv" in self:
            z_BHWC = self.post_quant_conv(z_BHWC)
        decoder, unit = self.decoder, self._unit
        x = decoder.coarse(z_BHWC)
        if self._takes_tiles("decode", z_BHWC.shape[1] * unit, z_BHWC.shape[2] * unit):
            return in_tiles(decoder.segments, x)
        return decoder.fine(x)

    def _takes_tiles(self, direction: forecast.Direction, height_px: int, width_px: int) -> bool:
        if self.tiles is not None or self._unit == 1:
            return bool(self.tiles) and self._unit > 1
        room = array_bytes() - mx.get_active_memory()
        whole = forecast.whole(direction, prepare().device, self._channels, height_px * width_px)
        return whole > room


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
