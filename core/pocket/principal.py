"""Where the autoencoder starts: an encoder whose latents are the principal components of 8 x 8 pixel patches.

Training an encoder from noise takes most of the time of training an autoencoder. Its best linear form is known in
closed form, and a convolutional encoder of this architecture can represent it exactly, with zero residual branches:

    conv_in, three 2 x 2 gatherings (the strided convolutions)        3 -> 12 -> 32 of 48 -> 16 components a patch
    group norm   a constant +-K in each group makes its divisor constant     (x, -x, K, -K, K, ...) -> about x / K
    SiLU         silu(y) - silu(-y) = y, exactly                             conv_out subtracts the two

so z_k = s_k (v_k . patch - mean). The scale s_k = deviation_k ** -1/2 lifts the fine components half of the way to the
coarse ones. The decoder keeps its random start but for its last norm, which gets the same constants, and learns to
invert z; the encoder's residual branches can be trained on from here.

Shapes   P patches   192 = 8 x 8 x 3 values   D components
"""

from __future__ import annotations

import math

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn

ENCODER_K, DECODER_K = 60.0, 4.0
LOG_VARIANCE = -6.0


def components(patches: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean (D,), directions (count, D), deviations (count,)) of patches (P, D), largest first."""
    mean = patches.mean(0)
    values, vectors = np.linalg.eigh(np.cov((patches - mean).T))
    order = np.argsort(values)[::-1][:count]
    return mean, vectors.T[order], np.sqrt(values[order])


def cut(pictures: np.ndarray, size: int) -> np.ndarray:
    """Pictures (B, H, W, 3) as patches (P, size * size * 3), in the order row, column, channel."""
    b, h, w, _ = pictures.shape
    split = pictures.reshape(b, h // size, size, w // size, size, 3).transpose(0, 1, 3, 2, 4, 5)
    return split.reshape(-1, size * size * 3)


@torch.no_grad()
def set_principal_encoder(vae: AutoencoderKL, pictures: np.ndarray) -> None:
    """Write the components of `pictures` (B, H, W, 3 in [-1, 1]) into the encoder."""
    encoder = vae.encoder
    for module in [*encoder.down_blocks, encoder.mid_block]:
        for resnet in module.resnets:
            nn.init.zeros_(resnet.conv2.weight)
            nn.init.zeros_(resnet.conv2.bias)
            if resnet.conv_shortcut is not None:
                _pass_on(resnet.conv_shortcut)
    _, small, _ = components(cut(pictures, 4), encoder.down_blocks[1].resnets[-1].conv2.out_channels)
    mean, large, deviation = components(cut(pictures, 8), 16)
    scaled = large / np.sqrt(deviation)[:, None]

    _pass_on(encoder.conv_in)
    _gather(encoder.down_blocks[0].downsamplers[0].conv, np.eye(12, dtype=np.float32), 3)
    _gather(encoder.down_blocks[1].downsamplers[0].conv, _in_cells(small, 4), 12)
    # v_k in the basis of the four 4 x 4 quarters, each of which is known by its `small` components.
    quarters = large.reshape(16, 2, 4, 2, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(16, 4, 48) @ small.T
    quarters = quarters / np.sqrt(deviation)[:, None, None]
    _gather(encoder.down_blocks[2].downsamplers[0].conv, quarters.reshape(16, -1), len(small), -scaled @ mean)

    last, norm = encoder.down_blocks[3].resnets[0], encoder.conv_norm_out
    channels, groups = norm.num_channels, norm.num_groups
    width, each = channels // groups, 16 // groups
    nn.init.zeros_(last.conv_shortcut.weight)
    nn.init.zeros_(encoder.conv_out.weight)
    spread = ENCODER_K * math.sqrt((width - 2 * each) / width)
    for k in range(16):
        plus = (k // each) * width + 2 * (k % each)
        last.conv_shortcut.weight[plus, k, 0, 0], last.conv_shortcut.weight[plus + 1, k, 0, 0] = 1.0, -1.0
        encoder.conv_out.weight[k, plus, 1, 1], encoder.conv_out.weight[k, plus + 1, 1, 1] = 1.0, -1.0
    for channel in range(channels):
        rest = channel % width - 2 * each
        last.conv_shortcut.bias[channel] = 0.0 if rest < 0 else ENCODER_K * (-1) ** rest
    norm.weight.fill_(spread)
    norm.bias.zero_()
    encoder.conv_out.bias.zero_()
    encoder.conv_out.bias[16:] = LOG_VARIANCE


@torch.no_grad()
def set_linear_decoder_end(vae: AutoencoderKL) -> None:
    """Give the decoder's last norm constants to divide by, and an output that is linear in three of its channels."""
    decoder = vae.decoder
    for module in [*decoder.up_blocks, decoder.mid_block]:
        for resnet in module.resnets:
            resnet.conv2.weight.mul_(0.1)
            nn.init.zeros_(resnet.conv2.bias)
    norm, last = decoder.conv_norm_out, decoder.up_blocks[-1].resnets[0].conv_shortcut
    width = norm.num_channels // norm.num_groups  # 4: x, -x, K, -K
    nn.init.zeros_(decoder.conv_out.weight)
    for group in range(norm.num_groups):
        at = group * width
        last.weight[at + 1] = -last.weight[at]
        last.weight[at + 2 :][: width - 2] = 0
        last.bias[at : at + 2] = 0
        last.bias[at + 2 : at + 4] = torch.tensor([DECODER_K, -DECODER_K])
        if group < 3:
            decoder.conv_out.weight[group, at, 1, 1], decoder.conv_out.weight[group, at + 1, 1, 1] = 1.0, -1.0
    norm.weight.fill_(DECODER_K / math.sqrt(2))
    norm.bias.zero_()
    decoder.conv_out.bias.zero_()


def _in_cells(directions: np.ndarray, size: int) -> np.ndarray:
    """Reorder (row, column, channel) of a patch to (2 x 2 cell, then row, column, channel in the cell)."""
    half = size // 2
    split = directions.reshape(len(directions), 2, half, 2, half, 3).transpose(0, 1, 3, 2, 4, 5)
    return split.reshape(len(directions), -1)


def _gather(conv: nn.Conv2d, matrix: np.ndarray, inputs: int, bias: np.ndarray | None = None) -> None:
    """Make a stride-2 convolution apply `matrix` (outputs, 4 * inputs) to each 2 x 2 cell, in reading order."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    taps = torch.from_numpy(np.ascontiguousarray(matrix, np.float32)).view(len(matrix), 2, 2, inputs)
    conv.weight[: len(matrix), :inputs, :2, :2] = taps.permute(0, 3, 1, 2)
    if bias is not None:
        conv.bias[: len(bias)] = torch.from_numpy(np.float32(bias))


def _pass_on(conv: nn.Conv2d) -> None:
    """Make a convolution hand its first channels on unchanged."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    middle = conv.kernel_size[0] // 2
    for channel in range(min(conv.in_channels, conv.out_channels)):
        conv.weight[channel, channel, middle, middle] = 1.0
