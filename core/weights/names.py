"""Names of tensors in single-file checkpoints, as the models' makers and ComfyUI write them, and ours.

    theirs                                        ours: diffusers' and transformers' names
    double_blocks.0.img_attn.qkv.weight           transformer_blocks.0.attn.{to_q, to_k, to_v}.weight      rows of it
    final_layer.adaLN_modulation.1.weight         norm_out.linear.weight                       its halves swapped
    decoder.up.3.block.0.conv1.weight             decoder.up_blocks.0.resnets.0.conv1.weight       counted from below
    encoder.mid.attn_1.q.weight                   encoder.mid_block.attentions.0.to_q.weight         a 1 x 1 convolution

Layers are those of core/adapters/key_maps.py, which adapters share; this file adds norms, the VAE and text encoders. A
name without a row stays as it is: Z-Image's files have most of diffusers' names, text encoders all of transformers'.

Plain Python: the web process recognizes a file by its header alone.

Sources: ComfyUI's comfy/utils.py and comfy/model_detection.py, diffusers 0.42.1 loaders/single_file_utils.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from core.adapters.key_maps import FAMILIES, Row

NUMBER = "(0|[1-9][0-9]{0,3})"
ANCHORS = {  # of each family, a tensor that no other has: in its makers' names and in ours
    "flux2": ("double_stream_modulation_img.lin.weight", "double_stream_modulation_img.linear.weight"),
    "chroma": ("distilled_guidance_layer.in_proj.weight", "distilled_guidance_layer.in_proj.weight"),
    "flux3": ("txt_mode_blocks.0.q_proj.weight", "txt_mode_blocks.0.attn.to_q.weight"),
    "z_image": ("cap_pad_token", "cap_pad_token"),
    "flux1": ("vector_in.in_layer.weight", "time_text_embed.text_embedder.linear_1.weight"),
}
BEFORE = ("model.diffusion_model.", "diffusion_model.", "transformer.")  # prefixes of a transformer's tensors
NEVER_USED = re.compile(r"norm_final\.weight|repa_projectors\..+|__index_timestep_zero__")  # of transformers


@dataclass(frozen=True, slots=True)
class Share:
    """One of our tensors as a part of theirs: `count` of `of` equal blocks of rows, from block `first` on."""

    name: str
    first: int = 0
    count: int = 1
    of: int = 1
    swapped: bool = False  # ours has the two halves of the rows in the other order
    flat: bool = False  # theirs is a 1 x 1 convolution, ours a matrix


Translate = Callable[[str], tuple[Share, ...]]
"""Our tensors in one of theirs; empty for a tensor that is never used."""

_DOUBLE, _SINGLE = ("double_blocks.{}", "transformer_blocks.{}"), ("single_blocks.{}", "single_transformer_blocks.{}")


def _norms(blocks: tuple[str, str], before: str = "") -> Iterable[tuple[str, str]]:
    theirs, ours = blocks
    for part in ("query", "key"):
        yield f"{theirs}.{before}norm.{part}_norm", f"{ours}.attn.norm_{part[0]}"


_FLUX_NORMS = (
    *_norms(_DOUBLE, "img_attn."),
    *((theirs, ours.replace("norm_", "norm_added_")) for theirs, ours in _norms(_DOUBLE, "txt_attn.")),
    *_norms(_SINGLE),
)
NORMS: dict[str, tuple[tuple[str, str], ...]] = {
    "flux1": _FLUX_NORMS,
    "flux2": _FLUX_NORMS,
    "chroma": (*_FLUX_NORMS, ("distilled_guidance_layer.norms.{}", "distilled_guidance_layer.norms.{}")),
    "flux3": (
        *_norms(("txt_mode_blocks.{}", "txt_mode_blocks.{}")),
        *_norms(("content_mode_blocks.image.{}", "mode_blocks.image.{}")),
        *_norms(_SINGLE),
    ),
    "z_image": tuple(
        (f"{stack}.{{}}.attention.{part}_norm", f"{stack}.{{}}.attention.norm_{part}")
        for stack in ("layers", "noise_refiner", "context_refiner")
        for part in "qk"
    ),
}
"""Norms by family: the names without `.scale` or `.weight`, theirs and ours; ComfyUI's newer files have `.weight`."""


def family_of(names: Iterable[str]) -> str | None:
    """The family of a transformer with these names, without their prefix; None when no family has them."""
    there = set(names)
    return next((family for family, anchors in ANCHORS.items() if there & set(anchors)), None)


