"""Adapter files: read from every supported form, written with a read-back check.

    y = W x + (alpha / rank) B A x          alpha / rank is multiplied into B when a file is read

    a fused layer contains three or four of ours:       [B_q]             q gets its own rows of B, and those rows of A
                                                    B = [B_k],  A         that they use: all, or its own block where B
                                                        [B_v]             is block-diagonal

alpha is a tensor beside A and B (kohya), or in PEFT's settings (core/adapters/peft_config.py); without either it is the
rank. Splitting drops only rows of A that are multiplied by zeros, so B A does not change.

`read` takes plain LoRA, which can be trained further and exported; `read_to_draw` takes LoHa, LoKr and DoRA too.

Dtypes   factors float32, whatever the file holds

Source: the forms are listed in core/adapters/key_maps.py and core/adapters/contents.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from safetensors import safe_open

from core import files, safetensors_file
from core.adapters import contents
from core.adapters.contents import Part
from core.adapters.dense import DensePart
from core.adapters.key_maps import TRIGGER
from core.adapters.lora import Factors
from core.errors import AdapterProblem
from core.numerics import arrays
from core.safetensors_file import Content

PLAIN = {mx.float32: ("F32", mx.float32), mx.bfloat16: ("BF16", mx.uint16)}
"""A dtype in the format's spelling, and one of the same width that Python's buffers support."""


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
        return self.metadata.get(TRIGGER, "")


@dataclass(frozen=True, slots=True)
class DrawingFile:
    """The content of an adapter file to draw with: (A, B) by module path, and the parts that are more than LoRA."""

    factors: dict[str, tuple[mx.array, mx.array]]
    parts: list[DensePart]
    alpha_assumed: bool  # it names no alpha, so that alpha = rank is assumed


def read(path: Path, family: str, name: str = "") -> AdapterFile:
    """Read a plain LoRA for a model of this family ("flux1"), saved by Likeness or another program.

    Messages call the file `name`, or by its own name.

    Raises AdapterProblem that names the tensors when it is damaged, of an unknown form, incomplete, or no plain LoRA.
    """
    header, parts = contents.read(path, family, name or path.name)
    contents.check_plain(parts, name or path.name)
    scales, _ = contents.scales_of(path, header, parts, name or path.name)
    return AdapterFile(_loaded(path, parts, scales, name or path.name).factors, header.metadata)


def read_to_draw(path: Path, family: str, name: str = "") -> DrawingFile:
    """Read an adapter of any supported kind: LoRA, LoHa, LoKr or DoRA. Raises AdapterProblem as `read` does."""
    header, parts = contents.read(path, family, name or path.name)
    scales, assumed = contents.scales_of(path, header, parts, name or path.name)
    return _loaded(path, parts, scales, name or path.name, assumed)


def _loaded(
    path: Path, parts: list[Part], scales: Mapping[str, float], name: str, assumed: bool = False
) -> DrawingFile:
    """The arrays of the parts, checked for zeros and for values that are not numbers."""
    found = DrawingFile({}, [], assumed)
    try:
        tensors = arrays.load_tensors(path)
        for part in parts:
            factors = {role: tensors.pop(key).astype(mx.float32) for role, key in part.tensors.items()}
            if part.plain:
                found.factors.update(_split(part, factors["A"], factors["B"] * scales[part.name]))
            else:
                magnitude = None if part.magnitude is None else tensors.pop(part.magnitude).astype(mx.float32)
                found.parts.append(DensePart(part, factors, magnitude, scales[part.name]))
        mx.eval(found.factors, [each.arrays() for each in found.parts])
    except RuntimeError as error:
        raise AdapterProblem(f"{name} cannot be read: {error}.") from error
    held = [array for pair in found.factors.values() for array in pair]
    held += [array for part in found.parts for array in part.arrays()]
    if held and not mx.all(mx.stack([mx.all(mx.isfinite(each)) for each in held])).item():
        raise AdapterProblem(f"{name} holds values that are not numbers; it cannot be used.")
    if not any(_has_effect(pair) for pair in found.factors.values()) and not any(
        each.magnitude is not None or (each.scale and _has_effect(each.factors.values())) for each in found.parts
    ):
        raise AdapterProblem(contents.all_zeros(name))
    return found


def _has_effect(factors: Iterable[mx.array]) -> bool:
    """Whether no factor is all zeros."""
    return all(mx.any(each != 0).item() for each in factors)


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
    content = contents_of(tensors)
    with files.atomic_file(path) as part:
        fill(part, content, metadata, path.name)
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
    if not any(_has_effect(pair) for pair in factors.values()):
        raise AdapterProblem("This adapter is all zeros: it has not been trained yet and would change nothing.")


def all_finite(factors: Factors) -> bool:
    return bool(mx.all(mx.stack([mx.all(mx.isfinite(each)) for pair in factors.values() for each in pair])).item())


def used_columns(b_OR: mx.array) -> list[int]:
    """The columns of B that are not all zeros."""
    return [int(column) for column in np.flatnonzero(np.asarray(mx.any(b_OR != 0, axis=0)))]


def _split(part: Part, a_RI: mx.array, b_OR: mx.array) -> dict[str, tuple[mx.array, mx.array]]:
    """The factors of each layer of the part; parts of a fused layer with B = 0 are left out."""
    if part.swapped:
        first, second = mx.split(b_OR, 2, axis=0)
        b_OR = mx.concatenate([second, first])
    if len(part.layers) == 1:
        return {part.layers[0]: (a_RI, b_OR)}
    factors, begin = {}, 0
    for layer, rows in zip(part.layers, part.rows, strict=True):
        part_OR = b_OR[begin : begin + rows]
        begin += rows
        used = used_columns(part_OR)
        if used:
            factors[layer] = (a_RI[mx.array(used)], part_OR[:, mx.array(used)])
    return factors
