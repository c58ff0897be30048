"""The architecture of a model as far as memory and settings depend on it, from configs and safetensors headers alone.

The names and sizes of linear layers are those of core/adapters/layers.py.

Units   sizes in numbers, lengths in tokens
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.adapters.layers import ModelLayers
from core.errors import ModelProblem
from core.estimate.vae import Channels
from core.hub.catalog import PIPELINES, Entry, family_of
from core.hub.families import FAMILIES
from core.hub.registry import VAE_CHANNELS, KnownModel
from core.safetensors_file import read_json
from core.weights import places

NO_LIMIT = 10**9
PATCH = 2  # latent pixels on a side of a token


@dataclass(frozen=True, slots=True)
class Stack:
    """Blocks of one kind: how many, and the sizes of their linear layers."""

    kind: str
    count: int
    width: int
    heads: int
    linear: tuple[tuple[int, int], ...]  # (in, out) of each layer that may get an adapter
    image: bool = True  # whether it sees the image's tokens
    text: bool = True  # whether it sees the text's tokens
    modulation: tuple[tuple[int, int], ...] = ()  # (in, out) of its modulation layers, which are quantized too

    @property
    def parameters(self) -> int:
        return sum(size_in * size_out for size_in, size_out in (*self.linear, *self.modulation))


@dataclass(frozen=True, slots=True)
class Architecture:
    """Blocks, text lengths and parameter counts of a model."""

    family: str
    layers: ModelLayers = field(compare=False)  # that adapters can be put on; forecasts are cached by the rest
    pixel_multiple: int  # heights and widths of pictures are multiples of this, the side of a token
    stacks: tuple[Stack, ...]
    text_tokens: int
    text_width: int  # numbers of a text token's conditioning
    transformer: int  # parameters that are read
    vae: int  # parameters
    vae_channels: Channels
    text_layer: int  # parameters of the text encoders' largest layer

    @staticmethod
    def of(folder: Path) -> Architecture:
        """From a model folder. Raises ModelProblem when a config is missing or names an unknown family."""
        family = family_of(folder)
        card = FAMILIES[family]
        transformer, vae = (read_json(folder / part / "config.json") for part in ("transformer", "vae"))
        layers = ModelLayers.of(family, transformer)
        stacks, text_tokens = _stacks(transformer, layers), card.text_tokens(transformer)
        return Architecture(
            family=family,
            layers=layers,
            pixel_multiple=_pixel_multiple(vae["block_out_channels"]),
            stacks=stacks,
            text_tokens=min(text_tokens, _tokenizer_limit(folder, card.tokenizer)),
            text_width=_text_width(transformer),
            transformer=_parameters(folder / "transformer", card.unread) or _block_parameters(stacks),
            vae=_parameters(folder / "vae"),
            vae_channels=Channels.of(vae["block_out_channels"], vae.get("decoder_block_out_channels")),
            text_layer=max((_largest_layer(each) for each in sorted(folder.glob("text_encoder*"))), default=0),
        )

    @staticmethod
    def of_known(known: KnownModel) -> Architecture:
        """From the registry: the same as from the model's folder, which need not be downloaded."""
        family, config = PIPELINES[known.pipeline], known.shapes.transformer
        card = FAMILIES[family]
        layers = ModelLayers.of(family, config)
        return Architecture(
            family=family,
            layers=layers,
            pixel_multiple=_pixel_multiple(VAE_CHANNELS),
            stacks=_stacks(config, layers),
            text_tokens=card.text_tokens(config),
            text_width=_text_width(config),
            transformer=known.parameters["transformer"] - known.unread,
            vae=known.parameters["vae"],
            vae_channels=Channels.of(VAE_CHANNELS),
            text_layer=known.shapes.text_layer,
        )

    @staticmethod
    def of_entry(entry: Entry) -> Architecture | None:
        """Of a model in the catalog; None when neither the registry nor a complete folder describes it."""
        if entry.known is not None and entry.family is not None:
            return Architecture.of_known(entry.known)
        try:
            return Architecture.of(entry.folder) if entry.folder is not None and entry.usable else None
        except (ModelProblem, KeyError):
            return None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the blocks of a stack are, and which tokens they see."""

    kind: str
    image: bool = True
    text: bool = True


_SEEN = {
    "transformer_blocks": _Seen("double"),
    "single_transformer_blocks": _Seen("single"),
    "noise_refiner": _Seen("layer", text=False),
    "context_refiner": _Seen("layer", image=False),
    "layers": _Seen("layer"),
    "txt_mode_blocks": _Seen("mode", image=False),
    "mode_blocks.image": _Seen("mode", text=False),
}
"""By the path of the stack."""


def _stacks(config: Mapping[str, Any], layers: ModelLayers) -> tuple[Stack, ...]:
    heads = config.get("num_attention_heads") or config["n_heads"]
    width = config["dim"] if "dim" in config else heads * config["attention_head_dim"]
    found = []
    for each in layers.stacks:
        seen, linear, modulation = _SEEN[each.path], tuple(each.linear.values()), tuple(each.modulation.values())
        found.append(Stack(seen.kind, each.count, width, heads, linear, seen.image, seen.text, modulation))
    return tuple(found)


def _pixel_multiple(vae_channels: Sequence[int]) -> int:
    return int(PATCH * 2 ** (len(vae_channels) - 1))


def _text_width(transformer: Mapping[str, Any]) -> int:
    return int(transformer.get("joint_attention_dim") or transformer["cap_feat_dim"])


def _parameters(folder: Path, unread: str = "(?!)") -> int:
    """Parameters of a part, counted in its files' headers, without the tensors that are never read; 0 without files."""
    try:
        stored = places.of_part(folder)
    except ModelProblem:
        return 0
    return sum(place.info.values for name, place in stored.items() if not re.search(unread, name))


def _tokenizer_limit(folder: Path, tokenizer: str) -> int:
    """The longest text in tokens that the folder's tokenizer allows."""
    path = folder / tokenizer / "tokenizer_config.json"
    limit = read_json(path).get("model_max_length") if path.is_file() else None
    return int(limit) if isinstance(limit, int | float) and limit >= 2 else NO_LIMIT


def _block_parameters(stacks: tuple[Stack, ...]) -> int:
    return sum(stack.count * stack.parameters for stack in stacks)


def _largest_layer(folder: Path) -> int:
    """Parameters of a text encoder's largest layer, by its headers."""
    layers: dict[str, int] = {}
    try:
        stored = places.of_part(folder, str(read_json(folder / "config.json").get("model_type", "")))
    except ModelProblem:
        return 0
    for name, place in stored.items():
        before, number, _ = _layer_of(name)
        if number:
            layers[before + number] = layers.get(before + number, 0) + place.info.values
    return max(layers.values(), default=0)


def _layer_of(name: str) -> tuple[str, str, str]:
    parts = name.split(".")
    for index, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[:index]), part, ".".join(parts[index + 1 :])
    return name, "", ""
