"""Names of layers in adapter files, in every form that Likeness reads or writes.

    form         before the layer       a layer
    diffusers    transformer.           transformer_blocks.0.attn.to_q
    PEFT         base_model.model.      transformer_blocks.0.attn.to_q
    BFL          diffusion_model.       double_blocks.0.img_attn.qkv
    OMI          transformer.           double_blocks.0.img_attn.qkv.0              OneTrainer: 0, 1, 2 are q, k, v
    kohya        lora_unet_             double_blocks_0_img_attn_qkv
    OneTrainer   lora_transformer_      transformer_blocks_0_attn_to_q
    LyCORIS      lycoris_               transformer_blocks_0_attn_to_q

Prefix and layer are matched independently, so mixtures of the forms, and layers without a prefix, are read as well.
Which tensors a layer has: core/adapters/contents.py.

The rows below map the layer names of the models' own code (BFL's, Z-Image's) to those of diffusers. Where diffusers
splits a layer, `rows` says how many rows of B each part gets, in widths d of the layer's input.

Plain Python: the web process validates an uploaded file by its header alone.

Sources: diffusers 0.42.1, loaders/lora_conversion_utils.py; OneTrainer's modules/util/convert; the saved files of
ai-toolkit, sd-scripts and LyCORIS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

TRIGGER = "modelspec.trigger_phrase"
"""The metadata key of the trigger."""
DIFFUSERS, KOHYA = "transformer.", "lora_unet_"
_BEFORE = ("base_model.model.", "model.", "diffusion_model.", "transformer.")
_BEFORE_UNDERSCORES = (KOHYA, "lora_transformer_", "lycoris_")
_NUMBER = "(0|[1-9][0-9]{0,3})"  # of a block


@dataclass(frozen=True, slots=True)
class Row:
    """A layer's name in its model's own code, and the names of the same layers in diffusers; {} is the block number."""

    theirs: str
    ours: tuple[str, ...]
    rows: tuple[int, ...] = (1,)  # rows of B for each of ours, in widths of the layer's input
    swapped: bool = False  # diffusers has the halves of the rows (shift, scale) in the other order


def _one(theirs: str, ours: str, *, swapped: bool = False) -> Row:
    return Row(theirs, (ours,), swapped=swapped)


def _flux_attention(theirs: str, ours: str) -> Iterator[Row]:
    """Attention of both streams in a double block, the same in FLUX.1 and FLUX.2."""
    for stream, names, fused in (
        ("img", ("to_q", "to_k", "to_v"), "to_qkv"),
        ("txt", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_added_qkv"),
    ):
        layers = tuple(f"{ours}.attn.{name}" for name in names)
        yield Row(f"{theirs}.{stream}_attn.qkv", layers, (1, 1, 1))
        yield from _parts_of(f"{theirs}.{stream}_attn.qkv", layers)
        yield Row(f"{ours}.attn.{fused}", layers, (1, 1, 1))  # as diffusers has it after fuse_qkv_projections
    yield _one(f"{theirs}.img_attn.proj", f"{ours}.attn.to_out.0")
    yield _one(f"{theirs}.txt_attn.proj", f"{ours}.attn.to_add_out")


def _parts_of(theirs: str, ours: tuple[str, ...]) -> Iterator[Row]:
    """The parts of a fused layer by their numbers, as OMI has them."""
    for index, layer in enumerate(ours):
        yield _one(f"{theirs}.{index}", layer)


_DOUBLE, _OUR_DOUBLE = "double_blocks.{}", "transformer_blocks.{}"
_SINGLE, _OUR_SINGLE = "single_blocks.{}", "single_transformer_blocks.{}"
_FLUX1_LINEAR1 = tuple(f"{_OUR_SINGLE}.{name}" for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"))

FLUX1 = (
    *_flux_attention(_DOUBLE, _OUR_DOUBLE),
    _one(f"{_DOUBLE}.img_mlp.0", f"{_OUR_DOUBLE}.ff.net.0.proj"),
    _one(f"{_DOUBLE}.img_mlp.2", f"{_OUR_DOUBLE}.ff.net.2"),
    _one(f"{_DOUBLE}.txt_mlp.0", f"{_OUR_DOUBLE}.ff_context.net.0.proj"),
    _one(f"{_DOUBLE}.txt_mlp.2", f"{_OUR_DOUBLE}.ff_context.net.2"),
    _one(f"{_DOUBLE}.img_mod.lin", f"{_OUR_DOUBLE}.norm1.linear"),
    _one(f"{_DOUBLE}.txt_mod.lin", f"{_OUR_DOUBLE}.norm1_context.linear"),
    Row(f"{_SINGLE}.linear1", _FLUX1_LINEAR1, (1, 1, 1, 4)),
    *_parts_of(f"{_SINGLE}.linear1", _FLUX1_LINEAR1),
    Row(f"{_SINGLE}.linear1_qkv", _FLUX1_LINEAR1[:3], (1, 1, 1)),  # as XLabs' adapters are converted for ComfyUI
    _one(f"{_SINGLE}.linear1_mlp", _FLUX1_LINEAR1[3]),
    _one(f"{_SINGLE}.linear2", f"{_OUR_SINGLE}.proj_out"),
    _one(f"{_SINGLE}.modulation.lin", f"{_OUR_SINGLE}.norm.linear"),
    _one("img_in", "x_embedder"),
    _one("img_in.proj", "x_embedder"),  # OMI
    _one("txt_in", "context_embedder"),
    *(
        _one(f"{theirs}.{place}_layer", f"time_text_embed.{ours}.linear_{number}")
        for theirs, ours in (
            ("time_in", "timestep_embedder"),
            ("vector_in", "text_embedder"),
            ("guidance_in", "guidance_embedder"),
        )
        for place, number in (("in", 1), ("out", 2))
    ),
    _one("final_layer.linear", "proj_out"),
    _one("final_layer.adaLN_modulation.1", "norm_out.linear", swapped=True),
)

FLUX2 = (
    *_flux_attention(_DOUBLE, _OUR_DOUBLE),
    _one(f"{_OUR_DOUBLE}.attn.to_out", f"{_OUR_DOUBLE}.attn.to_out.0"),  # as mflux saves it
    _one(f"{_DOUBLE}.img_mlp.0", f"{_OUR_DOUBLE}.ff.linear_in"),
    _one(f"{_DOUBLE}.img_mlp.2", f"{_OUR_DOUBLE}.ff.linear_out"),
    _one(f"{_DOUBLE}.txt_mlp.0", f"{_OUR_DOUBLE}.ff_context.linear_in"),
    _one(f"{_DOUBLE}.txt_mlp.2", f"{_OUR_DOUBLE}.ff_context.linear_out"),
    _one(f"{_SINGLE}.linear1", f"{_OUR_SINGLE}.attn.to_qkv_mlp_proj"),
    _one(f"{_SINGLE}.linear2", f"{_OUR_SINGLE}.attn.to_out"),
    *(
        _one(f"{name}.lin", f"{name}.linear")
        for name in ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation")
    ),
    _one("img_in", "x_embedder"),
    _one("txt_in", "context_embedder"),
    *(
        _one(f"{theirs}.{place}_layer", f"time_guidance_embed.{ours}.linear_{number}")
        for theirs, ours in (("time_in", "timestep_embedder"), ("guidance_in", "guidance_embedder"))
        for place, number in (("in", 1), ("out", 2))
    ),
    _one("final_layer.linear", "proj_out"),
    _one("final_layer.adaLN_modulation.1", "norm_out.linear", swapped=True),
)


def _z_image_block(stack: str) -> Iterator[Row]:
    block = f"{stack}.{{}}"
    attention = tuple(f"{block}.attention.to_{part}" for part in "qkv")
    yield Row(f"{block}.attention.qkv", attention, (1, 1, 1))
    yield from _parts_of(f"{block}.attention.qkv", attention)
    yield _one(f"{block}.attention.out", f"{block}.attention.to_out.0")
    for same in ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3", "adaLN_modulation.0"):
        yield _one(f"{block}.{same}", f"{block}.{same}")


Z_IMAGE = (
    *_z_image_block("layers"),
    *_z_image_block("noise_refiner"),
    *_z_image_block("context_refiner"),
    _one("cap_embedder.1", "cap_embedder.1"),
    _one("t_embedder.mlp.0", "t_embedder.mlp.0"),
    _one("t_embedder.mlp.2", "t_embedder.mlp.2"),
    _one("x_embedder", "all_x_embedder.2-1"),
    _one("final_layer.linear", "all_final_layer.2-1.linear"),
    _one("final_layer.adaLN_modulation.1", "all_final_layer.2-1.adaLN_modulation.1"),
)

_MODULATION = ("img_mod.lin", "txt_mod.lin", "modulation.lin", "_in.in_layer", "_in.out_layer", "adaLN_modulation.1")
_APPROXIMATOR, _LAYERS = "distilled_guidance_layer", "distilled_guidance_layer.layers.{}"

CHROMA = (
    *(row for row in FLUX1 if not row.theirs.endswith(_MODULATION)),
    _one(f"{_APPROXIMATOR}.in_proj", f"{_APPROXIMATOR}.in_proj"),
    _one(f"{_LAYERS}.in_layer", f"{_LAYERS}.linear_1"),
    _one(f"{_LAYERS}.out_layer", f"{_LAYERS}.linear_2"),
    _one(f"{_APPROXIMATOR}.out_proj", f"{_APPROXIMATOR}.out_proj"),
)


def _flux3_block(theirs: str, ours: str) -> Iterator[Row]:
    for part in "qkv":
        yield _one(f"{theirs}.{part}_proj", f"{ours}.attn.to_{part}")
    yield _one(f"{theirs}.attn_out", f"{ours}.attn.to_out.0")
    yield _one(f"{theirs}.mlp_in", f"{ours}.ff.linear_in")
    yield _one(f"{theirs}.mlp_out", f"{ours}.ff.linear_out")


FLUX3 = (
    *_flux3_block("txt_mode_blocks.{}", "txt_mode_blocks.{}"),
    *_flux3_block("content_mode_blocks.image.{}", "mode_blocks.image.{}"),
    *_flux3_block(_SINGLE, _OUR_SINGLE),
    *(
        _one(f"{place}_stream_modulations.{mode}.lin", f"{place}_stream_modulations.{mode}.linear")
        for place in ("early", "single")
        for mode in ("image", "txt")
    ),
    _one("emb_in.image", "x_embedders.image"),
    _one("txt_in", "context_embedder"),
    *(
        _one(f"{theirs}.{place}_layer", f"{ours}.linear_{number}")
        for theirs, ours in (("time_in", "timestep_embedder"), ("ref_time_in", "target_timestep_embedder"))
        for place, number in (("in", 1), ("out", 2))
    ),
    _one("final_layer.image.linear", "proj_out"),
    _one("final_layer.image.adaLN_modulation.1", "norm_out.linear", swapped=True),
)

FAMILIES = {"flux1": FLUX1, "flux2": FLUX2, "z_image": Z_IMAGE, "chroma": CHROMA, "flux3": FLUX3}
TITLES = {"flux1": "FLUX.1", "flux2": "FLUX.2", "z_image": "Z-Image", "chroma": "Chroma", "flux3": "FLUX.3"}


def bare_name(name: str) -> tuple[str, bool]:
    """A layer's name without its prefix, and whether it has underscores in place of dots."""
    for before in _BEFORE_UNDERSCORES:
        if name.startswith(before):
            return name.removeprefix(before), True
    while found := next((each for each in _BEFORE if name.startswith(each)), None):
        name = name.removeprefix(found)
    return name, False


