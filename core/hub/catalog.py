"""Every model by name: what a user reads about it, where it lies on this computer, and the knobs it sets.

    Pocket                    comes with Likeness
    core/hub/registry.py      nine that can be downloaded; found in the hub's cache, or in a folder under its own name
    folders of the user's     in diffusers' layout, each known by its folder's name

Folders are looked for in LIKENESS_MODELS and in those that the caller names. What a folder lacks is said, and one that
is not whole is never handed out. Plain Python over JSON and weight headers: the web process draws its pages from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import FieldProblem, ModelProblem
from core.hub import cache as hub_cache
from core.hub.layout import INDEX, lacks
from core.hub.registry import KNOWN, Known
from core.pocket import assets
from core.safetensors_file import read_header, read_json, weight_files

POCKET_FOLDER = assets.WEIGHTS
POCKET = "pocket"
PIPELINES = {  # diffusers' pipeline class -> our family: what this version can load
    "FluxPipeline": "flux1",
    "Flux2KleinPipeline": "flux2",
    "ZImagePipeline": "z_image",
}
MODELS_VARIABLE = "LIKENESS_MODELS"  # a folder of models; each folder in it is known by its name
CARD_FILE = "likeness.json"  # optional, beside model_index.json: what Likeness should know about this model
Z_IMAGE_TURBO_SHIFT = 3.0  # of its schedule; the base's is 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model: what a user reads about it, where it lies, and the knobs it sets."""

    name: str
    title: str
    what_for: str
    licence: str
    commercial: str  # what the licence says about commercial use; empty for a model of the user's own
    folder: Path | None  # None when it is not on this computer
    lacks: tuple[FieldProblem, ...]  # files that keep the folder from being whole
    pipeline: str  # diffusers' class
    known: Known | None  # its row, when it can be downloaded
    trains: bool  # whether a run should start from it
    draws_with: str  # the model that its adapters draw best with; its own name when that is the same one
    defaults: Mapping[str, Any]  # knobs of core.config.train.TrainConfig
    drawing: Mapping[str, Any]  # {"steps", "guidance", "side_px"}: how the model is drawn with best

    @property
    def on_disk(self) -> bool:
        """Whether the whole of it is on this computer."""
        return self.folder is not None and not self.lacks

    @property
    def path(self) -> Path:
        """Its folder. Raises ModelProblem when it is not on this computer."""
        if self.folder is None:
            raise ModelProblem(f"{self.title} is not on this computer.")
        return self.folder

    @property
    def family(self) -> str | None:
        """Our family; None when this version cannot load it yet."""
        return PIPELINES.get(self.pipeline)

    @property
    def usable(self) -> bool:
        """Whether it can be drawn with."""
        return self.on_disk and self.family is not None

    @property
    def lacks_assistant(self) -> bool:
        """Whether it is here, and its training assistant, which could be downloaded, is not."""
        if self.known is None or self.known.assistant is None or self.folder is None or self.lacks:
            return False
        try:
            return assistant_of(self.folder) is None
        except ModelProblem:  # its card names one that is not there: a run says so
            return False

    @property
    def trouble(self) -> str:
        """Why it cannot be used as it is, in a sentence; empty when nothing is wrong, or it is simply not here."""
        if self.family is None:
            what = self.title if self.known else f"a {self.pipeline}" if self.pipeline else "a model of an unknown kind"
            return f"This version of Likeness cannot load {what} yet."
        if self.folder is None or not self.lacks:
            return ""
        named = [f"{each.field} {each.message}" for each in self.lacks[:3]]
        more = f"; and {len(self.lacks) - 3} more" if len(self.lacks) > 3 else ""
        return f"{self.folder} is not whole: {'; '.join(named)}{more}."

    @property
    def parameters(self) -> int:
        """Parameters of the transformer: those of its row, else counted in its files' headers. Raises ModelProblem."""
        if self.known is not None:
            return self.known.parameters["transformer"]
        files = weight_files(self.path / "transformer", "diffusion_pytorch_model")
        return sum(read_header(path).parameters for path in files)


