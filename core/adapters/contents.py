"""What an adapter file holds, read from its header alone: the layers that it changes, and with which tensors.

    kind    tensors of a layer                                              its change of a weight W (out, in)
    LoRA    lora_A (r, in), lora_B (out, r), or lora_down, lora_up          s B A
    LoHa    hada_w1_a, hada_w2_a (out, r), hada_w1_b, hada_w2_b (r, in)     s (w1_a w1_b) * (w2_a w2_b)
    LoKr    lokr_w1 (l, m), lokr_w2 (k, n); each may be two factors         s kron(w1, w2)     out = l k,  in = m n
    DoRA    one of these, and dora_scale or lora_magnitude_vector           core/adapters/dense.py

    s = alpha / r, with alpha in a tensor beside the others or in PEFT's settings (core/adapters/peft_config.py)

A file with an unknown tensor, or a name that is no layer of the model's family, is refused with the tensor's name: it
would not draw as it was trained. Only LoRA can be trained further and exported; the others are drawn with.

Plain Python: the web process validates an uploaded file with this. Sizes and names come from strangers.

Sources: the saved files of diffusers, PEFT 0.21, sd-scripts, ai-toolkit, OneTrainer and LyCORIS 3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.adapters import key_maps, peft_config
from core.errors import AdapterProblem, FieldProblem
from core.safetensors_file import Header, is_zero, read_header, read_number, shown

LORA, LOHA, LOKR = "LoRA", "LoHa", "LoKr"
HEADER_BYTES_AT_MOST = 10_000_000  # metadata included; FLUX.1's largest adapters have 1,500 tensors
TENSORS_AT_MOST = 10_000
NAME_AT_MOST = 300  # characters of a tensor's name
ALPHA_ASSUMED = (
    "names no alpha, so alpha = rank is assumed: strength 1 is then the strength that it was trained at. If an "
    "adapter_config.json came with it, give both files."
)
_TENSOR = re.compile(
    r"(?P<layer>.+?)\.(?:"
    r"(?:lora_(?P<ab>[AB])|lora[._](?P<way>down|up))(?:\.(?!weight$)\w+)?\.weight"
    r"|(?:lokr|hada)_(?P<factor>w[12](?:_[ab])?)"
    r"|(?P<magnitude>dora_scale|lora_magnitude_vector(?:\.\w+){0,2})"
    r"|(?P<alpha>alpha))"
)
_FLOATS = ("F32", "F16", "BF16")
_NUMBERS = (*_FLOATS, "F64", "I64", "I32")
_SHOWN = 12
_OTHER_KINDS = (  # (pattern in the tensor's name, what such a tensor is)
    (r"\b((oft|boft|glora)_|lokr_t|hada_t)|lora_mid|wd_for_diff|\bdiff(_b)?$",
     "belongs to another kind of adapter; LoRA, DoRA, LoHa and LoKr of linear layers are supported"),
    (r"^(lora_te|text_encoder|clip_|t5)", "is for a text encoder; only the transformer is adapted"),
    (r"^bundle_emb", "is an embedding; only the transformer is adapted"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """The change of one layer as a file holds it: its tensors, and our layers, in the order of their rows."""

    name: str  # of the layer in the file
    kind: str  # LORA, LOHA or LOKR
    shape: tuple[int, int]  # (out, in) of the change
    rank: int | None  # None for a LoKr of two whole factors, which alpha does not scale
    layers: tuple[str, ...]
    rows: tuple[int, ...]  # of the change, for each layer
    swapped: bool  # our layer has the halves of the rows in the other order
    tensors: Mapping[str, str]  # the factors: "A", "B", "w1", "w1_a", ... -> tensor
    alpha: str | None  # tensor
    magnitude: str | None  # tensor

    @property
    def plain(self) -> bool:
        """Whether A and B are all of it, so that it can be trained further and exported."""
        return self.kind == LORA and self.magnitude is None


def read(path: Path, family: str, name: str) -> tuple[Header, list[Part]]:
    """The header of a file, which messages call `name`, and its parts, for a model of this family.

    Raises AdapterProblem that names each tensor that is unknown, misshapen, duplicate or without its partner.
    """
    header = header_of(path, name)
    return header, parts_of(header, family, name)


def header_of(path: Path, name: str) -> Header:
    """The header of a file, which messages call `name`. Raises AdapterProblem."""
    header = read_header(path, AdapterProblem, name=name, bytes_at_most=HEADER_BYTES_AT_MOST)
    if len(header.tensors) > TENSORS_AT_MOST:
        raise AdapterProblem(f"{name} has {len(header.tensors):,} tensors; at most {TENSORS_AT_MOST:,} are read.")
    return header


def parts_of(header: Header, family: str, name: str) -> list[Part]:
    """The parts of a file with this header; see `read`."""
    problems: list[FieldProblem] = []
    grouped = _grouped(header, problems)
    if not any(set(roles) - {"alpha", "magnitude"} for roles in grouped.values()):
        message = f"{name} holds no LoRA: none of its {len(header.tensors)} tensors is a lora_A or a lora_down."
        raise AdapterProblem(message, _shortened(problems))
    found = [_part(layer, roles, header, family, problems) for layer, roles in grouped.items()]
    parts = [part for part in found if part is not None]
    for layer, names in _tensors_by_layer(parts).items():
        if len(names) > 1:
            problems.append(FieldProblem(shown(names[1]), f"is for {layer}, and so is {shown(names[0])}"))
    if problems:
        raise AdapterProblem(_message(name, family, list(grouped)), _shortened(problems))
    return parts


def families_of(header: Header) -> list[str]:
    """The families, that with most of the file's layers first."""
    layers = list(_grouped(header, []))
    return sorted(key_maps.FAMILIES, key=lambda family: -sum(bool(key_maps.row_of(each, family)) for each in layers))


