"""What training, drawing and export ask of a model family. They know nothing more about it.

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
"""What a prompt becomes: named arrays, batch axis first, so that they can be cached on disk and stacked."""


def stacked(conditionings: list[Conditioning]) -> Conditioning:
    """Several prompts' arrays as one batch; where texts differ in length, zeros make them as long as the longest."""
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
    """The tokens of one picture: `rows` x `columns` of them, each `channels` wide."""

    rows: int
    columns: int
    channels: int

    @property
    def tokens(self) -> int:
        return self.rows * self.columns


Stream = dict[str, mx.array]
"""What flows from block to block: named arrays, such as "img", "txt", "vec", and the rotary table "pe"."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of the network: its kind, where its weights live, and how it moves the stream on."""

    kind: str  # blocks of one kind share one computation, with other weights
    path: str  # the module path in the checkpoint, e.g. "transformer_blocks.0"
    module: nn.Module
    run: Callable[[nn.Module, Stream], Stream]


class Family(Protocol):
    """A loaded model. Its parts are read from disk when first used; `free` gives their memory back."""

    name: str  # "flux1", "flux2", "z_image"
    dtype: mx.Dtype  # what the transformer computes in
    embeds_guidance: bool  # whether guidance is an input of the network, as in FLUX.1-dev
    transformer: nn.Module  # module paths are those of the diffusers checkpoint; adapters attach here
    pixel_multiple: int  # heights and widths of pictures are multiples of this, the side of a token

    def grid(self, height_px: int, width_px: int) -> Grid:
        """The latent grid of a picture of this size."""
        ...

    def encode_each(self, prompts: Sequence[str]) -> list[Conditioning]:
        """What the network is told about each prompt, batch axis 1; evaluated, in the family's compute dtype.

        The text encoders are read from the disk once for all of them, and each becomes what it would become alone.
        """
        ...

    def encode_text(self, prompts: Sequence[str]) -> Conditioning:
        """The same as one batch."""
        ...

    def encode_photo(self, pixels_BHWC: mx.array) -> mx.array:
        """Clean latents l_T of photos: pixels in [-1, 1] to packed float32 (B, L, C); the mean, not a draw."""
        ...

    def decode(self, latents_BLC: mx.array, grid: Grid) -> mx.array:
        """Pictures of clean latents: float32 (B, H, W, 3) in [-1, 1]."""
        ...

    def embed(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> Stream:
        """The stream that enters the first block."""
        ...

    @property
    def blocks(self) -> Sequence[Block]:
        """The blocks in order."""
        ...

    def project(self, stream: Stream) -> mx.array:
        """The velocity (B, L, C) from the stream that leaves the last block."""
        ...

    def velocity(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> mx.array:
        """T_theta(l_t, t): embed, every block in turn, project."""
        ...

    def drawing_sigmas(self, steps: int, grid: Grid) -> list[float]:
        """`steps + 1` sigmas from 1 to 0, spaced as the model's own scheduler spaces them."""
        ...

    def training_shift(self, grid: Grid) -> float:
        """The factor for `flow.shift` when sigmas are drawn as "model_shift"."""
        ...

    @property
    def architecture(self) -> Architecture:
        """Its blocks as memory sees them."""
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
    def distilled(self) -> bool:
        """Whether it was distilled to draw in few steps, and so loses something when it is trained."""
        ...

    @property
    def assistant(self) -> Path | None:
        """The file of an adapter that is on while this model is trained, and off while it draws; None for most."""
        ...

    @property
    def modelspec(self) -> Mapping[str, str]:
        """How the headers of adapter files name this model: its "architecture" and "implementation"."""
        ...

    @property
    def hashes(self) -> Mapping[str, str]:
        """SHA-256 of the weight files, by part ("transformer", "vae", "text"), and of the assistant if there is one."""
        ...

    def free(self, *parts: str) -> None:
        """Drop parts ("text", "vae") from memory; they are read again when next used."""
        ...