def models(folders: Sequence[Path] = ()) -> dict[str, Entry]:
    """Every model that has a name, by name: Pocket, the known ones, on this computer or not, and the user's own.

    `folders` are looked through after LIKENESS_MODELS; each holds models, or is one.
    """
    found = {POCKET: entry_for(POCKET_FOLDER, POCKET)}
    own = {folder.name: folder for folder in reversed(list(_own_folders(folders)))}
    for name, known in KNOWN.items():
        taken = {alias: own[alias] for alias in _names(known) if pipeline_of(own.get(alias)) == known.pipeline}
        found[name] = _entry_of_known(known, list(taken.values()))
        own = {each: folder for each, folder in own.items() if each not in taken}
    for name, folder in sorted(own.items()):
        found.setdefault(name, entry_for(folder, name))
    return found


def find(name: str | Path, folders: Sequence[Path] = ()) -> Entry:
    """The model of a name, or of a folder in diffusers' layout, whole and ready to load.

    Raises ModelProblem with what there is, or with what it lacks.
    """
    known = models(folders)
    entry = known.get(str(name))
    if entry is None and (Path(name).expanduser() / INDEX).is_file():
        entry = entry_for(Path(name).expanduser(), str(name))
    if entry is None:
        listed = ", ".join(each.name for each in known.values() if each.usable)
        raise ModelProblem(f"There is no model called {name}. Use {listed}, or a folder that holds {INDEX}.")
    if entry.folder is None:
        raise ModelProblem(f"{entry.title} is not on this computer yet. Download it on the Models page of the studio.")
    if not entry.usable:
        raise ModelProblem(entry.trouble, entry.lacks)
    return entry


def adapters_fit(trained_on: str, model: str) -> bool:
    """Whether adapters of one model can be drawn with on another: klein's base and its distilled form fit."""
    return model == trained_on or (trained_on in KNOWN and KNOWN[trained_on].draws_with == model)


def title_of(name: str, folders: Sequence[Path] = ()) -> str:
    """What a model is called on a page, without looking into its files; the name itself when nobody knows it."""
    if name in KNOWN:
        return KNOWN[name].title
    places = [POCKET_FOLDER] if name == POCKET else [each for each in _own_folders(folders) if each.name == name]
    title = "Pocket" if name == POCKET else name
    return str(_setting(places[0], CARD_FILE, "title") or title) if places else name


def entry_for(folder: Path, name: str) -> Entry:
    """The entry of a folder, from its card where it has one, else with its family's own values."""
    missing, like = lacks(folder), like_of(folder)
    card, defaults, drawing = {}, {}, {}
    try:
        card, defaults, drawing = _card(folder), defaults_of(folder), drawing_of(folder)
    except ModelProblem as problem:
        missing.append(FieldProblem(CARD_FILE, f"cannot be used: {problem.message}"))
    return Entry(
        name=name,
        title=card.get("title", folder.name if name != POCKET else "Pocket"),
        what_for=card.get("what_for", "A model of your own, in diffusers' layout."),
        licence=card.get("licence", "see the model's own card"),
        commercial="",
        folder=folder,
        lacks=tuple(missing),
        pipeline=pipeline_of(folder),
        known=None,
        trains=like.trains if like else True,
        draws_with=name,
        defaults=defaults,
        drawing=drawing,
    )


def pipeline_of(folder: Path | None) -> str:
    """diffusers' class of a model folder; empty when its model_index.json cannot be read."""
    return str(_setting(folder, INDEX, "_class_name") or "") if folder is not None else ""


def family_of(folder: Path) -> str:
    """The family of a model folder: "flux1", "flux2" or "z_image". Raises ModelProblem."""
    if not (folder / INDEX).is_file():
        raise ModelProblem(f"{folder} is no model folder: {INDEX} is not there.")
    pipeline = read_json(folder / INDEX).get("_class_name")
    if pipeline not in PIPELINES:
        raise ModelProblem(f"{folder} is a {pipeline}; Likeness can train {', '.join(PIPELINES)}.")
    return PIPELINES[pipeline]


def like_of(folder: Path) -> Known | None:
    """The known model that a folder of the user's resembles most, for the values it starts with; None for none.

    FLUX.1 dev takes guidance as an input, schnell does not; of the others, `is_distilled` tells.
    """
    pipeline = pipeline_of(folder)
    if pipeline == "FluxPipeline":
        return KNOWN["flux1-dev" if _setting(folder, "transformer/config.json", "guidance_embeds") else "flux1-schnell"]
    if pipeline == "Flux2KleinPipeline":
        return KNOWN["flux2-klein-4b" if is_distilled(folder) else "flux2-klein-base-4b"]
    if pipeline == "ZImagePipeline":
        return KNOWN["z-image-turbo" if is_distilled(folder) else "z-image"]
    return None


