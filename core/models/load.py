"""Model folders in diffusers' layout: which family, which files, and every tensor in its place.

    folder/model_index.json                     names the pipeline, and so the family
    folder/<part>/config.json + *.safetensors   one file, or shards with an index

Parts are read when first used and dropped when freed. Before a tensor is read, the names and shapes in the files'
headers are held against those of the module: what is missing, left over or misshapen is named all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from core.backend import compute_dtype
from core.catalog import family_of
from core.errors import FieldProblem, ModelProblem
from core.models.base import Family
from core.models.flux1 import Flux1
from core.weights import TensorInfo, read_header, read_json, weight_files, weights_sha256_of_all


def same_name(name: str) -> str | None:
    """The `rename` of checkpoints that use our names."""
    return name


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a model: its folder, how its module is built from config.json, and how its files are named.

    `rename` gives a checkpoint's tensor its name in the module, or None to leave it out.
    """

    folder: str
    build: Callable[[Mapping[str, Any]], nn.Module]
    stem: str
    rename: Callable[[str], str | None] = same_name


class Parts:
    """The modules of one model folder, read when first asked for."""

    def __init__(self, folder: Path, parts: Mapping[str, Part], dtypes: Mapping[str, mx.Dtype]) -> None:
        self.folder = folder
        self._parts = parts
        self._dtypes = dtypes
        self._loaded: dict[str, nn.Module] = {}

    def __getitem__(self, name: str) -> nn.Module:
        if name not in self._loaded:
            self._loaded[name] = self._read(name)
        return self._loaded[name]

    def config(self, name: str) -> dict[str, Any]:
        """The part's config.json."""
        return read_json(self.folder / self._parts[name].folder / "config.json")

    def free(self, name: str) -> None:
        """Forget the part's module; its memory goes with the last reference to it."""
        self._loaded.pop(name, None)

    def sha256(self, name: str) -> str:
        """One hash over the part's config and weight files."""
        part = self._parts[name]
        folder = self.folder / part.folder
        return weights_sha256_of_all([folder / "config.json", *weight_files(folder, part.stem)])

    def _read(self, name: str) -> nn.Module:
        part = self._parts[name]
        folder = self.folder / part.folder
        config = self.config(name)
        try:
            module = part.build(config)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelProblem(f"{folder / 'config.json'} does not describe a model we know: {error!r}.") from error
        read_weights(module, weight_files(folder, part.stem), self._dtypes[name], part.rename)
        module.freeze()
        return module


def load_family(folder: Path, *, dtype: mx.Dtype | None = None) -> Family:
    """The model of a diffusers-layout folder; its parts are read when first used.

    `dtype` is what the transformer and the text encoders compute in; None takes what suits this computer.

    Raises ModelProblem when the folder is not a model, or of a family we do not know.
    """
    folder = Path(folder)
    families = {"flux1": Flux1}
    family = families[family_of(folder)]
    compute = dtype or compute_dtype()
    table = {name: Part(*row) for name, row in family.parts.items()}
    missing = [part.folder for part in table.values() if not (folder / part.folder / "config.json").is_file()]
    if missing:
        raise ModelProblem(
            f"{folder} is incomplete. Download the model again.",
            [FieldProblem(f"{name}/config.json", "is not there") for name in missing],
        )
    dtypes = {name: mx.float32 if name == "vae" else compute for name in table}
    return family(Parts(folder, table, dtypes), compute)


def convolution_names(module: nn.Module) -> set[str]:
    """The weights that checkpoints keep as (out, in, height, width) and MLX as (out, height, width, in)."""
    return {f"{path}.weight" for path, each in module.named_modules() if isinstance(each, nn.Conv2d)}


def read_weights(
    module: nn.Module,
    files: list[Path],
    dtype: mx.Dtype,
    rename: Callable[[str], str | None] = same_name,
) -> None:
    """Fill `module` from safetensors files, cast to `dtype`; tensors are mapped now and read when used.

    Raises ModelProblem that names every missing, left-over or misshapen tensor.
    """
    wanted = {name: value.shape for name, value in tree_flatten(module.parameters())}
    convolutions = convolution_names(module)
    found: dict[str, tuple[str, TensorInfo]] = {}
    sources: dict[str, Path] = {}
    for path in files:
        for name, info in read_header(path).tensors.items():
            ours = rename(name)
            if ours is not None:
                found[ours], sources[ours] = (name, info), path
    problems = [
        FieldProblem(name, f"is missing; it should be {_shape(wanted[name])}") for name in wanted - found.keys()
    ]
    problems += [FieldProblem(name, "does not belong to this model") for name in found.keys() - wanted]
    for name in wanted.keys() & found.keys():
        theirs = found[name][1].shape
        placed = (theirs[0], *theirs[2:], theirs[1]) if name in convolutions and len(theirs) == 4 else theirs
        if placed != wanted[name]:
            problems.append(FieldProblem(name, f"is {_shape(theirs)}; it should be {_shape(wanted[name])}"))
    if problems:
        problems.sort(key=lambda each: each.field)
        raise ModelProblem(f"{files[0].parent} does not fit its config.json.", problems)
    tensors: dict[Path, dict[str, mx.array]] = {path: _map(path) for path in set(sources.values())}
    pairs = []
    for name, path in sources.items():
        value = tensors[path][found[name][0]]
        pairs.append((name, (value.transpose(0, 2, 3, 1) if name in convolutions else value).astype(dtype)))
    module.load_weights(pairs)


def _map(path: Path) -> dict[str, mx.array]:
    try:
        return mx.load(str(path))
    except RuntimeError as error:
        raise ModelProblem(f"{path} cannot be read: {error}.") from error


def _shape(lengths: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in lengths) or "a single number"
