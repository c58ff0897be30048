"""Names of layers in adapter files, in every form that Likeness reads or writes.

    form        before the layer     a layer                          after it
    diffusers   transformer.         transformer_blocks.0.attn.to_q   .lora_A.weight     .lora_B.weight
    PEFT        base_model.model.    transformer_blocks.0.attn.to_q   the same, or .lora_A.default.weight
    BFL         diffusion_model.     double_blocks.0.img_attn.qkv     the same, or .lora_down.weight .lora_up.weight
    kohya       lora_unet_           double_blocks_0_img_attn_qkv     .lora_down.weight  .lora_up.weight  .alpha

Prefix, layer and suffix are matched independently, so mixtures of the forms, and layers without a prefix, are read as
well. A file with an unknown tensor is refused, with the tensor's name, because it would not draw as it was trained.

The rows below map the layer names of the models' own code (BFL's, Z-Image's) to those of diffusers. Where diffusers
splits a layer, `rows` says how many rows of B each part gets, in widths d of the layer's input.

Plain Python: the web process validates an uploaded file by its header alone.

Sources: diffusers 0.42.1, loaders/lora_conversion_utils.py; ai-toolkit's and sd-scripts' saved files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from core.errors import AdapterProblem, FieldProblem
from core.safetensors_file import Header

TRIGGER = "modelspec.trigger_phrase"
"""The metadata key of the trigger."""
DIFFUSERS, KOHYA = "transformer.", "lora_unet_"
_BEFORE = ("base_model.model.", "model.", "diffusion_model.", "transformer.")
_BEFORE_UNDERSCORES = (KOHYA, "lora_transformer_")
_FACTOR = re.compile(
    r"(?P<name>.+?)\.(?:(?:lora_(?P<ab>[AB])|lora[._](?P<way>down|up))(?:\.(?!weight$)\w+)?\.weight|(?P<alpha>alpha))"
)
_FLOATS = ("F32", "F16", "BF16")
_NUMBERS = (*_FLOATS, "F64", "I64", "I32")
_SHOWN = 12
_OTHER_KINDS = (  # (pattern in the tensor's name, what such a tensor is)
    (r"dora_scale|lora_magnitude_vector", "belongs to a DoRA; only plain LoRA is supported"),
    (
        r"\b(lokr|hada|oft|boft|glora)_|lora_mid|\bdiff(_b)?$",
        "belongs to another kind of LyCORIS; only LoRA is supported",
    ),
    (r"^(lora_te|text_encoder|clip_|t5xxl)", "is for a text encoder; only the transformer is adapted"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A layer's name in its model's own code, and the names of the same layers in diffusers; {} is the block number."""

    theirs: str
    ours: tuple[str, ...]
    rows: tuple[int, ...] = (1,)  # rows of B for each of ours, in widths of the layer's input
    swapped: bool = False  # diffusers has the halves of the rows (shift, scale) in the other order


@dataclass(frozen=True, slots=True)
class FactorPair:
    """One pair of factors in a file: its tensors, and our layers, in the order of their rows in B."""

    name: str  # of the layer in the file
    layers: tuple[str, ...]
    rows: tuple[int, ...]  # of B for each layer
    swapped: bool
    a: str  # names of tensors
    b: str
    alpha: str | None


def _one(theirs: str, ours: str, *, swapped: bool = False) -> Row:
    return Row(theirs, (ours,), swapped=swapped)


def _flux_attention(theirs: str, ours: str) -> Iterator[Row]:
    """Attention of both streams in a double block, the same in FLUX.1 and FLUX.2."""
    for stream, names in (("img", ("to_q", "to_k", "to_v")), ("txt", ("add_q_proj", "add_k_proj", "add_v_proj"))):
        yield Row(f"{theirs}.{stream}_attn.qkv", tuple(f"{ours}.attn.{name}" for name in names), (1, 1, 1))
    yield _one(f"{theirs}.img_attn.proj", f"{ours}.attn.to_out.0")
    yield _one(f"{theirs}.txt_attn.proj", f"{ours}.attn.to_add_out")


