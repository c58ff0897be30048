"""The model of a folder in diffusers' layout: `model_index.json` names the pipeline, and so the family."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx

from core.device.backend import compute_dtype
from core.errors import FieldProblem, ModelProblem
from core.hub.catalog import family_of
from core.models.base import Family
from core.models.flux1 import Flux1
from core.models.flux2 import Flux2
from core.models.parts import Part, Parts
from core.models.z_image import ZImage


def load_family(folder: Path, *, dtype: mx.Dtype | None = None, quantize: int | None = None) -> Family:
    """The model of a diffusers-layout folder; its parts are read when first used.

    `dtype` is what the transformer and the text encoders compute in; None takes what suits this computer. `quantize`
    packs the transformer's blocks to 8, 6 or 4 bits (core/models/quantized.py); text encoders and VAE are not: of
    the former one layer is in memory at a time, and what both encode is kept for other runs.

    Raises ModelProblem when the folder is not a model, or of a family we do not know.
    """
    folder = Path(folder)
    families = {each.name: each for each in (Flux1, Flux2, ZImage)}
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
    bits = {} if quantize is None else {"transformer": quantize}
    return family(Parts(folder, table, dtypes, bits, family.text_parts), compute)
