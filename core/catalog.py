"""The models this computer knows: Pocket, which comes with Likeness, and diffusers folders of the user's own.

Plain Python over JSON files and weight headers: the web process reads it to draw its forms.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ModelProblem
from core.weights import read_header, read_json, weight_files

POCKET_FOLDER = Path(__file__).parent / "pocket" / "weights"
PIPELINES = {"FluxPipeline": "flux1", "Flux2KleinPipeline": "flux2"}  # diffusers' pipeline class -> our family
MODELS_VARIABLE = "LIKENESS_MODELS"  # a folder of models; each folder in it is known by its name
CARD_FILE = "likeness.json"  # optional, beside model_index.json: what Likeness should know about this model

# FLUX.1's own knobs, where they differ from core/config.py's; a model's card can replace each.
FLUX1_DEFAULTS = {"steps": 800, "side_px": 512, "rank": 16, "learning_rate": 1e-4, "train_guidance": 1.0}
FLUX1_DRAWING = {
    True: {"steps": 28, "guidance": 3.5, "side_px": 1024},  # dev: guidance is an input of the network
    False: {"steps": 4, "guidance": 1.0, "side_px": 1024},  # schnell: four steps, no guidance
}
FLUX2_DEFAULTS = {"steps": 800, "side_px": 512, "rank": 16, "learning_rate": 1e-4}
FLUX2_DRAWING = {
    True: {"steps": 4, "guidance": 1.0, "side_px": 1024},  # distilled: guidance is in the weights
    False: {"steps": 50, "guidance": 4.0, "side_px": 1024},  # base: true guidance, two passes a step
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One model: what a user reads about it, where it lies, and the knobs it sets."""

    name: str
    title: str
    what_for: str
    licence: str
    folder: Path
    defaults: Mapping[str, Any]  # knobs of core.config.TrainConfig
    drawing: Mapping[str, Any]  # {"steps", "guidance", "side_px"}: how the model is drawn with best

    @property
    def on_disk(self) -> bool:
        return (self.folder / "model_index.json").is_file()

    @property
    def parameters(self) -> int:
        """Parameters of the transformer, counted in its files' headers. Raises ModelProblem."""
        files = weight_files(self.folder / "transformer", "diffusion_pytorch_model")
        return sum(read_header(path).parameters for path in files)


def models() -> dict[str, Entry]:
    """Every model that has a name, by name: Pocket, and those in the folder that LIKENESS_MODELS names."""
    found = {"pocket": entry_for(POCKET_FOLDER, "pocket")}
    own = os.environ.get(MODELS_VARIABLE)
    for folder in sorted(Path(own).expanduser().iterdir()) if own and Path(own).expanduser().is_dir() else ():
        if (folder / "model_index.json").is_file():
            found.setdefault(folder.name, entry_for(folder, folder.name))
    return found


def find(name: str | Path) -> Entry:
    """The model of a name, or of a folder in diffusers' layout. Raises ModelProblem with what there is."""
    known = models()
    if str(name) in known:
        return known[str(name)]
    folder = Path(name).expanduser()
    if (folder / "model_index.json").is_file():
        return entry_for(folder, str(folder))
    listed = ", ".join(known)
    raise ModelProblem(f"There is no model called {name}. Use {listed}, or a folder that holds model_index.json.")


def entry_for(folder: Path, name: str) -> Entry:
    """The entry of a folder, from its card where it has one, else with its family's own values."""
    card = read_json(folder / CARD_FILE) if (folder / CARD_FILE).is_file() else {}
    return Entry(
        name=name,
        title=card.get("title", folder.name if name != "pocket" else "Pocket"),
        what_for=card.get("what_for", "A model of your own, in diffusers' layout."),
        licence=card.get("licence", "see the model's own card"),
        folder=folder,
        defaults=defaults_of(folder),
        drawing=drawing_of(folder),
    )


def family_of(folder: Path) -> str:
    """The family of a model folder: "flux1" or "flux2". Raises ModelProblem."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelProblem(f"{folder} is no model folder: model_index.json is not there.")
    pipeline = read_json(index).get("_class_name")
    if pipeline not in PIPELINES:
        raise ModelProblem(f"{folder} is a {pipeline}; Likeness can train {', '.join(PIPELINES)}.")
    return PIPELINES[pipeline]


def drawing_of(folder: Path) -> dict[str, Any]:
    """{"steps", "guidance", "side_px"} for drawing with this model."""
    own = FLUX2_DRAWING[is_distilled(folder)] if _is_flux2(folder) else FLUX1_DRAWING[_embeds_guidance(folder)]
    return {**own, **_card_table(folder, "drawing")}


def defaults_of(folder: Path) -> dict[str, Any]:
    """The knobs of a training run that this model sets; samples are drawn as `drawing_of` says."""
    drawing = drawing_of(folder)
    samples = {"sample_steps": drawing["steps"], "sample_guidance": drawing["guidance"]}
    own = FLUX2_DEFAULTS if _is_flux2(folder) else FLUX1_DEFAULTS
    return {**own, **samples, **_card_table(folder, "defaults")}


def is_distilled(folder: Path) -> bool:
    """Whether the folder says that its model was distilled to a few steps: such a one is to draw with, not to train."""
    return bool(_index(folder).get("is_distilled", False))


def _is_flux2(folder: Path) -> bool:
    return PIPELINES.get(str(_index(folder).get("_class_name"))) == "flux2"


def _index(folder: Path) -> dict[str, Any]:
    index = folder / "model_index.json"
    return read_json(index) if index.is_file() else {}


def _card_table(folder: Path, name: str) -> dict[str, Any]:
    card = read_json(folder / CARD_FILE) if (folder / CARD_FILE).is_file() else {}
    table = card.get(name, {})
    if not isinstance(table, dict):
        raise ModelProblem(f"{folder / CARD_FILE}: {name} must be a table of names and values.")
    return table


def _embeds_guidance(folder: Path) -> bool:
    config = folder / "transformer" / "config.json"
    return config.is_file() and bool(read_json(config).get("guidance_embeds", False))
