"""Adapter files: read from every supported form, written with a read-back check.

    y = W x + (alpha / rank) B A x          alpha / rank is multiplied into B when a file is read

    a fused layer contains three or four of ours:       [B_q]             q gets its own rows of B, and those rows of A
                                                    B = [B_k],  A         that they use: all, or its own block where B
                                                        [B_v]             is block-diagonal

alpha is a tensor beside A and B (kohya), an entry of the header (diffusers), or in adapter_config.json beside a file
saved by PEFT; without any of them it is the rank. Splitting drops only rows of A that are multiplied by zeros, so B A
does not change.

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
from core.adapters.key_maps import DIFFUSERS, FactorPair, bare_name, factor_pairs
from core.adapters.lora import Factors
from core.errors import AdapterProblem
from core.numerics import arrays
from core.safetensors_file import Content, Header, read_header, read_number

PLAIN = {mx.float32: ("F32", mx.float32), mx.bfloat16: ("BF16", mx.uint16)}
"""A dtype in the format's spelling, and one of the same width that Python's buffers support."""
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """The content of an adapter file: (A, B) by module path, float32, and its metadata."""

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
    """Read an adapter file for a model of this family ("flux1"), saved by Likeness or another program.

    Raises AdapterProblem that names the tensors when it is damaged, of an unknown form, or incomplete.
    """
    header = read_header(path, AdapterProblem)
    pairs = factor_pairs(header, family, path.name)
    scales = _scales(path, header, pairs)
    factors: dict[str, tuple[mx.array, mx.array]] = {}
    try:
        tensors = arrays.load_tensors(path)
        for pair in pairs:
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
    """Write tensors to `path` atomically and read them back: the bits here, the names with the safetensors library.

    `check` may inspect the written file, and raise, before it is renamed to `path`.

    Raises AdapterProblem when the written file differs, DiskProblem when it cannot be written.
    """
    contents = contents_of(tensors)
    with files.atomic_file(path) as part:
        fill(part, contents, metadata, path.name)
        check(part)


def fill(part: Path, contents: Mapping[str, Content], metadata: Mapping[str, str], name: str) -> None:
    """`write` into a temporary file that the caller flushes and renames; messages call it `name`.

    Works in any thread. Raises AdapterProblem when the written file differs.
    """
    safetensors_file.write(part, contents, {"format": "pt", **metadata})
    with safe_open(part, framework="np") as other:
        same_names = set(other.keys()) == contents.keys()
    if not same_names or not safetensors_file.holds(part, contents):
        raise AdapterProblem(f"{name} was written, but reading it back gives other values. Check the disk.")


def contents_of(tensors: Mapping[str, mx.array]) -> dict[str, Content]:
    """Views of the bytes of float32 and bfloat16 arrays, evaluated, for a thread that must not use MLX.

    The views keep the arrays alive. On CUDA the arrays are moved to memory that the processor can read.
    """
    rows = {name: mx.contiguous(value) for name, value in tensors.items()}
    plain = {name: value.view(PLAIN[value.dtype][1]) for name, value in rows.items()}
    mx.eval(plain)
    return {
        name: Content(PLAIN[value.dtype][0], value.shape, arrays.bytes_view(plain[name]))
        for name, value in rows.items()
    }


def check_worth(factors: Factors) -> None:
    """Raise AdapterProblem when an adapter is empty, not finite, or all zeros and so without effect."""
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


def _split(pair: FactorPair, a_RI: mx.array, b_OR: mx.array) -> dict[str, tuple[mx.array, mx.array]]:
    """The factors of each layer of the pair; parts of a fused layer with B = 0 are left out."""
    if pair.swapped:
        first, second = mx.split(b_OR, 2, axis=0)
        b_OR = mx.concatenate([second, first])
    if len(pair.layers) == 1:
        return {pair.layers[0]: (a_RI, b_OR)}
    factors, begin = {}, 0
    for layer, rows in zip(pair.layers, pair.rows, strict=True):
        part_OR = b_OR[begin : begin + rows]
        begin += rows
        used = used_columns(part_OR)
        if used:
            factors[layer] = (a_RI[mx.array(used)], part_OR[:, mx.array(used)])
    return factors


def _scales(path: Path, header: Header, pairs: list[FactorPair]) -> dict[str, float]:
    """alpha / rank of each pair, by the file's name of its layer."""
    ranks = {pair.name: header.tensors[pair.a].shape[0] for pair in pairs}
    scales = {
        pair.name: read_number(path, header, pair.alpha) / ranks[pair.name] for pair in pairs if pair.alpha is not None
    }
    config = _peft_config(path, header.metadata)
    if scales and config:
        raise AdapterProblem(f"{path.name} has alpha twice, in tensors and in its metadata; they may disagree.")
    if config:
        scales = {name: _peft_scale(bare_name(name)[0], rank, config, path.name) for name, rank in ranks.items()}
    if not all(math.isfinite(scale) for scale in scales.values()):
        raise AdapterProblem(f"{path.name} has an alpha that is not a number; it cannot be used.")
    return {name: scales.get(name, 1.0) for name in ranks}


def _peft_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """PEFT's LoraConfig of a file, or {}. Raises AdapterProblem."""
    text = metadata.get("lora_adapter_metadata", "")
    beside = path.with_name(PEFT_CONFIG)
    try:
        if not text and path.name == PEFT_FILE and beside.is_file():
            text = beside.read_text(encoding="utf-8")
        return {str(key).removeprefix(DIFFUSERS): value for key, value in dict(json.loads(text or "{}")).items()}
    except (ValueError, TypeError, OSError):
        raise AdapterProblem(f"{path.name} has settings of PEFT (lora_alpha ...) that cannot be read.") from None


def _peft_scale(layer: str, rank: int, config: Mapping[str, Any], file_name: str) -> float:
    """lora_alpha / rank, or lora_alpha / sqrt(rank) with rsLoRA; `alpha_pattern` overrides alpha by layer."""
    try:
        alpha = float(config["lora_alpha"])
        for pattern, value in dict(config.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", layer):
                alpha = float(value)
                break
    except (KeyError, ValueError, TypeError, re.error):
        raise AdapterProblem(f"{file_name} has settings of PEFT with a lora_alpha that cannot be read.") from None
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