def rows_with_numbers(family: str, layer: str) -> tuple[Row, str] | None:
    """The row of this diffusers path, and the block number in it; None without one.

    The first matching row wins: later ones are other programs' spellings.
    """
    for row in FAMILIES.get(family, ()):
        for ours in row.ours:
            match = _pattern(ours, underscores=False).fullmatch(layer)
            if match is not None:
                return row, next(iter(match.groups()), "")
    return None


def row_of(name: str, family: str) -> tuple[Row, str] | None:
    """The row of a layer's name in a file and the block number in it; None without one.

    For a family without a table, a dotted name is taken as the layer's path.
    """
    bare, underscores = bare_name(name)
    for pattern, row in _patterns(family, underscores):
        match = pattern.fullmatch(bare)
        if match is not None:
            return row, next(iter(match.groups()), "")
    if family in FAMILIES or underscores:
        return None
    return Row(bare, (bare.replace("{", "{{").replace("}", "}}"),)), ""


def families_of(name: str) -> list[str]:
    """The families that have a layer of this name."""
    return [family for family in FAMILIES if row_of(name, family) is not None]


@cache
def _patterns(family: str, underscores: bool) -> list[tuple[re.Pattern[str], Row]]:
    """The patterns of all names of a family's layers: the model's own, and each of diffusers."""
    found: dict[str, Row] = {}
    for row in FAMILIES.get(family, ()):
        found.setdefault(row.theirs, row)
    for row in FAMILIES.get(family, ()):
        for ours in row.ours:
            found.setdefault(ours, Row(ours, (ours,)))
    return [(_pattern(name, underscores), row) for name, row in found.items()]


def _pattern(name: str, underscores: bool) -> re.Pattern[str]:
    text = name.replace(".", "_") if underscores else name
    return re.compile(re.escape(text).replace(r"\{\}", _NUMBER))
