"""The parts of a model folder, and every tensor of a checkpoint in its place.

    folder/<part>/config.json + *.safetensors   one file, or shards with an index

Parts are read on first use and dropped when freed. Before a tensor is read, the names and shapes in the files' headers
are checked against those of the module, and everything missing, left over or misshapen is reported at once. The names
are ours, whatever form the file has (core/weights/places.py). Then each tensor, in the order of the file, is read,
cast, quantized where the base is, and released: memory holds the finished part of the model and one tensor as it was in
the file. Text encoders are checked in the same way, but their layers stay on disk until they are used
(core/models/text/encoder.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from core.errors import FieldProblem, ModelProblem
from core.models import quantized
from core.models.text.encoder import EncoderOnDisk
from core.numerics.arrays import load_tensors, read_array
from core.safetensors_file import FLOAT8, FLOATS, Place, read_json, weight_files, weights_sha256_of_all
from core.weights import places as weight_places


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a model: its folder, how its module is built from config.json, and the stem of its weight files.

    A module whose checkpoint has other names, or tensors that are never used, has a method `checkpoint_name` that maps
    a tensor's name to the module's, or to None to leave it unread.
    """

    folder: str
    build: Callable[[Mapping[str, Any]], nn.Module]
    stem: str


class Parts:
    """The modules of one model folder, read on first use.

    `bits` maps parts to the number of bits to which their blocks are quantized while they are read; `on_disk` names the
    text encoders, whose layers are read when they are used.
    """

    def __init__(
        self,
        folder: Path,
        parts: Mapping[str, Part],
        dtypes: Mapping[str, mx.Dtype],
        bits: Mapping[str, int] | None = None,
        on_disk: Collection[str] = (),
    ) -> None:
        self.folder = folder
        self._parts = parts
        self._dtypes = dtypes
        self._bits = bits or {}
        self._on_disk = on_disk
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = self._read(name)
        return self._loaded[name]

    @property
    def loaded(self) -> Set[str]:
        """The names of the parts in memory."""
        return self._loaded.keys()

    def config(self, name: str) -> dict[str, Any]:
        """The part's config.json."""
        return read_json(self.folder / self._parts[name].folder / "config.json")

    def free(self, name: str) -> None:
        """Drop the part's module; its memory is freed with the last reference to it."""
        self._loaded.pop(name, None)

    def sha256(self, name: str) -> str:
        """One hash over the part's config and weight files."""
        part = self._parts[name]
        folder = self.folder / part.folder
        return weights_sha256_of_all([folder / "config.json", *weight_files(folder, part.stem)])

    def check(self) -> None:
        """Check names and shapes of every part by the files' headers, without reading weights. Raises ModelProblem."""
        for name in self._parts:
            self._built(name)

    def _built(self, name: str) -> tuple[nn.Module, dict[str, Place]]:
        """A part's module without its weights, and where they are."""
        part = self._parts[name]
        folder = self.folder / part.folder
        config = self.config(name)
        try:
            module = part.build(config)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelProblem(f"{folder / 'config.json'} does not describe a model we know: {error!r}.") from error
        if name in self._bits:
            quantized.lay_out(module, self._bits[name])
        module.freeze()
        files = weight_files(folder, part.stem)
        stored = weight_places.of_files(files, part.folder, str(config.get("model_type", "")))
        return module, located(module, stored, folder)

    def _read(self, name: str) -> nn.Module | EncoderOnDisk:
        module, places = self._built(name)
        dtype = self._dtypes[name]
        if name in self._on_disk:
            encoder = EncoderOnDisk(module, places, dtype)
            fill(module, encoder.small, dtype)
            return encoder
        fill(module, places, dtype)
        return module


def convolution_names(module: nn.Module) -> set[str]:
    """The weights that are (out, in, height, width) in checkpoints and (out, height, width, in) in MLX."""
    return {f"{path}.weight" for path, each in module.named_modules() if isinstance(each, nn.Conv2d)}


def checkpoint_name(module: nn.Module, name: str) -> str | None:
    """The module's name for a checkpoint's tensor; None for one that is never used."""
    rename = getattr(module, "checkpoint_name", None)
    return rename(name) if rename else name


def read_weights(module: nn.Module, files: list[Path], dtype: mx.Dtype) -> None:
    """Fill `module` from safetensors files, cast to `dtype` and packed where the module's layers are quantized.

    Raises ModelProblem that names every missing, left-over, misshapen or unreadable tensor.
    """
    fill(module, located(module, weight_places.of_files(files), files[0].parent), dtype)


def located(module: nn.Module, stored: Mapping[str, Place], folder: Path) -> dict[str, Place]:
    """The place of each parameter of `module` among the `stored` tensors of a folder, by the module's names.

    Raises ModelProblem that names every missing, left-over, misshapen or unreadable tensor.
    """
    wanted = quantized.whole_shapes(module)
    convolutions = convolution_names(module)
    found = {ours: place for name, place in stored.items() if (ours := checkpoint_name(module, name)) is not None}
    problems = [
        FieldProblem(name, f"is missing; it should be {_shape(wanted[name])}") for name in wanted - found.keys()
    ]
    problems += [FieldProblem(name, "does not belong to this model") for name in found.keys() - wanted]
    for name in wanted.keys() & found.keys():
        theirs = found[name].info.shape
        placed = (theirs[0], *theirs[2:], theirs[1]) if name in convolutions and len(theirs) == 4 else theirs
        if placed != wanted[name]:
            problems.append(FieldProblem(name, f"is {_shape(theirs)}; it should be {_shape(wanted[name])}"))
        elif found[name].info.dtype not in (*FLOATS, *FLOAT8):
            held = f"is {found[name].info.dtype}; it must be {', '.join((*FLOATS, *FLOAT8))}"
            problems.append(FieldProblem(name, held))
    if problems:
        problems.sort(key=lambda each: each.field)
        raise ModelProblem(f"{folder} does not fit its config.json.", problems)
    return found


def fill(module: nn.Module, places: Mapping[str, Place], dtype: mx.Dtype) -> None:
    """Read the parameters at `places` into `module`; see `read_weights`. Raises ModelProblem."""
    convolutions = convolution_names(module)
    bits = {f"{path}.weight": layer.bits for path, layer in quantized.packed_layers(module).items()}
    filled: dict[str, mx.array] = {}
    for path in sorted({place.path for place in places.values()}):
        here = {name: place for name, place in places.items() if place.path == path}
        direct = all(place.direct for place in here.values())
        try:
            tensors = load_tensors(path) if direct else {}
            for name, place in sorted(here.items(), key=lambda each: each[1].begin):
                filled |= _placed(
                    name,
                    tensors.pop(place.name) if direct else read_array(place, dtype),
                    dtype,
                    name in convolutions,
                    bits.get(name),
                )
        except RuntimeError as error:
            raise ModelProblem(f"{path} cannot be read: {error}.") from error
    module.load_weights(list(filled.items()), strict=False)  # `located` has checked that none is missing


def _placed(name: str, value: mx.array, dtype: mx.Dtype, channels_last: bool, bits: int | None) -> dict[str, mx.array]:
    """The module's arrays for a checkpoint's tensor, evaluated; the tensor itself is released."""
    value = (value.transpose(0, 2, 3, 1) if channels_last else value).astype(dtype)
    placed = quantized.pack(name.removesuffix(".weight"), value, bits) if bits else {name: value}
    mx.eval(placed)
    mx.clear_cache()  # MLX would keep the tensor's memory for other arrays of its size
    return placed


def _shape(lengths: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in lengths) or "a single number"
