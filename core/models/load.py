"""The model of a folder in diffusers' layout: `model_index.json` names the pipeline, and so the family."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

import mlx.core as mx

from core.device.backend import compute_dtype
from core.errors import FieldProblem, ModelProblem
from core.hub.catalog import family_of
from core.hub.families import FAMILIES
from core.models.base import Family
from core.models.folder import Stack
from core.models.parts import Part, Parts


class FamilyClass(Protocol):
    """A class that a family's card names, of the parts of a folder and a dtype."""

    name: str
    parts: Mapping[str, Part]
    text_parts: tuple[str, ...]
    stacks: Mapping[str, Stack]

    def __call__(self, parts: Parts, dtype: mx.Dtype, /) -> Family: ...


def class_of(family: str) -> FamilyClass:
    """The class of a family, whose module is imported only when it is needed."""
    module, _, name = FAMILIES[family].network.partition(":")
    found: FamilyClass = getattr(import_module(module), name)
    return found


def load_family(folder: Path, *, dtype: mx.Dtype | None = None, quantize: int | None = None) -> Family:
    """The model of a diffusers-layout folder; its parts are read when first used.

    `dtype` is the compute dtype of the transformer and the text encoders; None chooses it for this computer.
    `quantize` packs the transformer's blocks to 8, 6 or 4 bits (core/models/quantized.py). Text encoders and the VAE
    are never quantized: one layer of an encoder is in memory at a time, and encoded texts and photos are cached.

    Raises ModelProblem when the folder is not a model, or of an unknown family.
    """
    folder = Path(folder)
    family, compute = class_of(family_of(folder)), dtype or compute_dtype()
    bits = {} if quantize is None else {"transformer": quantize}
    return family(_parts(folder, family, compute, bits), compute)


def check_folder(folder: Path) -> None:
    """Check by headers alone that every tensor of a folder's networks is there. Raises ModelProblem."""
    _parts(folder, class_of(family_of(folder)), mx.float32).check()


def _parts(folder: Path, family: FamilyClass, compute: mx.Dtype, bits: Mapping[str, int] | None = None) -> Parts:
    missing = [part.folder for part in family.parts.values() if not (folder / part.folder / "config.json").is_file()]
    if missing:
        raise ModelProblem(
            f"{folder} is incomplete. Download the model again.",
            [FieldProblem(f"{name}/config.json", "is not there") for name in missing],
        )
    dtypes = {name: mx.float32 if name == "vae" else compute for name in family.parts}
    return Parts(folder, family.parts, dtypes, bits, family.text_parts)
