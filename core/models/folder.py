"""The base of every family in a diffusers folder: all that does not depend on its network.

    parts      {name: Part}       the folder's modules: transformer, VAE, text encoders
    stacks     {path: Stack}      the network's lists of blocks, in order

A family defines these tables and how it encodes text and photos. The layers that adapters can be attached to are in
core/adapters/layers.py. Sigmas are spaced as the folder's scheduler spaces them: with a shift that is the same for
every picture, or grows with its size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from core import flow
from core.adapters.adapted import find
from core.errors import ModelProblem
from core.estimate.architecture import PATCH, Architecture
from core.files import sha256_of
from core.hub.catalog import assistant_of, defaults_of, unassisted
from core.models.base import Block, Conditioning, Grid, Stream, stacked
from core.models.parts import Part, Parts
from core.models.text.tokenizers import TextTokenizer
from core.safetensors_file import read_json, weights_sha256_of_all


class Stack(NamedTuple):
    """A list of blocks: their kind, and how a block changes the stream."""

    kind: str
    run: Callable[[nn.Module, Stream], Stream]


class FolderFamily(ABC):
    """The part of `core.models.base.Family` that follows from the tables."""

    name: str
    parts: ClassVar[dict[str, Part]]
    text_parts: ClassVar[tuple[str, ...]]  # the names of the text encoders in `parts`
    stacks: ClassVar[dict[str, Stack]]
    default_shift = 1.0  # of the drawing schedule, where the folder has no scheduler or its scheduler names none

    def __init__(self, parts: Parts, dtype: mx.Dtype) -> None:
        self.dtype = dtype
        self._parts = parts
        self._config = parts.config("transformer")
        self._vae_config = parts.config("vae")
        scheduler = parts.folder / "scheduler" / "scheduler_config.json"
        self._scheduler = read_json(scheduler) if scheduler.is_file() else {}
        self.embeds_guidance = bool(self._config.get("guidance_embeds", False))
        self.flow_map = bool(self._config.get("flow_map", False))

    @property
    def transformer(self) -> nn.Module:
        """The network, read on first use."""
        return self._parts["transformer"]

    @property
    def loaded(self) -> Set[str]:
        """The names of the parts in memory."""
        return self._parts.loaded

    @property
    def pixel_multiple(self) -> int:
        """Heights and widths of pictures are multiples of this."""
        return self.architecture.pixel_multiple

    def grid(self, height_px: int, width_px: int) -> Grid:
        """The latent grid of a picture of this size; sizes must be multiples of `pixel_multiple`."""
        if height_px % self.pixel_multiple or width_px % self.pixel_multiple or min(height_px, width_px) <= 0:
            raise ModelProblem(
                f"A picture cannot be {width_px} x {height_px} px: both must be multiples of {self.pixel_multiple}."
            )
        channels = self._vae_config["latent_channels"] * PATCH**2
        return Grid(height_px // self.pixel_multiple, width_px // self.pixel_multiple, channels)

    @property
    @abstractmethod
    def tokenizers(self) -> Sequence[TextTokenizer]:
        """The folder's tokenizers."""

    @abstractmethod
    def encode_each(self, prompts: Sequence[str]) -> list[Conditioning]:
        """The conditioning of each prompt, batch axis 1."""

    def encode_text(self, prompts: Sequence[str]) -> Conditioning:
        """The conditioning of the prompts, as one batch."""
        return stacked(self.encode_each(prompts))

    # The network

    def embed(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> Stream:
        """The input of the first block; `guidance` has an effect only where the model embeds it."""
        return self.transformer.embed(l_t_BLC.astype(self.dtype), sigma_B, conditioning, grid, guidance)

    @property
    def blocks(self) -> Sequence[Block]:
        """Every stack's blocks, in order."""
        return [
            Block(stack.kind, f"{path}.{index}", module, stack.run)
            for path, stack in self.stacks.items()
            for index, module in enumerate(find(self.transformer, path))
        ]

    def project(self, stream: Stream) -> mx.array:
        """The velocity (B, L, C) in the compute dtype."""
        return self.transformer.project(stream)

    def velocity(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> mx.array:
        """T_theta(l_t, t), the prediction of eps - l_T."""
        stream = self.embed(l_t_BLC, sigma_B, conditioning, grid, guidance)
        for block in self.blocks:
            stream = block.run(block.module, stream)
        return self.project(stream)

    # Schedules

    def drawing_sigmas(self, steps: int, grid: Grid) -> list[float]:
        """`steps + 1` sigmas from 1 to 0, those of diffusers' pipeline and FlowMatchEulerDiscreteScheduler."""
        return flow.schedule(steps, self.drawing_shift(grid))

    def training_shift(self, grid: Grid) -> float:
        """The shift of the drawing schedule, where the model's makers name no other for training."""
        return self.drawing_shift(grid)

    def drawing_shift(self, grid: Grid) -> float:
        """The shift of the drawing schedule."""
        scheduler = self._scheduler
        if not scheduler.get("use_dynamic_shifting", False):
            return float(scheduler.get("shift", self.default_shift))
        return flow.dynamic_shift(
            grid.tokens,
            scheduler.get("base_image_seq_len", 256),
            scheduler.get("max_image_seq_len", 4096),
            scheduler.get("base_shift", 0.5),
            scheduler.get("max_shift", 1.15),
        )

    # Adapters and knobs

    @cached_property
    def architecture(self) -> Architecture:
        """The blocks' shapes, from the folder's configs and headers."""
        return Architecture.of(self._parts.folder)

    @property
    def presets(self) -> Mapping[str, Sequence[str]]:
        """Layers by preset, without modulation and embedders; presets of blocks that this model lacks are left out."""
        return self.architecture.layers.presets

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Knobs from the folder's likeness.json, else the family's own."""
        return defaults_of(self._parts.folder)

    @property
    def unassisted(self) -> str:
        """A sentence where the folder's files describe a distilled model that has no assistant."""
        return unassisted(self._parts.folder)

    @property
    def assistant(self) -> Path | None:
        """The file named by the folder's likeness.json, or downloaded with the known model."""
        return assistant_of(self._parts.folder)

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """One SHA-256 each for the transformer, the VAE, the text encoders with their tokenizers, and the assistant."""
        tokenizers = [path for each in self.tokenizers for path in each.files]
        text = [*map(self._parts.sha256, self.text_parts), weights_sha256_of_all(tokenizers)]
        return {
            "transformer": self._parts.sha256("transformer"),
            "vae": self._parts.sha256("vae"),
            "text": sha256_of("".join(text).encode()),
            **({"assistant": weights_sha256_of_all([self.assistant])} if self.assistant else {}),
        }

    def free(self, *parts: str) -> None:
        """Drop "text", "vae" or "transformer" from memory."""
        for part in parts:
            for name in self.text_parts if part == "text" else (part,):
                self._parts.free(name)
        mx.clear_cache()