def check(path: Path, header: Header, parts: Sequence[Part], name: str, config: str | None = None) -> bool:
    """Check that alpha can be read and that the file changes anything; return whether alpha = rank is assumed.

    `config` is the text of adapter_config.json, which lies beside the file if None.

    Raises AdapterProblem.
    """
    scales, assumed = scales_of(path, header, parts, name, config)
    if all(_is_nothing(path, header, part, scales[part.name]) for part in parts):
        raise AdapterProblem(all_zeros(name))
    return assumed


def check_plain(parts: Sequence[Part], name: str) -> None:
    """Raise AdapterProblem unless all parts are plain LoRA, which alone can be trained further and exported."""
    others = [part for part in parts if not part.plain]
    if others:
        kind = "DoRA" if others[0].magnitude is not None else others[0].kind
        words = f"is part of a {kind}"
        problems = [FieldProblem(shown(next(iter(part.tensors.values()))), words) for part in others]
        raise AdapterProblem(
            f"{name} is a {kind}, which can be drawn with, but neither trained further nor exported: that takes a "
            "plain LoRA.",
            _shortened(problems),
        )


def scales_of(
    path: Path, header: Header, parts: Sequence[Part], name: str, config: str | None = None
) -> tuple[dict[str, float], bool]:
    """alpha / rank of each part, by the file's name of its layer, and whether alpha = rank is assumed for one.

    Alpha tensors count before adapter_config.json, which may belong to another file. Raises AdapterProblem.
    """
    scales = {
        part.name: read_number(path, header, part.alpha) / part.rank if part.rank else 1.0
        for part in parts
        if part.alpha is not None
    }
    settings = peft_config.read(path, header.metadata, name, config, beside=not scales)
    if scales and settings:
        raise AdapterProblem(f"{name} has alpha twice, in tensors and in its metadata; they may disagree.")
    if settings is not None:
        scales = {part.name: settings.scale(key_maps.bare_name(part.name)[0], part.rank) for part in parts}
    if not all(math.isfinite(scale) for scale in scales.values()):
        raise AdapterProblem(f"{name} has an alpha that is not a number; it cannot be used.")
    without = [part for part in parts if part.name not in scales and part.rank is not None]
    return {part.name: scales.get(part.name, 1.0) for part in parts}, bool(without) and not _names_alpha(header)


