"""The interface of a model family to training, drawing and export.

    photo  --encode_photo-->  l_T (packed latents)             prompt  --encode_text-->  conditioning
    l_t, sigma, conditioning  --embed-->  stream  --blocks-->  stream  --project-->  velocity  (eps - l_T)
    l_T  --decode-->  picture

Shapes   B batch   H W pixels   L image tokens   C channels of one token   N text tokens
Sign     velocity is eps - l_T and sigma is 1 at pure noise, whatever convention the checkpoint was trained with
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn

from core.estimate.architecture import Architecture

Conditioning = dict[str, mx.array]
"""An encoded prompt: named arrays, batch axis first, so that they can be cached on disk and stacked."""
TARGET = "target"
"""In a conditioning, where the model is a flow map: float32 (B,), the sigma at which a drawing step ends."""


def stacked(conditionings: list[Conditioning]) -> Conditioning:
    """The arrays of several prompts as one batch; shorter texts are padded with zeros to the longest."""
    found = {}
    for name in conditionings[0]:
        arrays = [each[name] for each in conditionings]
        longest = max((array.shape[1] for array in arrays if array.ndim > 2), default=0)
        for index, array in enumerate(arrays):
            if array.ndim > 2 and array.shape[1] < longest:
                arrays[index] = mx.pad(array, [(0, 0), (0, longest - array.shape[1])] + [(0, 0)] * (array.ndim - 2))
        found[name] = mx.concatenate(arrays)
    return found


@dataclass(frozen=True, slots=True)
class Grid:
    """The tokens of one picture: `rows` x `columns`, each with `channels` numbers."""

    rows: int
    columns: int
    channels: int

    @property
    def tokens(self) -> int:
        return self.rows * self.columns


Stream = dict[str, mx.array]
"""The input and output of a block: named arrays, such as "img", "txt", "vec" and the rotary table "cos", "sin"."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of the network: its kind, its module, and how it changes the stream.

    A block whose values depend on an array that an earlier block changed must change that array too (its shape may be
    read without that): core/training/gradient.py differentiates a recomputed block with respect to the arrays that it
    changes, and to no others.
    """

    kind: str  # blocks of one kind are one computation with different weights
    path: str  # the module path in the checkpoint, e.g. "transformer_blocks.0"
    module: nn.Module
    run: Callable[[nn.Module, Stream], Stream]


class Family(Protocol):
    """A loaded model. Its parts are read from disk on first use; `free` releases their memory."""

    name: str  # of the family, as core/hub/families.py lists it
    dtype: mx.Dtype  # the transformer's compute dtype
    embeds_guidance: bool  # whether guidance is an input of the network, as in FLUX.1-dev
    flow_map: bool  # whether the end of a drawing step is an input of the network, as in distilled FLUX.3

    @property
    def transformer(self) -> nn.Module:
        """The network that adapters attach to; its module paths are those of the diffusers checkpoint."""
        ...

    @property
    def pixel_multiple(self) -> int:
        """Heights and widths of pictures are multiples of this, the side of a token."""
        ...

    def grid(self, height_px: int, width_px: int) -> Grid:
        """The latent grid of a picture of this size."""
        ...

    def encode_each(self, prompts: Sequence[str]) -> list[Conditioning]:
        """The conditioning of each prompt, with a batch axis of 1; evaluated, in the family's compute dtype.

        The text encoders are read from disk once for all prompts; each result is that of the prompt alone.
        """
        ...

    def encode_text(self, prompts: Sequence[str]) -> Conditioning:
        """The conditioning of the prompts as one batch."""
        ...

    def encode_photo(self, pixels_BHWC: mx.array) -> mx.array:
        """Clean latents l_T of photos: pixels in [-1, 1] to packed float32 (B, L, C); the mean, not a sample."""
        ...

    def decode(self, latents_BLC: mx.array, grid: Grid) -> mx.array:
        """Pictures of clean latents: float32 (B, H, W, 3) in [-1, 1]."""
        ...

    def embed(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> Stream:
        """The input of the first block."""
        ...

    @property
    def blocks(self) -> Sequence[Block]:
        """The blocks in order."""
        ...

    def project(self, stream: Stream) -> mx.array:
        """The velocity (B, L, C), from the output of the last block."""
        ...

    def velocity(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> mx.array:
        """T_theta(l_t, t): embed, every block in turn, project."""
        ...

    def drawing_sigmas(self, steps: int, grid: Grid) -> list[float]:
        """`steps + 1` sigmas from 1 to 0, spaced like those of the model's own scheduler."""
        ...

    def drawing_shift(self, grid: Grid) -> float:
        """The factor of `flow.shift` in the model's own drawing schedule, with its default number of steps."""
        ...

    def training_shift(self, grid: Grid) -> float:
        """The factor of `flow.shift` for the sigma draw "model_shift": that of the model's own training if known."""
        ...

    @property
    def architecture(self) -> Architecture:
        """Its blocks as the memory forecast sees them, and the layers that adapters can be attached to."""
        ...

    @property
    def presets(self) -> Mapping[str, Sequence[str]]:
        """Adapter targets by preset name, as full diffusers module paths; "all_linear" is always one of them."""
        ...

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The knobs of `core.config.train.TrainConfig` for which this model has a better default."""
        ...

    @property
    def unassisted(self) -> str:
        """What training costs this model, a distilled one without an assistant, in a sentence; empty for any other."""
        ...

    @property
    def assistant(self) -> Path | None:
        """The file of an adapter that is active while this model is trained and off while it draws; None for most."""
        ...

    @property
    def modelspec(self) -> Mapping[str, str]:
        """The "architecture" and "implementation" of this model in the headers of adapter files."""
        ...

    @property
    def hashes(self) -> Mapping[str, str]:
        """SHA-256 of the weight files, by part ("transformer", "vae", "text"), and of the assistant if there is one."""
        ...

    def free(self, *parts: str) -> None:
        """Drop parts ("text", "vae") from memory; they are read again on the next use."""
        ...
