"""The linear layers that adapters can be put on: names, sizes and presets, from a transformer's config.json alone.

    FLUX.1     transformer_blocks.i          8 (D, D), 2 (D, 4D), 2 (4D, D);   modulation 2 (D, 6D)
               single_transformer_blocks.i   3 (D, D), (D, 4D), (5D, D);       modulation (D, 3D)
    FLUX.2     transformer_blocks.i          8 (D, D), 2 (D, 2I), 2 (I, D)
               single_transformer_blocks.i   (D, 3D + 2I), (D + I, D)
    Chroma     as FLUX.1, without modulation
    FLUX.3     txt_mode_blocks.i, mode_blocks.image.i, single_transformer_blocks.i      4 (D, D), (D, 2I), (I, D)
    Z-Image    noise_refiner.i, layers.i     4 (D, D), 2 (D, I), (I, D);       modulation (256, 4D)
               context_refiner.i             the same without modulation

Layers within the blocks can be trained. For those outside no gradient is computed (core/training/gradient.py): an
adapter on them can be drawn with. Presets leave modulation out; paths and globs may name it.

Plain Python: the web process checks the knobs `targets` and `ranks`, and adapter files, before a run is created.

Units   D width, I the MLP's inner width; a size is (in, out)
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.config.layer_ranks import LayerRank
from core.errors import ConfigProblem, FieldProblem

Size = tuple[int, int]

DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"
REFINERS, LAYERS = ("noise_refiner", "context_refiner"), "layers"
TEXT_MODE, IMAGE_MODE = "txt_mode_blocks", "mode_blocks.image"
IDENTITY_BLOCKS = (7, 12, 16, 20)  # single blocks that are enough for a likeness: lucataco's FLUX trainer (2024)
Z_IMAGE_VEC_WIDTH = 256  # most inputs of Z-Image's modulation

DOUBLE_ATTENTION = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
                    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out")  # fmt: skip
DOUBLE_IMAGE_ATTENTION = DOUBLE_ATTENTION[:4]
FLUX1_DOUBLE_MLP = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
FLUX1_SINGLE_ATTENTION, FLUX1_SINGLE_MLP = ("attn.to_q", "attn.to_k", "attn.to_v"), ("proj_mlp", "proj_out")
FLUX2_DOUBLE_MLP = ("ff.linear_in", "ff.linear_out", "ff_context.linear_in", "ff_context.linear_out")
FLUX2_SINGLE = ("attn.to_qkv_mlp_proj", "attn.to_out")  # shared by attention and MLP, so both presets contain them
FLUX3_ATTENTION, FLUX3_MLP = DOUBLE_IMAGE_ATTENTION, ("ff.linear_in", "ff.linear_out")
Z_IMAGE_ATTENTION = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")
Z_IMAGE_MLP = ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")


def _flux_presets(
    double_mlp: tuple[str, ...], single_attention: tuple[str, ...], single_mlp: tuple[str, ...]
) -> dict[str, dict[str, tuple[str, ...]]]:
    double = DOUBLE_ATTENTION + double_mlp
    single = tuple(dict.fromkeys(single_attention + single_mlp))
    return {
        "all_linear": {DOUBLE: double, SINGLE: single},
        "attention": {DOUBLE: DOUBLE_ATTENTION, SINGLE: single_attention},
        "mlp": {DOUBLE: double_mlp, SINGLE: single_mlp},
        "double_blocks": {DOUBLE: double},
        "single_blocks": {SINGLE: single},
        "image_stream": {DOUBLE: DOUBLE_IMAGE_ATTENTION + double_mlp[:2], SINGLE: single},
    }


PRESETS: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "flux1": {
        **_flux_presets(FLUX1_DOUBLE_MLP, FLUX1_SINGLE_ATTENTION, FLUX1_SINGLE_MLP),
        "likeness": {f"{SINGLE}.{index}": ("proj_out",) for index in IDENTITY_BLOCKS},
    },
    "chroma": _flux_presets(FLUX1_DOUBLE_MLP, FLUX1_SINGLE_ATTENTION, FLUX1_SINGLE_MLP),
    "flux2": _flux_presets(FLUX2_DOUBLE_MLP, FLUX2_SINGLE, FLUX2_SINGLE),
    "flux3": {
        "all_linear": dict.fromkeys((TEXT_MODE, IMAGE_MODE, SINGLE), FLUX3_ATTENTION + FLUX3_MLP),
        "attention": dict.fromkeys((TEXT_MODE, IMAGE_MODE, SINGLE), FLUX3_ATTENTION),
        "mlp": dict.fromkeys((TEXT_MODE, IMAGE_MODE, SINGLE), FLUX3_MLP),
        "single_blocks": {SINGLE: FLUX3_ATTENTION + FLUX3_MLP},
        "image_stream": dict.fromkeys((IMAGE_MODE, SINGLE), FLUX3_ATTENTION + FLUX3_MLP),
    },
    "z_image": {
        "all_linear": dict.fromkeys((*REFINERS, LAYERS), Z_IMAGE_ATTENTION + Z_IMAGE_MLP),
        "attention": dict.fromkeys((*REFINERS, LAYERS), Z_IMAGE_ATTENTION),
        "mlp": dict.fromkeys((*REFINERS, LAYERS), Z_IMAGE_MLP),
        "no_refiners": {LAYERS: Z_IMAGE_ATTENTION + Z_IMAGE_MLP},
        "image_stream": dict.fromkeys((REFINERS[0], LAYERS), Z_IMAGE_ATTENTION + Z_IMAGE_MLP),
    },
}
"""By family: the layers of each preset, by stack or by block."""


@dataclass(frozen=True, slots=True)
class BlockStack:
    """A list of like blocks in the network: its path, how many, and the layers of one block with their sizes."""

    path: str
    count: int
    linear: Mapping[str, Size]  # that presets name
    modulation: Mapping[str, Size]

    @property
    def layers(self) -> Mapping[str, Size]:
        return {**self.linear, **self.modulation}


@dataclass(frozen=True, slots=True)
class ModelLayers:
    """Every linear layer of a transformer, by module path."""

    stacks: tuple[BlockStack, ...]
    sizes: Mapping[str, Size]  # of the layers within the blocks, in order of their paths
    outside: tuple[str, ...]  # paths of the layers outside the blocks
    presets: Mapping[str, Sequence[str]]  # paths by preset; presets of blocks that this model lacks are left out

    @staticmethod
    def of(family: str, config: Mapping[str, Any]) -> ModelLayers:
        """Of a transformer's config. Raises KeyError for a config without the sizes of this family."""
        blocks, outside = FAMILIES[family]
        stacks = blocks(config)
        sizes = {
            f"{stack.path}.{index}.{name}": size
            for stack in stacks
            for index in range(stack.count)
            for name, size in stack.layers.items()
        }
        presets = {
            preset: [
                f"{block}.{name}" for path, names in table.items() for block in _at(path, stacks) for name in names
            ]
            for preset, table in PRESETS[family].items()
            if all(_at(path, stacks) or not _index_in(path)[1] for path in table)
        }
        return ModelLayers(stacks, dict(sorted(sizes.items())), tuple(sorted(outside(config))), presets)


