"""The layers of a model that adapters can be put on, by block: for choosing them without writing a pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.actions import models
from app.database import Database
from core.adapters.layers import ModelLayers, resolve_targets
from core.errors import ConfigProblem, ModelProblem
from core.training.check import architecture_of

STACKS = {
    "transformer_blocks": "Image and text apart",
    "single_transformer_blocks": "Image and text together",
    "noise_refiner": "Image refiner",
    "context_refiner": "Text refiner",
    "layers": "Main blocks",
    "txt_mode_blocks": "Text",
    "mode_blocks.image": "Image",
}
"""Labels of the stacks of blocks in `core/adapters/layers.py`; one without is shown by its path."""
PRESETS = {
    "all_linear": ("Everything", "Every layer of attention and MLP: the most faithful, the largest file."),
    "attention": ("Attention", "What looks at what: a smaller file, less detail."),
    "mlp": ("MLPs", "What each place in the picture knows."),
    "double_blocks": ("Image and text apart", "The blocks that hold image and text apart."),
    "single_blocks": ("Image and text together", "The blocks where both are one."),
    "image_stream": ("The picture's way", "All that the picture passes through; the text's own layers stay."),
    "no_refiners": ("Without refiners", "The main blocks alone."),
    "likeness": ("Likeness, small", "One layer of four blocks: a likeness in a small file, weaker."),
}


@dataclass(frozen=True, slots=True)
class LayerPreset:
    """A name that the knob `targets` takes."""

    name: str
    label: str
    sentence: str
    layers: int
    share: float  # of the numbers of an adapter on all_linear, at one rank


@dataclass(frozen=True, slots=True)
class StackView:
    """A row of like blocks."""

    path: str
    label: str
    chosen: list[int]  # layers chosen, of each block
    of: int  # layers in a block


@dataclass(frozen=True, slots=True)
class LayersView:
    """The layers of a model, and which of them are chosen."""

    presets: list[LayerPreset]
    stacks: list[StackView]
    chosen: int
    of: int
    share: float  # of the numbers of an adapter on all_linear, at one rank; modulation may make it more than 1
    problem: str  # why nothing is chosen; continues the name of the knob


def layers(database: Database, model: str, targets: str) -> LayersView:
    """Raises NotFound, ModelProblem when the model is not here or its files say too little."""
    architecture = architecture_of(models.folder_of(database, model))
    if architecture is None:
        raise ModelProblem(f"The files of {model} do not say which layers it has.")
    known = architecture.layers
    chosen: list[str] = []
    problem = ""
    try:
        chosen = resolve_targets(known, targets)
    except ConfigProblem as error:
        problem = error.problems[0].message
    return LayersView(
        presets=[_preset(known, name) for name in known.presets],
        stacks=_stacks(known, set(chosen)),
        chosen=len(chosen),
        of=len(known.sizes),
        share=_share(known, chosen),
        problem=problem,
    )


def _preset(known: ModelLayers, name: str) -> LayerPreset:
    label, sentence = PRESETS.get(name, (name, ""))
    paths = known.presets[name]
    return LayerPreset(name, label, sentence, len(paths), _share(known, paths))


def _stacks(known: ModelLayers, chosen: set[str]) -> list[StackView]:
    return [
        StackView(
            path=stack.path,
            label=STACKS.get(stack.path, stack.path),
            chosen=[
                sum(f"{stack.path}.{index}.{name}" in chosen for name in stack.layers) for index in range(stack.count)
            ],
            of=len(stack.layers),
        )
        for stack in known.stacks
    ]


def _share(known: ModelLayers, paths: Sequence[str]) -> float:
    """Of the numbers in A and B, which are rank * (in + out)."""
    total = sum(sum(known.sizes[path]) for path in known.presets["all_linear"])
    return sum(sum(known.sizes[path]) for path in paths) / total if total else 0.0