_DOUBLE, _OUR_DOUBLE = "double_blocks.{}", "transformer_blocks.{}"
_SINGLE, _OUR_SINGLE = "single_blocks.{}", "single_transformer_blocks.{}"

FLUX1 = (
    *_flux_attention(_DOUBLE, _OUR_DOUBLE),
    _one(f"{_DOUBLE}.img_mlp.0", f"{_OUR_DOUBLE}.ff.net.0.proj"),
    _one(f"{_DOUBLE}.img_mlp.2", f"{_OUR_DOUBLE}.ff.net.2"),
    _one(f"{_DOUBLE}.txt_mlp.0", f"{_OUR_DOUBLE}.ff_context.net.0.proj"),
    _one(f"{_DOUBLE}.txt_mlp.2", f"{_OUR_DOUBLE}.ff_context.net.2"),
    _one(f"{_DOUBLE}.img_mod.lin", f"{_OUR_DOUBLE}.norm1.linear"),
    _one(f"{_DOUBLE}.txt_mod.lin", f"{_OUR_DOUBLE}.norm1_context.linear"),
    Row(
        f"{_SINGLE}.linear1",
        tuple(f"{_OUR_SINGLE}.{name}" for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")),
        (1, 1, 1, 4),
    ),
    _one(f"{_SINGLE}.linear2", f"{_OUR_SINGLE}.proj_out"),
    _one(f"{_SINGLE}.modulation.lin", f"{_OUR_SINGLE}.norm.linear"),
    _one("img_in", "x_embedder"),
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
    _one("time_in.in_layer", "time_guidance_embed.timestep_embedder.linear_1"),
    _one("time_in.out_layer", "time_guidance_embed.timestep_embedder.linear_2"),
    _one("final_layer.linear", "proj_out"),
    _one("final_layer.adaLN_modulation.1", "norm_out.linear", swapped=True),
)


def _z_image_block(stack: str) -> Iterator[Row]:
    block = f"{stack}.{{}}"
    yield Row(f"{block}.attention.qkv", tuple(f"{block}.attention.to_{part}" for part in "qkv"), (1, 1, 1))
    yield _one(f"{block}.attention.out", f"{block}.attention.to_out.0")
    for same in ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3", "adaLN_modulation.0"):
        yield _one(f"{block}.{same}", f"{block}.{same}")


Z_IMAGE = (
    *_z_image_block("layers"),
    *_z_image_block("noise_refiner"),
    *_z_image_block("context_refiner"),
    _one("cap_embedder.1", "cap_embedder.1"),
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


def factor_pairs(header: Header, family: str, file_name: str) -> list[FactorPair]:
    """The pairs of factors in a file, with their layers in a model of this family.

    Raises AdapterProblem that names each tensor that is unknown, misshapen, duplicate or without its partner.
    """
    problems: list[FieldProblem] = []
    tensors: dict[str, dict[str, str]] = {}  # layer in the file -> "A", "B" or "alpha" -> tensor
    for key, info in header.tensors.items():
        found = _FACTOR.fullmatch(key)
        trouble = next((words for pattern, words in _OTHER_KINDS if re.search(pattern, key)), "")
        if trouble or found is None:
            problems.append(FieldProblem(key, trouble or "is not part of a LoRA in a supported form"))
            continue
        part = "alpha" if found["alpha"] else found["ab"] or {"down": "A", "up": "B"}[found["way"]]
        if part == "alpha":
            if info.dtype not in _NUMBERS or info.values != 1:
                problems.append(FieldProblem(key, f"is {info.dtype} {info.shape}; it must be a single number"))
        elif info.dtype not in _FLOATS or len(info.shape) != 2 or 0 in info.shape:
            problems.append(FieldProblem(key, f"is {info.dtype} {info.shape}; it must be a matrix of 16 or 32 bit"))
        if tensors.setdefault(found["name"], {}).setdefault(part, key) != key:
            problems.append(FieldProblem(key, f"duplicates {tensors[found['name']][part]}"))
    found_pairs = [_pair(name, parts, header, family, problems) for name, parts in tensors.items()]
    pairs = [pair for pair in found_pairs if pair is not None]
    for layer, names in _tensors_by_layer(pairs).items():
        if len(names) > 1:
            problems.append(FieldProblem(names[1], f"is for {layer}, and so is {names[0]}"))
    if not any("A" in parts for parts in tensors.values()):
        message = f"{file_name} holds no LoRA: none of its {len(header.tensors)} tensors is a lora_A or a lora_down."
        raise AdapterProblem(message, _shortened(problems))
    if problems:
        raise AdapterProblem(f"{file_name} is not an adapter file in a supported form.", _shortened(problems))
    return pairs


def largest_rank(header: Header, pairs: list[FactorPair]) -> int:
    """The largest rank of a layer; pairs of fused layers count only when there are no others, as they stack ranks."""
    simple = [pair for pair in pairs if len(pair.layers) == 1]
    return max(header.tensors[pair.a].shape[0] for pair in simple or pairs)


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


def _pair(
    name: str, parts: dict[str, str], header: Header, family: str, problems: list[FieldProblem]
) -> FactorPair | None:
    """One layer's tensors as a pair, or None, with the reasons added to `problems`."""
    if "A" not in parts or "B" not in parts:
        key = next(iter(parts.values()))
        missing = " and ".join(word for part, word in (("A", "lora_A"), ("B", "lora_B")) if part not in parts)
        problems.append(FieldProblem(key, f"has no {missing} beside it"))
        return None
    a, b = (header.tensors[parts[part]] for part in "AB")
    if len(a.shape) != 2 or len(b.shape) != 2:
        return None  # reported already
    if a.shape[0] != b.shape[1]:
        problems.append(FieldProblem(parts["B"], f"is {b.shape} and its lora_A is {a.shape}; they do not share a rank"))
        return None
    row, number = _row_of(name, family)
    if row is None:
        problems.append(FieldProblem(parts["A"], "names no layer of this model's family"))
        return None
    layers = tuple(ours.format(number) for ours in row.ours)
    rows = tuple(share * a.shape[1] for share in row.rows) if len(layers) > 1 else (b.shape[0],)
    if sum(rows) != b.shape[0]:
        expected = " + ".join(str(each) for each in rows)
        problems.append(FieldProblem(parts["B"], f"has {b.shape[0]} rows; {name} needs {expected}"))
        return None
    return FactorPair(name, layers, rows, row.swapped, parts["A"], parts["B"], parts.get("alpha"))


def _row_of(name: str, family: str) -> tuple[Row | None, str]:
    """The row of a layer's name and the block number; an unknown dotted name is taken as a path in diffusers."""
    bare, underscores = bare_name(name)
    for pattern, row in _patterns(family, underscores):
        match = pattern.fullmatch(bare)
        if match is not None:
            return row, next(iter(match.groups()), "")
    return (None, "") if underscores else (Row(bare, (bare.replace("{", "{{").replace("}", "}}"),)), "")


@cache
def _patterns(family: str, underscores: bool) -> list[tuple[re.Pattern[str], Row]]:
    """The patterns of all names of a family's layers: the model's own, and each of diffusers."""
    found = []
    for row in FAMILIES.get(family, ()):
        found.append((_pattern(row.theirs, underscores), row))
        found += [(_pattern(ours, underscores), Row(ours, (ours,))) for ours in row.ours]
    return found


def _pattern(name: str, underscores: bool) -> re.Pattern[str]:
    text = name.replace(".", "_") if underscores else name
    return re.compile(re.escape(text).replace(r"\{\}", r"(\d+)"))


def _tensors_by_layer(pairs: list[FactorPair]) -> dict[str, list[str]]:
    tensors: dict[str, list[str]] = {}
    for pair in pairs:
        for layer in pair.layers:
            tensors.setdefault(layer, []).append(pair.a)
    return tensors


def _shortened(problems: list[FieldProblem]) -> list[FieldProblem]:
    more = len(problems) - _SHOWN
    return problems if more <= 0 else [*problems[:_SHOWN], FieldProblem("...", f"and {more} more")]