def _at(path: str, stacks: Sequence[BlockStack]) -> list[str]:
    """Every block of a stack such as "layers", or a single block such as "layers.7", if the model has it."""
    name, index = _index_in(path)
    count = next(stack.count for stack in stacks if stack.path == name)
    if not index:
        return [f"{path}.{each}" for each in range(count)]
    return [path] if int(index) < count else []


def _index_in(path: str) -> tuple[str, str]:
    """The path of a stack, and the number of a block in it, "" for a stack as a whole."""
    stack, _, last = path.rpartition(".")
    return (stack, last) if last.isdecimal() else (path, "")


def resolve_targets(layers: ModelLayers, wanted: str) -> list[str]:
    """Full module paths for the knob `targets`: names of presets, paths and globs, with commas between them.

    Raises ConfigProblem naming each one that matches no linear layer of a block.
    """
    found: dict[str, None] = {}
    unmatched = []
    for pattern in (part.strip() for part in wanted.split(",")):
        matches = _matching(list(layers.sizes), layers.presets, pattern)
        if pattern and not matches:
            outside = _matching(layers.outside, {}, pattern)
            why = "only layers outside the blocks, and those cannot be trained" if outside else "no layer"
            unmatched.append(f"{pattern!r} matches {why}")
        found.update(dict.fromkeys(matches))
    if unmatched or not found:
        problem = "; ".join(unmatched) or "is empty"
        hint = f"use {', '.join(layers.presets)} or module paths such as {next(iter(layers.sizes), 'layers.0')}"
        raise ConfigProblem("Some settings need another look.", [FieldProblem("targets", f"{problem}; {hint}")])
    return list(found)


