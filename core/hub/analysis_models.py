"""Models that look at photos: rows of facts, and where each is on this computer.

    name   Hugging Face repository   its files   licence

They are neither trained nor drawn with, so core/hub/catalog.py, which lists the models for that, never has one. Found
in the Hugging Face cache, or as a folder of that name where folders of models are searched. Plain Python, for the web
process too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import FieldProblem, ModelProblem
from core.hub import cache as hub_cache
from core.hub.catalog import search_path
from core.hub.layout import missing_listed
from core.hub.registry import page_of
from core.safetensors_file import read_json

CONFIG = "config.json"
CONFIG_BYTES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisModel:
    """One model that can be downloaded: its description, its files and its size."""

    name: str
    title: str
    what_for: str
    repo: str  # on Hugging Face
    kind: str  # "model_type" of its config.json
    terms: tuple[str, str]  # the licence, and its terms for commercial use
    parameters: int
    item_bytes: int  # per stored parameter
    files: tuple[str, ...]  # of the repository; all that is needed
    gated: str = ""  # what users must accept on the model's page before downloading; "" for nothing

    @property
    def download_bytes(self) -> int:
        """Size of the download, to 0.1%; the exact size is known once the download begins."""
        return self.parameters * self.item_bytes + CONFIG_BYTES

    @property
    def page(self) -> str:
        """Its page on Hugging Face."""
        return page_of(self.repo)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is: its folder, and the files that an incomplete one lacks."""

    folder: Path | None  # None when it is not on this computer
    missing: tuple[FieldProblem, ...] = ()

    @property
    def complete(self) -> Path | None:
        """The folder, where it has every file."""
        return None if self.missing else self.folder


DINOV2_SMALL = AnalysisModel(
    name="dinov2-small",
    title="DINOv2 small",
    what_for="Sees what a photo shows, not its colours alone: for the pick of the best photos, and for photos unlike "
    "the rest. It works on the processor of this computer, beside a training.",
    repo="facebook/dinov2-small",
    kind="dinov2",
    terms=("Apache 2.0", "Commercial use is allowed. Nothing of it gets into adapters or pictures."),
    parameters=22_056_576,
    item_bytes=4,
    files=(CONFIG, "model.safetensors"),
)
ANALYSIS_MODELS = {DINOV2_SMALL.name: DINOV2_SMALL}


def place_of(model: AnalysisModel, folders: Sequence[Path] = ()) -> Place:
    """The first complete folder of a model, else the first incomplete one.

    `folders`, searched after LIKENESS_MODELS and before the cache, contain model folders or are model folders.
    """
    names = model.name, model.repo.partition("/")[2]
    own = [each for place in search_path(folders) for each in (place, *(place / name for name in names))]
    named = [each for each in own if each.name in names and _is_of(each, model)]
    found = Place(None)
    for folder in (*dict.fromkeys(named), *hub_cache.snapshots(model.repo)):
        place = Place(folder, tuple(missing_listed(folder, model.files)))
        if place.complete:
            return place
        found = found if found.folder else place
    return found


def _is_of(folder: Path, model: AnalysisModel) -> bool:
    """Whether the folder's config.json is that of such a network: a name alone may be anybody's."""
    try:
        return bool(read_json(folder / CONFIG).get("model_type") == model.kind)
    except ModelProblem:
        return False
