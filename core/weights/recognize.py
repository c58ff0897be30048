"""What a file of weights contains, by the names and shapes of its tensors: never by its name.

    transformer     the family, by a tensor that only it has; its sizes: blocks, widths, guidance
    text encoder    CLIP, T5, Qwen3 or the text tower of Qwen3-VL, and its width
    VAE             channels of its latents, and whether it has FLUX.2's statistics

Sizes have the names of config.json, so that they compare with those of known models. Plain Python over the header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.safetensors_file import FLOAT8, Header, Place
from core.weights import names, places

CLIP, T5, QWEN3, QWEN3_VL, VAE, TRANSFORMER = "clip", "t5", "qwen3", "qwen3_vl", "vae", "transformer"
TITLES = {
    CLIP: "CLIP text encoder", T5: "T5 text encoder", QWEN3: "Qwen3 text encoder",
    QWEN3_VL: "Qwen3-VL text encoder", VAE: "VAE", TRANSFORMER: "transformer",
}  # fmt: skip
_WORDS = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}
_TEXT = (  # a tensor that only this kind of encoder has, and one whose last length is the encoder's width
    (CLIP, "text_model.encoder.layers.0.mlp.fc1.weight"),
    (CLIP, "encoder.layers.0.mlp.fc1.weight"),
    (T5, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"),
    (QWEN3_VL, "model.language_model.layers.0.self_attn.q_proj.weight"),
    (QWEN3, "model.layers.0.self_attn.q_proj.weight"),
)


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a model: its kind, for a transformer its family, and its sizes."""

    kind: str
    family: str = ""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = ""  # "bf16", "fp8", ...: of its largest matrices
    encoder: str = ""  # a text encoder's name in a checkpoint


def components(path: Path, header: Header) -> list[Component]:
    """The parts in a file; empty when nothing of ours is in it. Raises ModelProblem for impossible shapes."""
    stored = places.of_header(path, header)
    if not places.is_checkpoint(stored):
        transformer = places.own(stored, "transformer")
        found = [_transformer(transformer), _vae(stored), _text(stored)]
        return [each for each in found if each is not None][:1]
    found = [_transformer(places.own(stored, "transformer")), _vae(places.own(stored, "vae"))]
    for encoder in places.encoders_of(stored):
        before = f"text_encoders.{encoder}.transformer."
        own = {name[len(before) :]: place for name, place in stored.items() if name.startswith(before)}
        found.append(_text(own, encoder))
    return [each for each in found if each is not None]


def _transformer(stored: Mapping[str, Place]) -> Component | None:
    family = names.family_of(stored)
    if family is None:
        return None
    ours = places.translated(stored, TRANSFORMER)
    sizes = {name: value for name, value in _SIZES[family](ours).items() if value is not None}
    return Component(TRANSFORMER, family, sizes, _dtype(stored))


def _blocks(ours: Iterable[str], stack: str) -> int:
    """The number of blocks in a stack."""
    before = f"{stack}."
    numbers = {name[len(before) :].partition(".")[0] for name in ours if name.startswith(before)}
    return len({number for number in numbers if number.isdecimal()})


def _length(ours: Mapping[str, Place], name: str, axis: int) -> int | None:
    place = ours.get(name)
    return place.info.shape[axis] if place is not None and len(place.info.shape) == 2 else None


def _flux_sizes(ours: Mapping[str, Place]) -> dict[str, Any]:
    return {
        "num_layers": _blocks(ours, "transformer_blocks"),
        "num_single_layers": _blocks(ours, "single_transformer_blocks"),
        "width": _length(ours, "x_embedder.weight", 0),
        "channels": _length(ours, "x_embedder.weight", 1),
        "joint_attention_dim": _length(ours, "context_embedder.weight", 1),
        "pooled_projection_dim": _length(ours, "time_text_embed.text_embedder.linear_1.weight", 1),
        "guidance_embeds": any(".guidance_embedder." in name for name in ours),
    }


def _flux3_sizes(ours: Mapping[str, Place]) -> dict[str, Any]:
    return {
        "num_layers": _blocks(ours, "txt_mode_blocks"),
        "num_single_layers": _blocks(ours, "single_transformer_blocks"),
        "width": _length(ours, "x_embedders.image.weight", 0),
        "channels": _length(ours, "x_embedders.image.weight", 1),
        "joint_attention_dim": _length(ours, "context_embedder.weight", 1),
        "flow_map": any(name.startswith("target_timestep_embedder.") for name in ours),
    }


def _z_image_sizes(ours: Mapping[str, Place]) -> dict[str, Any]:
    return {
        "n_layers": _blocks(ours, "layers"),
        "n_refiner_layers": _blocks(ours, "noise_refiner"),
        "dim": _length(ours, "all_x_embedder.2-1.weight", 0),
        "channels": _length(ours, "all_x_embedder.2-1.weight", 1),
        "cap_feat_dim": _length(ours, "cap_embedder.1.weight", 1),
    }


_SIZES = {
    "flux1": _flux_sizes, "flux2": _flux_sizes, "chroma": _flux_sizes, "flux3": _flux3_sizes,
    "z_image": _z_image_sizes,
}  # fmt: skip


def _vae(stored: Mapping[str, Place]) -> Component | None:
    entry = stored.get("decoder.conv_in.weight")
    if entry is None or len(entry.info.shape) != 4 or not any(anchor in stored for anchor in names.VAE_ANCHORS):
        return None
    sizes = {"latent_channels": entry.info.shape[1], "statistics": "bn.running_mean" in stored}
    return Component(VAE, sizes=sizes, dtype=_dtype(stored))


def _text(stored: Mapping[str, Place], encoder: str = "") -> Component | None:
    for kind, anchor in _TEXT:
        width = _length(stored, anchor, 1)
        if width is not None and not (kind == QWEN3 and "model.layers.0.self_attn.q_norm.weight" not in stored):
            return Component(kind, sizes={"width": width}, dtype=_dtype(stored), encoder=encoder)
    return None


def _dtype(stored: Mapping[str, Place]) -> str:
    """The dtype of most of the numbers, as file names have it."""
    counts: dict[str, int] = {}
    for place in stored.values():
        counts[place.info.dtype] = counts.get(place.info.dtype, 0) + place.info.values
    most = max(counts, key=lambda dtype: counts[dtype], default="")
    scaled = any(name.endswith(places.SCALES) for name in stored)
    return ("fp8 scaled" if scaled else "fp8") if most in FLOAT8 else _WORDS.get(most, most)