def resolve_ranks(
    layers: ModelLayers, targets: Sequence[str], wanted: Sequence[LayerRank], scale: float
) -> dict[str, tuple[int, float]]:
    """(rank, alpha) of each target with an own rank in the knob `ranks`; `scale` is alpha / rank of the others.

    Raises ConfigProblem naming each entry that matches none of them.
    """
    found: dict[str, tuple[int, float]] = {}
    problems = []
    targeted = set(targets)
    for entry in wanted:
        matches = [path for path in _matching(targets, layers.presets, entry.layers) if path in targeted]
        if not matches:
            words = f"{entry.layers!r} matches no layer that gets an adapter"
            hint = f"use {', '.join(layers.presets)} or module paths such as {targets[0]}"
            problems.append(FieldProblem("ranks", f"{words}; {hint}"))
        found |= dict.fromkeys(matches, (entry.rank, entry.alpha_at(scale)))
    if problems:
        raise ConfigProblem("Some settings need another look.", problems)
    return found


def _matching(paths: Sequence[str], presets: Mapping[str, Sequence[str]], pattern: str) -> Sequence[str]:
    """The layers of a preset, or those of `paths` that match a glob."""
    return presets[pattern] if pattern in presets else [path for path in paths if fnmatch.fnmatchcase(path, pattern)]


def _flux1(config: Mapping[str, Any]) -> tuple[BlockStack, ...]:
    d = config["num_attention_heads"] * config["attention_head_dim"]
    double_mlp = dict(zip(FLUX1_DOUBLE_MLP, ((d, 4 * d), (4 * d, d)) * 2, strict=True))
    double = dict.fromkeys(DOUBLE_ATTENTION, (d, d)) | double_mlp
    double_modulation = dict.fromkeys(("norm1.linear", "norm1_context.linear"), (d, 6 * d))
    single = dict.fromkeys(FLUX1_SINGLE_ATTENTION, (d, d)) | {"proj_mlp": (d, 4 * d), "proj_out": (5 * d, d)}
    return (
        BlockStack(DOUBLE, config["num_layers"], double, double_modulation),
        BlockStack(SINGLE, config["num_single_layers"], single, {"norm.linear": (d, 3 * d)}),
    )


def _flux1_outside(config: Mapping[str, Any]) -> list[str]:
    embedders = ["timestep_embedder", "text_embedder"]
    embedders += ["guidance_embedder"] if config.get("guidance_embeds") else []
    inside = [f"time_text_embed.{name}.linear_{number}" for name in embedders for number in (1, 2)]
    return ["x_embedder", "context_embedder", "proj_out", "norm_out.linear", *inside]


def _chroma(config: Mapping[str, Any]) -> tuple[BlockStack, ...]:
    return tuple(replace(stack, modulation={}) for stack in _flux1(config))


def _chroma_outside(config: Mapping[str, Any]) -> list[str]:
    layers = [f"layers.{index}.linear_{number}" for index in range(config["approximator_layers"]) for number in (1, 2)]
    inside = [f"distilled_guidance_layer.{name}" for name in ("in_proj", *layers, "out_proj")]
    return ["x_embedder", "context_embedder", "proj_out", *inside]


