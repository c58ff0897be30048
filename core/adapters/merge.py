"""A transformer with an adapter merged into its weights: one file for programs without support for adapters.

    W' = W + strength * (alpha / rank) B A          for each adapted layer, in float32, then in W's own dtype
    W' = W                                          copied byte by byte for all other tensors; 8-bit floats in bfloat16

The file is diffusers' `transformer/diffusion_pytorch_model.safetensors`, also when the source is in shards or has other
names (core/weights/places.py); `config` in its header is the text of the config.json that belongs beside it. Tensors
are processed one at a time, so memory holds one layer and never the model. The bytes are hashed while they are written,
and the file must have that hash when it is read back.

A change below half a step of W's dtype is lost to rounding; `Merged.kept` is the share of the change that remains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
from safetensors import safe_open

from core import files
from core.adapters import file as adapter_file
from core.adapters.lora import Factors
from core.errors import AdapterProblem, FieldProblem, ModelProblem
from core.numerics.arrays import DTYPES, bytes_view, read_array
from core.safetensors_file import FLOAT8, Place, header_of, read_place
from core.weights import places

OnTensor = Callable[[int, int], None]
"""Called with (tensors done, tensors in all); it may raise to stop."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The number of merged layers, and the share of the change that rounding kept, at most about 1."""

    layers: int
    kept: float


def write(
    path: Path,
    transformer: Path,
    factors: Factors,
    metadata: Mapping[str, str],
    *,
    strength: float = 1.0,
    on_tensor: OnTensor = lambda _done, _of: None,
) -> Merged:
    """Write the weights of the folder `transformer`, with (A, alpha / rank * B) merged in, to `path`.

    Raises AdapterProblem for an adapter without effect or for another model, and when a sum overflows the weights'
    dtype; ModelProblem for a damaged folder; DiskProblem; whatever `on_tensor` raises.
    """
    adapter_file.check_worth(factors)
    if not strength:
        raise AdapterProblem("With a strength of 0 the adapter has no effect.")
    tensors = places.of_part(transformer)
    _check_layers(factors, tensors)
    try:
        config = (transformer / "config.json").read_text(encoding="utf-8")
    except OSError as error:
        raise ModelProblem(f"{transformer / 'config.json'} cannot be read: {error.strerror}.") from None
    about = {"format": "pt", **metadata, "config": config}
    sums = {"intended": 0.0, "kept": 0.0}
    with files.atomic_file(path) as part:
        digest = hashlib.sha256()
        with part.open("wb") as file:
            for content in _contents(tensors, factors, strength, about, sums, on_tensor):
                digest.update(content)
                file.write(content)
        with safe_open(part, framework="np") as other:
            same_names = set(other.keys()) == tensors.keys()
        if not same_names or files.sha256_of(part) != digest.hexdigest():
            raise AdapterProblem(f"{path.name} was written, but reading it back gives other values. Check the disk.")
    return Merged(len(factors), sums["kept"] / sums["intended"])


def _contents(
    tensors: Mapping[str, Place],
    factors: Factors,
    strength: float,
    metadata: Mapping[str, str],
    sums: dict[str, float],
    on_tensor: OnTensor,
) -> Iterator[bytes]:
    """The bytes of the new file: its header, then every tensor."""
    yield header_of({name: (_dtype(place), place.info.shape) for name, place in tensors.items()}, metadata)
    for done, (name, place) in enumerate(tensors.items(), start=1):
        layer = name.removesuffix(".weight")
        if layer in factors:
            yield _summed(layer, place, factors[layer], strength, sums)
        elif place.swapped or place.info.dtype in FLOAT8:
            yield bytes(bytes_view(mx.contiguous(read_array(place, DTYPES[_dtype(place)])).view(mx.uint8)))
        else:
            yield read_place(place)
        on_tensor(done, len(tensors))


def _dtype(place: Place) -> str:
    """The dtype of a tensor in the new file: its own, and bfloat16 for 8-bit floats, which it holds exactly."""
    return "BF16" if place.info.dtype in FLOAT8 else place.info.dtype


def _summed(
    layer: str, place: Place, pair: tuple[mx.array, mx.array], strength: float, sums: dict[str, float]
) -> bytes:
    a_RI, b_OR = pair
    dtype = DTYPES[_dtype(place)]
    w_OI = read_array(place, dtype).astype(mx.float32)
    change_OI = strength * (b_OR @ a_RI)
    new_OI = (w_OI + change_OI).astype(dtype)
    real_OI = new_OI.astype(mx.float32) - w_OI
    intended, kept = (change_OI * change_OI).sum(), (change_OI * real_OI).sum()
    finite = mx.all(mx.isfinite(new_OI))
    mx.eval(new_OI, intended, kept, finite)
    if not finite.item():
        raise AdapterProblem(
            f"With this adapter {layer} overflows {_dtype(place)}, the dtype of the model; use a lower strength."
        )
    sums["intended"] += float(intended)
    sums["kept"] += float(kept)
    return bytes(bytes_view(new_OI.view(mx.uint8)))


def _check_layers(factors: Factors, tensors: Mapping[str, Place]) -> None:
    """Raise AdapterProblem that names each layer missing in this model, or with another shape, or quantized."""
    problems = []
    for layer, (a_RI, b_OR) in factors.items():
        place = tensors.get(f"{layer}.weight")
        if place is None:
            problems.append(FieldProblem(layer, "is not in this model"))
            continue
        info = place.info
        if info.shape != (b_OR.shape[0], a_RI.shape[1]):
            is_for = f"is for a layer of {a_RI.shape[1]} in and {b_OR.shape[0]} out"
            problems.append(FieldProblem(layer, f"{is_for}; this model's weight is {info.shape}"))
        elif _dtype(place) not in DTYPES:
            problems.append(FieldProblem(layer, f"is stored as {info.dtype}; only {', '.join(DTYPES)} can be merged"))
    if problems:
        raise AdapterProblem("This adapter cannot be merged into this model.", problems[:12])
