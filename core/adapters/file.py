"""An adapter as a file: read from any form, and written so that what lies on the disk is known to be right.

    y = W x + (alpha / rank) B A x          alpha / rank is multiplied into B when a file is read

    a fused layer, three (or four) of ours in one:      [B_q]             q gets the rows that are its own, and of A
                                                    B = [B_k],  A         those that its rows of B use: all of them,
                                                        [B_v]             or its own block where B is block-diagonal

alpha is a tensor beside A and B (kohya), or stands in the header (diffusers), or in adapter_config.json beside a file
that PEFT saved; with none of them it is the rank. Splitting drops only rows of A that are multiplied by zeros, so
B A stays what it was.

Dtypes   factors float32, whatever the file holds

Source: the forms are listed in core/adapters/key_maps.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from safetensors import safe_open

from core import files, safetensors_file
from core.adapters.key_maps import DIFFUSERS, Held, bare_name, held_in
from core.adapters.lora import Factors
from core.errors import AdapterProblem
from core.numerics import arrays
from core.safetensors_file import Content, Header, read_header, read_number

PLAIN = {mx.float32: ("F32", mx.float32), mx.bfloat16: ("BF16", mx.uint16)}
"""A dtype in the format's words, and one of its width that Python's memoryview knows."""
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """What an adapter file holds: (A, B) by module path, float32, and its metadata."""

    factors: dict[str, tuple[mx.array, mx.array]]
    metadata: dict[str, str]

    @property
    def rank(self) -> int:
        """The largest rank of any layer."""
        return max(a_RI.shape[0] for a_RI, _ in self.factors.values())

    @property
    def trigger(self) -> str:
        return self.metadata.get("modelspec.trigger_phrase", "")


def read(path: Path, family: str) -> AdapterFile:
    """Read an adapter file for a model of this family ("flux1"), ours or another program's.

    Raises AdapterProblem, naming the tensors, when it is broken, foreign, or has halves missing.
    """
    header = read_header(path, AdapterProblem)
    held = held_in(header, family, path.name)
    scales = _scales(path, header, held)
    factors: dict[str, tuple[mx.array, mx.array]] = {}
    try:
        tensors = arrays.load(path)
        for pair in held:
            a_RI, b_OR = tensors.pop(pair.a).astype(mx.float32), tensors.pop(pair.b).astype(mx.float32)
            factors.update(_split(pair, a_RI, b_OR * scales[pair.name]))
        mx.eval(factors)
    except RuntimeError as error:
        raise AdapterProblem(f"{path.name} cannot be read: {error}.") from error
    if not factors:
        raise AdapterProblem(f"{path.name} is all zeros: it would change nothing.")
    if not all_finite(factors):
        raise AdapterProblem(f"{path.name} holds values that are not numbers; it cannot be used.")
    return AdapterFile(factors, header.metadata)


def write(
    path: Path,
    tensors: Mapping[str, mx.array],
    metadata: Mapping[str, str],
    check: Callable[[Path], None] = lambda _: None,
) -> None:
    """Write tensors to `path`, whole and read back: bit for bit here, by name with the reader that others have.

    `check` may look at the written file, and raise, before it gets its name.

    Raises AdapterProblem when what is on the disk differs, DiskProblem when it cannot be written.
    """
    contents = contents_of(tensors)
    with files.atomic_file(path) as part:
        fill(part, contents, metadata, path.name)
        check(part)


def fill(part: Path, contents: Mapping[str, Content], metadata: Mapping[str, str], name: str) -> None:
    """`write` into a file that gets its name, and is flushed, later; `name` is what a sentence calls it.

    Any thread can do it. Raises AdapterProblem when what can be read there differs.
    """
    safetensors_file.write(part, contents, {"format": "pt", **metadata})
    with safe_open(part, framework="np") as other:
        whole = set(other.keys()) == contents.keys()
    if not whole or not safetensors_file.holds(part, contents):
        raise AdapterProblem(f"{name} was written, but what is on the disk differs. Check the disk.")


def contents_of(tensors: Mapping[str, mx.array]) -> dict[str, Content]:
    """The bytes of float32 and bfloat16 arrays where they lie, evaluated, for a thread that must not touch MLX.

    As long as they are held nothing writes over the arrays. On CUDA they are moved to where the processor can read.
    """
    rows = {name: mx.contiguous(value) for name, value in tensors.items()}
    plain = {name: value.view(PLAIN[value.dtype][1]) for name, value in rows.items()}
    mx.eval(plain)
    return {
        name: Content(PLAIN[value.dtype][0], value.shape, arrays.bytes_view(plain[name]))
        for name, value in rows.items()
    }


def check_worth(factors: Factors) -> None:
    """Raise AdapterProblem when an adapter is empty, not finite, or all zeros (then it would change nothing)."""
    if not factors:
        raise AdapterProblem("This adapter is empty: it has no layers.")
    if not all_finite(factors):
        raise AdapterProblem("This adapter holds values that are not numbers; use an earlier checkpoint.")
    if not mx.any(mx.stack([mx.any(b_OR != 0) for _, b_OR in factors.values()])).item():
        raise AdapterProblem("This adapter is all zeros: it has not been trained yet and would change nothing.")


def all_finite(factors: Factors) -> bool:
    return bool(mx.all(mx.stack([mx.all(mx.isfinite(each)) for pair in factors.values() for each in pair])).item())


def used_columns(b_OR: mx.array) -> list[int]:
    """The columns of B that are not all zeros."""
    return [int(column) for column in np.flatnonzero(np.asarray(mx.any(b_OR != 0, axis=0)))]


def _split(pair: Held, a_RI: mx.array, b_OR: mx.array) -> dict[str, tuple[mx.array, mx.array]]:
    """The factors of each layer that the pair is for; a fused part that would change nothing is left out."""
    if pair.swapped:
        first, second = mx.split(b_OR, 2, axis=0)
        b_OR = mx.concatenate([second, first])
    if len(pair.layers) == 1:
        return {pair.layers[0]: (a_RI, b_OR)}
    found, begin = {}, 0
    for layer, rows in zip(pair.layers, pair.rows, strict=True):
        part_OR = b_OR[begin : begin + rows]
        begin += rows
        used = used_columns(part_OR)
        if used:
            found[layer] = (a_RI[mx.array(used)], part_OR[:, mx.array(used)])
    return found


def _scales(path: Path, header: Header, held: list[Held]) -> dict[str, float]:
    """alpha / rank of each pair, by the name that the file has for its layer."""
    ranks = {pair.name: header.tensors[pair.a].shape[0] for pair in held}
    scales = {
        pair.name: read_number(path, header, pair.alpha) / ranks[pair.name] for pair in held if pair.alpha is not None
    }
    config = _peft_config(path, header.metadata)
    if scales and config:
        raise AdapterProblem(f"{path.name} says its alpha twice, in tensors and in its metadata; they may disagree.")
    if config:
        scales = {name: _peft_scale(bare_name(name)[0], rank, config, path.name) for name, rank in ranks.items()}
    if not all(math.isfinite(scale) for scale in scales.values()):
        raise AdapterProblem(f"{path.name} has an alpha that is not a number; it cannot be used.")
    return {name: scales.get(name, 1.0) for name in ranks}


def _peft_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The settings of PEFT's LoraConfig that come with a file, or nothing. Raises AdapterProblem."""
    text = metadata.get("lora_adapter_metadata", "")
    beside = path.with_name(PEFT_CONFIG)
    try:
        if not text and path.name == PEFT_FILE and beside.is_file():
            text = beside.read_text(encoding="utf-8")
        return {str(key).removeprefix(DIFFUSERS): value for key, value in dict(json.loads(text or "{}")).items()}
    except (ValueError, TypeError, OSError):
        raise AdapterProblem(f"{path.name} has settings of PEFT (lora_alpha ...) that cannot be read.") from None


def _peft_scale(layer: str, rank: int, config: Mapping[str, Any], file_name: str) -> float:
    """lora_alpha / rank, or over the root of the rank with rsLoRA; `alpha_pattern` names layers that have their own."""
    try:
        alpha = float(config["lora_alpha"])
        for pattern, value in dict(config.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", layer):
                alpha = float(value)
                break
    except (KeyError, ValueError, TypeError, re.error):
        raise AdapterProblem(f"{file_name} has settings of PEFT with a lora_alpha that cannot be read.") from None
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