def _flux2(config: Mapping[str, Any]) -> tuple[BlockStack, ...]:
    d = config["num_attention_heads"] * config["attention_head_dim"]
    inner = int(d * config.get("mlp_ratio", 3.0))
    double_mlp = dict(zip(FLUX2_DOUBLE_MLP, ((d, 2 * inner), (inner, d)) * 2, strict=True))
    double = dict.fromkeys(DOUBLE_ATTENTION, (d, d)) | double_mlp
    single = dict(zip(FLUX2_SINGLE, ((d, 3 * d + 2 * inner), (d + inner, d)), strict=True))
    return (
        BlockStack(DOUBLE, config["num_layers"], double, {}),
        BlockStack(SINGLE, config["num_single_layers"], single, {}),
    )


def _flux2_outside(config: Mapping[str, Any]) -> list[str]:
    embedders = ["timestep_embedder", *(["guidance_embedder"] if config.get("guidance_embeds") else [])]
    inside = [f"time_guidance_embed.{name}.linear_{number}" for name in embedders for number in (1, 2)]
    shared = ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation", "norm_out")
    return ["x_embedder", "context_embedder", "proj_out", *(f"{name}.linear" for name in shared), *inside]


def _flux3(config: Mapping[str, Any]) -> tuple[BlockStack, ...]:
    d = config["num_attention_heads"] * config["attention_head_dim"]
    inner = int(d * config.get("mlp_ratio", 3.0))
    linear = dict.fromkeys(FLUX3_ATTENTION, (d, d)) | dict(zip(FLUX3_MLP, ((d, 2 * inner), (inner, d)), strict=True))
    return (
        BlockStack(TEXT_MODE, config["num_layers"], linear, {}),
        BlockStack(IMAGE_MODE, config["num_layers"], linear, {}),
        BlockStack(SINGLE, config["num_single_layers"], linear, {}),
    )


def _flux3_outside(config: Mapping[str, Any]) -> list[str]:
    embedders = ["timestep_embedder", *(["target_timestep_embedder"] if config.get("flow_map") else [])]
    inside = [f"{name}.linear_{number}" for name in embedders for number in (1, 2)]
    shared = [f"{place}_stream_modulations.{mode}" for place in ("early", "single") for mode in ("image", "txt")]
    inside += [f"{name}.linear" for name in shared]
    return ["x_embedders.image", "context_embedder", "proj_out", "norm_out.linear", *inside]


def _z_image(config: Mapping[str, Any]) -> tuple[BlockStack, ...]:
    d = config["dim"]
    inner = int(d / 3 * 8)
    mlp = dict(zip(Z_IMAGE_MLP, ((d, inner), (inner, d), (d, inner)), strict=True))
    linear = dict.fromkeys(Z_IMAGE_ATTENTION, (d, d)) | mlp
    modulation = {"adaLN_modulation.0": (min(d, Z_IMAGE_VEC_WIDTH), 4 * d)}
    noise, context = REFINERS
    return (
        BlockStack(noise, config["n_refiner_layers"], linear, modulation),
        BlockStack(context, config["n_refiner_layers"], linear, {}),
        BlockStack(LAYERS, config["n_layers"], linear, modulation),
    )


def _z_image_outside(_config: Mapping[str, Any]) -> list[str]:
    final = [f"all_final_layer.2-1.{name}" for name in ("linear", "adaLN_modulation.1")]
    return ["all_x_embedder.2-1", "cap_embedder.1", "t_embedder.mlp.0", "t_embedder.mlp.2", *final]


FAMILIES: dict[
    str, tuple[Callable[[Mapping[str, Any]], tuple[BlockStack, ...]], Callable[[Mapping[str, Any]], list[str]]]
] = {
    "flux1": (_flux1, _flux1_outside),
    "chroma": (_chroma, _chroma_outside),
    "flux2": (_flux2, _flux2_outside),
    "flux3": (_flux3, _flux3_outside),
    "z_image": (_z_image, _z_image_outside),
}
"""By family: the stacks of blocks, and the paths of the layers outside them."""
