"""Whether a run can start from an adapter file: decided by its header and the config of the model, before any is read.

    fits   every layer is a linear layer within the model's blocks, A is (rank, in) and B is (out, rank) of its size,
           and the ranks are those that a run may have; DoRA, LoHa and LoKr never fit

Plain Python: the web process asks before it creates a run, and training asks again before it encodes a photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.adapters import contents
from core.adapters.contents import Part
from core.adapters.layers import ModelLayers
from core.config.layer_ranks import RANK_AT_MOST
from core.errors import AdapterProblem, FieldProblem

SHOWN = 12
IN_BLOCKS = (
    "Only layers within the model's blocks can be trained, and it has others. Begin afresh or with another adapter; "
    "pictures can be drawn with this one as it is."
)
ANOTHER = "Begin afresh, or with an adapter that was made for this model."


def check(path: Path, family: str, layers: ModelLayers, name: str = "") -> None:
    """Raise AdapterProblem, which calls the file `name`, unless a run of this model can start from it."""
    name = name or path.name
    _, parts = contents.read(path, family, name)
    contents.check_plain(parts, name)
    outside, wrong = _misfits(parts, layers)
    if wrong or outside:
        advice = ANOTHER if wrong else IN_BLOCKS
        raise AdapterProblem(f"A run cannot begin with {name}. {advice}", _shortened(wrong + outside))


def _misfits(parts: Sequence[Part], layers: ModelLayers) -> tuple[list[FieldProblem], list[FieldProblem]]:
    """The problem of each layer outside the blocks, and of each that does not fit in another way."""
    outside, wrong = [], []
    for part in parts:
        rank, size_in = part.rank or 0, part.shape[1]
        if rank > RANK_AT_MOST and len(part.layers) == 1:  # a fused layer may stack the ranks of several
            wrong.append(FieldProblem(part.layers[0], f"has rank {rank}; a run trains 1 to {RANK_AT_MOST}"))
        for layer, size_out in zip(part.layers, part.rows, strict=True):
            size = layers.sizes.get(layer)
            if size is None and layer in layers.outside:
                outside.append(FieldProblem(layer, "is outside the blocks"))
            elif size is None:
                wrong.append(FieldProblem(layer, "is not in this model"))
            elif size != (size_in, size_out):
                ours = f"this model's has {size[0]} in and {size[1]} out"
                wrong.append(FieldProblem(layer, f"is for a layer of {size_in} in and {size_out} out; {ours}"))
    return outside, wrong


def _shortened(problems: list[FieldProblem]) -> list[FieldProblem]:
    more = len(problems) - SHOWN
    return problems if more <= 0 else [*problems[:SHOWN], FieldProblem("...", f"and {more} more")]
