"""Latents to tokens and back, as FLUX.1 and FLUX.2 order them: a token is a patch of 2 x 2 latent pixels.

    pack     latent (B, H/8, W/8, Z)  ->  tokens (B, L, 4 Z)
    unpack   the inverse

Shapes   B batch   H W pixels   Z latent channels   L tokens   C = 4 Z channels of a token
"""

from __future__ import annotations

import mlx.core as mx

from core.estimate.architecture import PATCH
from core.models.base import Grid


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