def is_distilled(folder: Path) -> bool:
    """Whether the folder says that its model was distilled to a few steps, and so loses something when it is trained.

    klein's says it in so many words; Z-Image-Turbo differs from Z-Image by its schedule.
    """
    if pipeline_of(folder) == "ZImagePipeline":
        return _setting(folder, "scheduler/scheduler_config.json", "shift") == Z_IMAGE_TURBO_SHIFT
    return bool(_setting(folder, INDEX, "is_distilled"))


def drawing_of(folder: Path) -> dict[str, Any]:
    """{"steps", "guidance", "side_px"} for drawing with this model."""
    like = like_of(folder)
    return {**(like.drawing if like else {}), **_card_table(folder, "drawing")}


def assistant_of(folder: Path) -> Path | None:
    """The adapter that is on while this model is trained and off while it draws; None for none.

    It is the file that the folder's card names, else the one that was downloaded with the known model that the folder
    resembles. Z-Image-Turbo needs one: trained without it, it forgets how to draw in few steps. Raises ModelProblem.
    """
    name = _card(folder).get("assistant")
    if name is None:
        like = like_of(folder)
        return hub_cache.file(like.assistant.repo, like.assistant.name) if like and like.assistant else None
    if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
        raise ModelProblem(f"{folder / CARD_FILE}: assistant is {name!r}; it must name an adapter file in this folder.")
    return folder / name


def defaults_of(folder: Path) -> dict[str, Any]:
    """The knobs of a training run that this model sets; samples are drawn as `drawing_of` says."""
    like = like_of(folder)
    return {**_with_samples(like.defaults if like else {}, drawing_of(folder)), **_card_table(folder, "defaults")}


def _entry_of_known(known: Known, places: Sequence[Path]) -> Entry:
    """A known model: the first place that holds all of it; else the first that holds some, with what is missing."""
    licence, commercial = known.terms
    looked: list[tuple[Path, tuple[FieldProblem, ...]]] = []
    for folder in (*places, *hub_cache.snapshots(known.repo)):
        looked.append((folder, tuple(lacks(folder))))
        if not looked[-1][1]:
            break
    folder, missing = min(looked, key=lambda place: bool(place[1]), default=(None, ()))
    return Entry(
        name=known.name,
        title=known.title,
        what_for=known.what_for,
        licence=licence,
        commercial=commercial,
        folder=folder,
        lacks=missing,
        pipeline=known.pipeline,
        known=known,
        trains=known.trains,
        draws_with=known.draws_with or known.name,
        defaults=_with_samples(known.defaults, known.drawing),
        drawing=known.drawing,
    )


def _own_folders(folders: Sequence[Path]) -> Iterator[Path]:
    """Every folder that holds a model_index.json, in LIKENESS_MODELS and in `folders`, one level deep."""
    variable = os.environ.get(MODELS_VARIABLE)
    for place in (*([Path(variable)] if variable else []), *folders):
        place = place.expanduser()
        try:
            inside = [place] if (place / INDEX).is_file() else sorted(place.iterdir())
        except OSError:
            continue
        yield from (each for each in inside if (each / INDEX).is_file())


def _names(known: Known) -> tuple[str, ...]:
    """The folder names that a known model may lie under: ours, and its repository's."""
    return known.name, known.repo.partition("/")[2]


def _with_samples(defaults: Mapping[str, Any], drawing: Mapping[str, Any]) -> dict[str, Any]:
    """Samples of a run are drawn as the model is drawn with best."""
    names = {"sample_steps": "steps", "sample_guidance": "guidance"}
    return {**defaults, **{knob: drawing[name] for knob, name in names.items() if name in drawing}}


def _card(folder: Path) -> dict[str, Any]:
    return read_json(folder / CARD_FILE) if (folder / CARD_FILE).is_file() else {}


def _card_table(folder: Path, name: str) -> dict[str, Any]:
    table = _card(folder).get(name, {})
    if not isinstance(table, dict):
        raise ModelProblem(f"{folder / CARD_FILE}: {name} must be a table of names and values.")
    return table


def _setting(folder: Path, file: str, name: str) -> Any:
    """A value of one of the folder's JSON files; None where there is none."""
    try:
        return read_json(folder / file).get(name)
    except ModelProblem:
        return None