def largest_rank(parts: Sequence[Part]) -> int:
    """The largest rank of a layer; fused layers count only when there are no others, as they stack ranks."""
    simple = [part for part in parts if len(part.layers) == 1]
    return max((part.rank or 0 for part in simple or parts), default=0) or max(min(part.shape) for part in parts)


def all_zeros(name: str) -> str:
    return f"{name} is all zeros: it would change nothing."


def _names_alpha(header: Header) -> bool:
    """Whether the header says that alpha is the rank, as our own files do."""
    rank, alpha = (header.metadata.get(f"ss_network_{each}") for each in ("dim", "alpha"))
    return rank is not None and rank == alpha


def _grouped(header: Header, problems: list[FieldProblem]) -> dict[str, dict[str, str]]:
    """The tensors by layer and role: "A", "B", "w1", ..., "alpha", "magnitude"."""
    grouped: dict[str, dict[str, str]] = {}
    for key, info in header.tensors.items():
        found = _TENSOR.fullmatch(key) if len(key) <= NAME_AT_MOST else None
        trouble = next((words for pattern, words in _OTHER_KINDS if re.search(pattern, key[:NAME_AT_MOST])), "")
        if trouble or found is None:
            problems.append(FieldProblem(shown(key), trouble or "is not part of a LoRA in a supported form"))
            continue
        role = found["ab"] or {"down": "A", "up": "B", None: ""}[found["way"]] or found["factor"]
        role = role or ("alpha" if found["alpha"] else "magnitude")
        if role == "alpha":
            if info.dtype not in _NUMBERS or info.values != 1:
                problems.append(FieldProblem(shown(key), f"is {info.dtype} {info.shape}; it must be a single number"))
        elif info.dtype not in _FLOATS or 0 in info.shape or (len(info.shape) != 2 and role != "magnitude"):
            words = f"is {info.dtype} {info.shape}; it must be a matrix of 16 or 32 bit"
            problems.append(FieldProblem(shown(key), words))
        if grouped.setdefault(found["layer"], {}).setdefault(role, key) != key:
            problems.append(FieldProblem(shown(key), f"duplicates {shown(grouped[found['layer']][role])}"))
    return grouped


def _part(name: str, roles: dict[str, str], header: Header, family: str, problems: list[FieldProblem]) -> Part | None:
    """One layer's tensors, or None, with the reasons added to `problems`."""
    factors = {role: key for role, key in roles.items() if role not in ("alpha", "magnitude")}
    first = shown(next(iter((factors or roles).values())))
    kind = _kind_of(factors)
    lacking = _lacking(kind, factors)
    if lacking:
        problems.append(FieldProblem(first, lacking))
        return None
    shapes = {role: header.tensors[key].shape for role, key in factors.items()}
    if not all(len(shape) == 2 for shape in shapes.values()) or any(0 in shape for shape in shapes.values()):
        return None  # reported already
    shape, rank, trouble = _measures(kind, shapes)
    if trouble:
        problems.append(FieldProblem(shown(factors.get("B", next(iter(factors.values())))), trouble))
        return None
    place = key_maps.row_of(name, family)
    if place is None:
        problems.append(FieldProblem(first, _misplaced(name, family)))
        return None
    row, number = place
    layers = tuple(ours.format(number) for ours in row.ours)
    rows = tuple(share * shape[1] for share in row.rows) if len(layers) > 1 else (shape[0],)
    if sum(rows) != shape[0]:
        expected = " + ".join(str(each) for each in rows)
        key = shown(factors["B"]) if "B" in factors else first
        problems.append(FieldProblem(key, f"has {shape[0]} rows; {shown(name)} needs {expected}"))
        return None
    magnitude = roles.get("magnitude")
    if magnitude is not None:
        of = header.tensors[magnitude].shape
        if of not in ((shape[0],), (shape[0], 1), (1, shape[1])):
            words = f"is {of}; a magnitude for this layer is ({shape[0]}, 1) or (1, {shape[1]})"
            problems.append(FieldProblem(shown(magnitude), words))
            return None
    return Part(name, kind, shape, rank, layers, rows, row.swapped, factors, roles.get("alpha"), magnitude)