def of_transformer(family: str) -> Translate:
    """The translation of a family's tensors, from its makers' names or from ours."""

    def translate(name: str) -> tuple[Share, ...]:
        if NEVER_USED.fullmatch(name):
            return ()
        layer, _, kind = name.rpartition(".")
        for pattern, ours in _norm_patterns(family) if kind in ("scale", "weight") else ():
            if found := pattern.fullmatch(layer):
                return (Share(f"{ours.format(*found.groups())}.weight"),)
        for pattern, row in _row_patterns(family) if kind in ("weight", "bias") else ():
            if found := pattern.fullmatch(layer):
                return tuple(_shares(row, found.groups(), kind))
        return (Share(name),)

    return translate


def _shares(row: Row, numbers: tuple[str, ...], kind: str) -> Iterable[Share]:
    first, of = 0, sum(row.rows)
    for ours, count in zip(row.ours, row.rows, strict=True):
        yield Share(f"{ours.format(*numbers)}.{kind}", first, count, of, row.swapped)
        first += count


@cache
def _row_patterns(family: str) -> list[tuple[re.Pattern[str], Row]]:
    rows: dict[str, Row] = {}
    for row in FAMILIES[family]:
        rows.setdefault(row.theirs, row)
    return [(_pattern(theirs), row) for theirs, row in rows.items()]


@cache
def _norm_patterns(family: str) -> list[tuple[re.Pattern[str], str]]:
    return [(_pattern(theirs), ours) for theirs, ours in NORMS[family]]


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{\}", NUMBER))


VAE_ANCHORS = ("decoder.up.0.block.0.conv1.weight", "decoder.up_blocks.0.resnets.0.conv1.weight")
_VAE_SAME = (
    (re.compile(r"(encoder|decoder)\.norm_out\.(.+)"), r"\1.conv_norm_out.\2"),
    (re.compile(r"(encoder|decoder)\.mid\.attn_1\.norm\.(.+)"), r"\1.mid_block.attentions.0.group_norm.\2"),
    (re.compile(rf"encoder\.down\.{NUMBER}\.block\.{NUMBER}\.(.+)"), r"encoder.down_blocks.\1.resnets.\2.\3"),
    (re.compile(rf"encoder\.down\.{NUMBER}\.downsample\.(.+)"), r"encoder.down_blocks.\1.downsamplers.0.\2"),
    (re.compile(r"encoder\.(quant_conv\..+)"), r"\1"),
    (re.compile(r"decoder\.(post_quant_conv\..+)"), r"\1"),
)
_VAE_MID = re.compile(r"(encoder|decoder)\.mid\.block_([12])\.(.+)")
_VAE_MID_ATTENTION = re.compile(r"(encoder|decoder)\.mid\.attn_1\.(q|k|v|proj_out)\.(weight|bias)")
_VAE_UP = re.compile(rf"decoder\.up\.{NUMBER}\.(?:block\.{NUMBER}|(upsample))\.(.+)")


def of_vae(names: Iterable[str]) -> Translate:
    """The translation of a VAE with these names."""
    levels = 1 + max((int(found[1]) for name in names if (found := _VAE_UP.fullmatch(name))), default=0)

    def translate(name: str) -> tuple[Share, ...]:
        if found := _VAE_MID_ATTENTION.fullmatch(name):
            ours = {"proj_out": "to_out.0"}.get(found[2], f"to_{found[2]}")
            flat = found[3] == "weight"
            return (Share(f"{found[1]}.mid_block.attentions.0.{ours}.{found[3]}", flat=flat),)
        if found := _VAE_MID.fullmatch(name):
            return (Share(f"{found[1]}.mid_block.resnets.{int(found[2]) - 1}.{found[3]}"),)
        if found := _VAE_UP.fullmatch(name):
            place = "upsamplers.0" if found[3] else f"resnets.{found[2]}"
            name = f"decoder.up_blocks.{levels - 1 - int(found[1])}.{place}.{found[4]}"
        for pattern, ours in _VAE_SAME:
            name = pattern.sub(ours, name) if pattern.fullmatch(name) else name
        return (Share(name.replace(".nin_shortcut.", ".conv_shortcut.")),)

    return translate


_TEXT_NEVER_USED = re.compile(
    r"(.+\.)?(logit_scale|text_projection(\.weight)?|spiece_model|lm_head\.weight|tekken_model)|decoder\..+"
)


def of_text(names: Iterable[str]) -> Translate:
    """The translation of a text encoder with these names, which are transformers' own."""
    alone = "shared.weight" not in set(names)

    def translate(name: str) -> tuple[Share, ...]:
        if _TEXT_NEVER_USED.fullmatch(name):
            return ()
        if alone and name == "encoder.embed_tokens.weight":  # T5's token table may be there under its other name only
            return (Share("shared.weight"),)
        return (Share(name),)

    return translate
