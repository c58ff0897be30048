"""A family in a diffusers folder: what every family does alike with its parts, whatever its network is.

    parts      {name: (folder, module, file stem)}              what lies in the folder
    stacks     {path: (kind, its length in the config, run)}    the network's lists of blocks, in order
    linear     {preset: {path: names of linear layers}}         what adapters can be put on, by stack or by block

A family fills in these tables and says how it reads text and photos and embeds them. Sigmas are spaced as the folder's
scheduler spaces them: moved by a shift that is the same for every picture, or grows with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from core import flow
from core.errors import ModelProblem
from core.estimate.architecture import Architecture
from core.files import sha256_of
from core.hub.catalog import assistant_of, defaults_of, is_distilled
from core.models.autoencoder import PATCH
from core.models.base import Block, Conditioning, Grid, Stream, stacked
from core.models.parts import Parts
from core.models.text.tokenizers import TextTokenizer
from core.safetensors_file import read_json, weights_sha256_of_all


class FolderFamily:
    """The part of `core.models.base.Family` that follows from the tables."""

    parts: ClassVar[dict[str, tuple[Any, ...]]]
    text_parts: ClassVar[tuple[str, ...]]  # those of `parts` that `free("text")` drops
    stacks: ClassVar[dict[str, tuple[str, str, Callable[[nn.Module, Stream], Stream]]]]
    linear: ClassVar[dict[str, dict[str, tuple[str, ...]]]]
    _tokenizers: tuple[TextTokenizer, ...]
    encode_each: Callable[[Sequence[str]], list[Conditioning]]

    def __init__(self, parts: Parts, dtype: mx.Dtype) -> None:
        self.dtype = dtype
        self._parts = parts
        self._config = parts.config("transformer")
        self._vae = parts.config("vae")
        self._scheduler = read_json(parts.folder / "scheduler" / "scheduler_config.json")
        self.embeds_guidance = bool(self._config.get("guidance_embeds", False))
        self.pixel_multiple = PATCH * 2 ** (len(self._vae["block_out_channels"]) - 1)

    @property
    def transformer(self) -> nn.Module:
        return self._parts["transformer"]

    def grid(self, height_px: int, width_px: int) -> Grid:
        """The latent grid of a picture of this size; sizes must be multiples of `pixel_multiple`."""
        if height_px % self.pixel_multiple or width_px % self.pixel_multiple or min(height_px, width_px) <= 0:
            raise ModelProblem(
                f"A picture cannot be {width_px} x {height_px} px: both must be multiples of {self.pixel_multiple}."
            )
        channels = self._vae["latent_channels"] * PATCH**2
        return Grid(height_px // self.pixel_multiple, width_px // self.pixel_multiple, channels)

    def encode_text(self, prompts: Sequence[str]) -> Conditioning:
        """What the network is told about each prompt, as one batch."""
        return stacked(self.encode_each(prompts))

    # The network

    def embed(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> Stream:
        """The stream that enters the first block; `guidance` counts only where the model embeds it."""
        return self.transformer.embed(l_t_BLC.astype(self.dtype), sigma_B, conditioning, grid, guidance)

    @property
    def blocks(self) -> Sequence[Block]:
        """Every stack's blocks, in order."""
        return [
            Block(kind, f"{path}.{index}", module, run)
            for path, (kind, _, run) in self.stacks.items()
            for index, module in enumerate(self.transformer[path])
        ]

    def project(self, stream: Stream) -> mx.array:
        """The velocity (B, L, C) in the compute dtype."""
        return self.transformer.project(stream)

    def velocity(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> mx.array:
        """T_theta(l_t, t) = eps - l_T, as far as it has learned it."""
        stream = self.embed(l_t_BLC, sigma_B, conditioning, grid, guidance)
        for block in self.blocks:
            stream = block.run(block.module, stream)
        return self.project(stream)

    # Schedules

    def drawing_sigmas(self, steps: int, grid: Grid) -> list[float]:
        """`steps + 1` sigmas from 1 to 0, as diffusers' pipeline asks FlowMatchEulerDiscreteScheduler for them."""
        return flow.schedule(steps, self.training_shift(grid))

    def training_shift(self, grid: Grid) -> float:
        """The shift of drawing."""
        scheduler = self._scheduler
        if not scheduler.get("use_dynamic_shifting", False):
            return float(scheduler.get("shift", 1.0))
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
        """From the folder's configs and headers."""
        return Architecture.of(self._parts.folder)

    @cached_property
    def presets(self) -> Mapping[str, Sequence[str]]:
        """Layers by preset, without modulation and embedders; a preset of blocks that this model lacks is left out."""
        blocks = {path: self._blocks_at(path) for table in self.linear.values() for path in table}
        return {
            preset: [f"{block}.{name}" for path, names in table.items() for block in blocks[path] for name in names]
            for preset, table in self.linear.items()
            if all(blocks[path] or path in self.stacks for path in table)
        }

    def _blocks_at(self, path: str) -> list[str]:
        """Every block of a stack, such as "layers"; or the one block that is meant, such as "layers.7", if there is."""
        stack, _, index = path.partition(".")
        count = self._config[self.stacks[stack][1]]
        if not index:
            return [f"{path}.{each}" for each in range(count)]
        return [path] if int(index) < count else []

    @property
    def defaults(self) -> Mapping[str, Any]:
        """From the folder's likeness.json, else the family's own."""
        return defaults_of(self._parts.folder)

    @property
    def distilled(self) -> bool:
        """As the folder's own files say it."""
        return is_distilled(self._parts.folder)

    @property
    def assistant(self) -> Path | None:
        """As the folder's likeness.json names it, or as it was downloaded with the known model."""
        return assistant_of(self._parts.folder)

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """One SHA-256 each for the transformer, the VAE, all that reads text with its tokenizers, and the assistant."""
        tokenizers = [path for each in self._tokenizers for path in each.files]
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
