"""Adapter files in the form of kohya's sd-scripts, with the layers of the model's own code, as ComfyUI and Forge have.

    lora_unet_<layer, _ for .>.lora_down.weight   (rank, in)       bfloat16, alpha / rank multiplied into lora_up
    lora_unet_<layer, _ for .>.lora_up.weight     (out, rank)
    lora_unet_<layer, _ for .>.alpha              the rank, float32, so that a reader multiplies by 1

Where that code fuses several of our layers (q, k, v, and FLUX.1's linear1), their adapters are fused too:

    lora_down = [A_q; A_k; A_v]          lora_up = block_diag(B_q, B_k, B_v)          rank_q + rank_k + rank_v

A part without an adapter gets rows of zeros. diffusers and our reader split the blocks again exactly. Not every program
reads this form: mflux lacks Z-Image's fused layers. The form of core/adapters/diffusers.py loads everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from core.adapters import file as adapter_file
from core.adapters.key_maps import FAMILIES, KOHYA, Row, rows_with_numbers
from core.adapters.lora import Factors
from core.errors import AdapterProblem, FieldProblem

LARGEST_ERROR = 1e-5  # relative, of what is read back: splitting is exact, but shorter sums round differently
_PROBES = 4


def write(path: Path, factors: Factors, metadata: Mapping[str, str], family: str) -> None:
    """Write (A, alpha / rank * B) by module path to `path` in kohya's form, and compare it with what is read back.

    Raises AdapterProblem when it is without effect, not finite, or has a layer without a name in this form;
    DiskProblem when it cannot be written.
    """
    adapter_file.check_worth(factors)
    rounded = {layer: (a_RI.astype(mx.bfloat16), b_OR.astype(mx.bfloat16)) for layer, (a_RI, b_OR) in factors.items()}
    tensors = tensors_of(rounded, family)
    ranks = [value.shape[0] for name, value in tensors.items() if name.endswith(".lora_down.weight")]
    about = {"ss_network_dim": str(max(ranks)), "ss_network_alpha": str(max(ranks))}
    adapter_file.write(path, tensors, {**metadata, **about}, lambda part: _check(part, rounded, family, path.name))


def tensors_of(factors: Factors, family: str) -> dict[str, mx.array]:
    """The tensors of the file. Raises AdapterProblem that lists every layer without a name in this form."""
    if family not in FAMILIES:
        raise AdapterProblem(f"Kohya's form has no names for the layers of {family}; use the diffusers form.")
    places = {layer: rows_with_numbers(family, layer) for layer in factors}
    problems = [FieldProblem(layer, "has no name in kohya's form") for layer, place in places.items() if place is None]
    if problems:
        raise AdapterProblem("This adapter cannot be written in kohya's form; use the diffusers form.", problems)
    tensors: dict[str, mx.array] = {}
    for row, number in dict.fromkeys(place for place in places.values() if place is not None):
        down_RI, up_OR = _fused(row, [factors.get(layer.format(number)) for layer in row.ours])
        name = KOHYA + row.theirs.format(number).replace(".", "_")
        tensors[f"{name}.lora_down.weight"] = mx.contiguous(down_RI)
        tensors[f"{name}.lora_up.weight"] = mx.contiguous(up_OR)
        tensors[f"{name}.alpha"] = mx.array(float(down_RI.shape[0]))
    return tensors


def _fused(row: Row, parts: list[tuple[mx.array, mx.array] | None]) -> tuple[mx.array, mx.array]:
    """One pair of factors for all parts of a fused layer; a part is None without an adapter."""
    there = [part for part in parts if part is not None]
    down_RI = mx.concatenate([a_RI for a_RI, _ in there])
    width, ranks = down_RI.shape[1], [a_RI.shape[0] for a_RI, _ in there]
    blocks, before = [], 0
    for part, share in zip(parts, row.rows, strict=True):
        rows = part[1].shape[0] if part is not None else share * width
        rank = part[1].shape[1] if part is not None else 0
        dtype = down_RI.dtype
        middle = [part[1]] if part is not None else []
        sides = [mx.zeros((rows, before), dtype)], [mx.zeros((rows, sum(ranks) - before - rank), dtype)]
        blocks.append(mx.concatenate([*sides[0], *middle, *sides[1]], axis=1))
        before += rank
    up_OR = mx.concatenate(blocks)
    if row.swapped:
        first, second = mx.split(up_OR, 2, axis=0)
        up_OR = mx.concatenate([second, first])
    return down_RI, up_OR


def _check(part: Path, factors: Factors, family: str, name: str) -> None:
    """Raise AdapterProblem unless the file, read back, has the same effect on every layer as `factors`."""
    stored = adapter_file.read(part, family, name).factors
    for layer, (a_RI, b_OR) in factors.items():
        x_NI = mx.random.normal((_PROBES, a_RI.shape[1]), key=mx.random.key(0))
        expected = (x_NI @ a_RI.T.astype(mx.float32)) @ b_OR.T.astype(mx.float32)
        pair = stored.pop(layer, None)
        actual = mx.zeros_like(expected) if pair is None else (x_NI @ pair[0].T) @ pair[1].T
        if float(mx.linalg.norm(actual - expected)) > LARGEST_ERROR * float(mx.linalg.norm(expected)):
            raise AdapterProblem(f"{name} was written, but {layer} would not change as it was trained to.")
    if stored:
        raise AdapterProblem(f"{name} was written, but it would change {next(iter(stored))}, which was not trained.")
