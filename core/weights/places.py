"""Where each tensor of a part of a model is stored, under our names, whatever form the files have.

    folder/transformer/diffusion_pytorch_model.safetensors      diffusers' own, or a link to a file of ComfyUI
    header -> the part's own tensors -> our names, rows of fused layers, scales of 8-bit floats

A layer that their file fuses and ours splits is read in parts: its rows lie next to each other, so each part is a
range of bytes, and the fused layer is never in memory. 8-bit floats (E4M3, E5M2) are read as they are, or times one
factor: `scale_weight` or `weight_scale` beside the weight.

A checkpoint of ComfyUI holds all parts in one file, told apart by prefixes. Plain Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from core.errors import ModelProblem
from core.safetensors_file import FLOAT8, Header, Place, TensorInfo, read_header, weight_files
from core.weights import names

SCALES = (".scale_weight", ".weight_scale")  # beside a weight of 8-bit floats: it is multiplied by this number
FLOAT8_EXTRAS = re.compile(r"(.+\.)?(scale_weight|weight_scale|scale_input|input_scale|comfy_quant|scaled_fp8)")
CHECKPOINT = ("model.diffusion_model.", "text_encoders.", "vae.", "first_stage_model.")  # several of these in one file
ENCODERS = {"clip_text_model": "clip_l", "t5": "t5xxl"}  # by a config's model_type, their names in such a file
DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"


def of_part(folder: Path, model_type: str = "") -> dict[str, Place]:
    """Every tensor of a part's folder, by our names; the tensors that are never used are left out.

    `model_type` is a text encoder's, in its config.json: it selects among the encoders of a checkpoint. Raises
    ModelProblem.
    """
    stem = TRANSFORMERS if folder.name.startswith("text_encoder") else DIFFUSERS
    return of_files(weight_files(folder, stem), folder.name, model_type)


def of_files(files: Iterable[Path], part: str = "", model_type: str = "") -> dict[str, Place]:
    """As `of_part`, of these files. Without a `part` the names stay as they are."""
    stored: dict[str, Place] = {}
    for path in files:
        stored |= of_header(path, read_header(path))
    return translated(own(stored, part, model_type), part)


def of_header(path: Path, header: Header) -> dict[str, Place]:
    """The place of every tensor of a file, by its name there."""
    return {name: Place(path, name, info, header.body + info.begin) for name, info in header.tensors.items()}


def own(stored: Mapping[str, Place], part: str, model_type: str = "") -> dict[str, Place]:
    """The tensors of one part, without their prefix."""
    before: tuple[str, ...] = CHECKPOINT if part and is_checkpoint(stored) else ()
    if part == "transformer":
        before = before[:1] or tuple(each for each in names.BEFORE if all(name.startswith(each) for name in stored))[:1]
    elif part == "vae":
        before = before[2:]
    elif before:
        encoders = [encoder for encoder in encoders_of(stored) if ENCODERS.get(model_type, "qwen") in encoder]
        before = tuple(f"text_encoders.{encoder}.transformer." for encoder in encoders[:1])
        if not before:
            raise ModelProblem(f"{next(iter(stored.values())).path} has no text encoder of the kind {model_type}.")
    if not before:
        return dict(stored)
    return {name[len(each) :]: place for name, place in stored.items() for each in before if name.startswith(each)}


def is_checkpoint(stored: Iterable[str]) -> bool:
    """Whether one file holds several parts of a model."""
    return len({each for name in stored for each in CHECKPOINT if name.startswith(each)}) > 1


def encoders_of(stored: Iterable[str]) -> list[str]:
    """The names of a checkpoint's text encoders."""
    return sorted({name.split(".")[1] for name in stored if name.startswith("text_encoders.") and name.count(".") > 2})


def translated(stored: Mapping[str, Place], part: str) -> dict[str, Place]:
    """The places under our names; fused tensors in parts, and scales with their weights."""
    translate = _translation(stored, part)
    scaled = any(place.info.dtype in FLOAT8 for place in stored.values())
    found: dict[str, Place] = {}
    for name, place in stored.items():
        if scaled and FLOAT8_EXTRAS.fullmatch(name):
            continue
        scale = _scale(stored, name) if place.info.dtype in FLOAT8 else None
        for share in translate(name):
            found[share.name] = _shared(replace(place, scale=scale) if scale else place, share)
    return found


def _translation(stored: Mapping[str, Place], part: str) -> Callable[[str], tuple[names.Share, ...]]:
    if part == "transformer" and (family := names.family_of(stored)):
        return names.of_transformer(family)
    if part == "vae" and names.VAE_ANCHORS[0] in stored:
        return names.of_vae(stored)
    if part.startswith("text_encoder"):
        return names.of_text(stored)
    return lambda name: (names.Share(name),)


def _scale(stored: Mapping[str, Place], name: str) -> Place | None:
    layer = name.removesuffix(".weight")
    scale = next((stored[layer + each] for each in SCALES if layer + each in stored), None)
    if scale is not None and scale.info.values != 1:
        raise ModelProblem(
            f"{scale.path} has {scale.info.values:,} scales for {name}; Likeness reads 8-bit floats with one scale."
        )
    return scale


def _shared(place: Place, share: names.Share) -> Place:
    """A part of a tensor; the tensor itself where ours is the same."""
    info = place.info
    if share.flat and len(info.shape) == 4 and info.shape[2:] == (1, 1):
        return replace(place, info=replace(info, shape=info.shape[:2]), whole=False)
    if share.swapped:
        return replace(place, swapped=True, whole=False)
    if share.of == 1:
        return place
    if not info.shape or info.shape[0] % share.of:
        raise ModelProblem(f"{place.path}: {place.name} has {info.shape}, whose rows are not {share.of} equal blocks.")
    rows, row_bytes = info.shape[0] // share.of, (info.end - info.begin) // info.shape[0]
    begin, length = share.first * rows * row_bytes, share.count * rows * row_bytes
    shape = (share.count * rows, *info.shape[1:])
    part = TensorInfo(info.dtype, shape, info.begin + begin, info.begin + begin + length)
    return replace(place, info=part, begin=place.begin + begin, whole=False)