def _kind_of(factors: Mapping[str, str]) -> str:
    if "A" in factors or "B" in factors or not factors:
        return LORA
    return LOHA if any(".hada_" in key for key in factors.values()) else LOKR


def _lacking(kind: str, factors: Mapping[str, str]) -> str:
    """Which factors are missing or too many; empty if none."""
    if kind == LORA:
        missing = [word for role, word in (("A", "lora_A"), ("B", "lora_B")) if role not in factors]
        more = [role for role in factors if role not in "AB"]
    elif kind == LOHA:
        needed = ("w1_a", "w1_b", "w2_a", "w2_b")
        missing = [f"hada_{role}" for role in needed if role not in factors]
        more = [key for role, key in factors.items() if role not in needed or ".hada_" not in key]
    else:
        missing, more = [], [key for key in factors.values() if ".lokr_" not in key]
        for which in ("w1", "w2"):
            halves = [f"{which}_{half}" in factors for half in "ab"]
            if which in factors:
                more += [f"{which}_a"] if any(halves) else []
            elif not all(halves):
                missing.append(f"lokr_{which}")
    if missing:
        return f"has no {' and '.join(missing)} beside it"
    return "is beside factors of another kind" if more else ""


def _measures(kind: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[int, int], int | None, str]:
    """(out, in) of a change, its rank, and why its factors do not go together; empty if they do."""

    def product(first: str, second: str) -> tuple[int, int]:
        if shapes[first][1] != shapes[second][0]:
            raise ValueError(f"is {shapes[second]} and its partner is {shapes[first]}; they do not share a rank")
        return shapes[first][0], shapes[second][1]

    try:
        if kind == LORA:
            if shapes["A"][0] != shapes["B"][1]:
                raise ValueError(f"is {shapes['B']} and its lora_A is {shapes['A']}; they do not share a rank")
            return product("B", "A"), shapes["A"][0], ""
        if kind == LOHA:
            first, second = product("w1_a", "w1_b"), product("w2_a", "w2_b")
            if first != second:
                raise ValueError(f"is {first} when multiplied out, and its partner is {second}")
            return first, shapes["w1_b"][0], ""
        whole = [
            (shapes[each][0], shapes[each][1]) if each in shapes else product(f"{each}_a", f"{each}_b")
            for each in ("w1", "w2")
        ]
        ranks = [shapes[each][0] for each in ("w2_b", "w1_b") if each in shapes]
        return (whole[0][0] * whole[1][0], whole[0][1] * whole[1][1]), ranks[0] if ranks else None, ""
    except ValueError as error:
        return (0, 0), None, str(error)


def _misplaced(name: str, family: str) -> str:
    others = [key_maps.TITLES[each] for each in key_maps.families_of(name)]
    if others:
        return f"names a layer of {' and '.join(others)}; this model is {key_maps.TITLES.get(family, family)}"
    *most, last = key_maps.TITLES.values()
    return f"names no layer of {', '.join(most)} or {last}"


def _message(name: str, family: str, layers: Sequence[str]) -> str:
    """What is wrong with the file as a whole."""
    if not any(key_maps.row_of(layer, family) for layer in layers):
        for other, title in key_maps.TITLES.items():
            if all(key_maps.row_of(layer, other) for layer in layers):
                return (
                    f"{name} was made for {title}, and this model is {key_maps.TITLES.get(family, family)}: choose a "
                    "model that it fits."
                )
    return f"{name} is not an adapter file in a supported form."


def _is_nothing(path: Path, header: Header, part: Part, scale: float) -> bool:
    """Whether the change of a part is zero because a factor is."""
    if part.magnitude is not None:
        return False
    return scale == 0 or any(is_zero(path, header, key) for key in part.tensors.values())


def _tensors_by_layer(parts: Sequence[Part]) -> dict[str, list[str]]:
    tensors: dict[str, list[str]] = {}
    for part in parts:
        for layer in part.layers:
            tensors.setdefault(layer, []).append(next(iter(part.tensors.values())))
    return tensors


def _shortened(problems: list[FieldProblem]) -> list[FieldProblem]:
    more = len(problems) - _SHOWN
    return problems if more <= 0 else [*problems[:_SHOWN], FieldProblem("...", f"and {more} more")]
