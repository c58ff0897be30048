"""Every model by name: its description, its folder on this computer, and its defaults.

    Pocket                    comes with Likeness
    core/hub/registry.py      models that can be downloaded, to the Hugging Face cache or to a folder of that name
    folders of the user       in diffusers' layout, named by their folder

Folders are searched in LIKENESS_MODELS and in those that the caller names. An incomplete folder is listed with its
missing files but never loaded. Plain Python over JSON and safetensors headers, for the web process too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import FieldProblem, ModelProblem
from core.hub import cache as hub_cache
from core.hub import foreign
from core.hub.families import CARDS, FAMILIES, FamilyCard, Setting
from core.hub.layout import INDEX, index_of, missing_files
from core.hub.registry import KNOWN, KnownModel
from core.pocket import assets
from core.safetensors_file import read_json
from core.weights import places
from core.weights.forms import INSTEAD

POCKET_FOLDER = assets.WEIGHTS
POCKET = "pocket"
PIPELINES = {pipeline: card.name for card in CARDS for pipeline in card.pipelines}  # diffusers' class -> our family
MODELS_VARIABLE = "LIKENESS_MODELS"  # environment variable: a folder of model folders
CARD_FILE = "likeness.json"  # optional, beside model_index.json: defaults and description of this model


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model: its description, its folder, and its defaults."""

    name: str
    title: str
    what_for: str
    licence: str
    commercial: str  # the licence's terms for commercial use; empty for a model of the user
    folder: Path | None  # None when the model is not on this computer
    missing: tuple[FieldProblem, ...]  # files that an incomplete folder lacks
    pipeline: str  # diffusers' class
    known: KnownModel | None  # its row of the registry, when it can be downloaded
    trains: bool  # whether to train it
    draws_with: str  # the model with which its adapters draw best, often itself
    defaults: Mapping[str, Any]  # knobs of core.config.train.TrainConfig
    drawing: Mapping[str, Any]  # {"steps", "guidance", "side_px"}: best settings for drawing

    @property
    def on_disk(self) -> bool:
        """Whether it is completely on this computer."""
        return self.folder is not None and not self.missing

    @property
    def path(self) -> Path:
        """Its folder. Raises ModelProblem when it is not on this computer."""
        if self.folder is None:
            raise ModelProblem(f"{self.title} is not on this computer.")
        return self.folder

    @property
    def family(self) -> str | None:
        """Our family; None when this version cannot load it."""
        return PIPELINES.get(self.pipeline)

    @property
    def usable(self) -> bool:
        """Whether it can be loaded."""
        return self.on_disk and self.family is not None

    @property
    def lacks_assistant(self) -> bool:
        """Whether the model is downloaded but its training assistant is not."""
        if self.known is None or self.known.assistant is None or self.folder is None or self.missing:
            return False
        try:
            return is_distilled(self.folder) and assistant_of(self.folder) is None
        except ModelProblem:  # its card names a missing file: a run reports that
            return False

    @property
    def trouble(self) -> str:
        """Why it cannot be used, in a sentence; empty when it can, or when it is not downloaded."""
        if self.family is None:
            what = self.title if self.known else f"a {self.pipeline}" if self.pipeline else "a model of an unknown kind"
            return f"This version of Likeness cannot load {what} yet."
        if self.folder is None or not self.missing:
            return ""
        named = [f"{each.field} {each.message}" for each in self.missing[:3]]
        more = f"; and {len(self.missing) - 3} more" if len(self.missing) > 3 else ""
        foreign = any(INSTEAD in each.message for each in self.missing)
        return f"{self.folder} {'cannot be used' if foreign else 'is incomplete'}: {'; '.join(named)}{more}."

    @property
    def parameters(self) -> int:
        """Parameters of the transformer, from the registry or its files' headers. Raises ModelProblem."""
        if self.known is not None:
            return self.known.parameters["transformer"]
        return sum(place.info.values for place in places.of_part(self.path / "transformer").values())


def models(folders: Sequence[Path] = ()) -> dict[str, Entry]:
    """Every model by name: Pocket, the known ones, on this computer or not, and the user's own.

    `folders`, searched after LIKENESS_MODELS, contain model folders or are model folders.
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
    """The model with this name, or in this folder, complete and ready to load.

    Raises ModelProblem that lists the available models or the missing files.
    """
    known = models(folders)
    entry = known.get(str(name))
    if entry is None and index_of(Path(name).expanduser()):
        entry = entry_for(Path(name).expanduser(), str(name))
    if entry is None and (words := foreign.words_for(Path(name).expanduser())):
        raise ModelProblem(words)
    if entry is None:
        listed = ", ".join(each.name for each in known.values() if each.usable)
        raise ModelProblem(f"There is no model called {name}. Use {listed}, or a folder that holds {INDEX}.")
    if entry.folder is None:
        raise ModelProblem(f"{entry.title} is not on this computer yet. Download it on the Models page of the studio.")
    if not entry.usable:
        raise ModelProblem(entry.trouble, entry.missing)
    return entry


def adapters_fit(trained_on: str, model: str) -> bool:
    """Whether adapters of one model work on another, as those of klein's base do on its distilled form."""
    return model == trained_on or (trained_on in KNOWN and KNOWN[trained_on].draws_with == model)


def title_of(name: str, folders: Sequence[Path] = ()) -> str:
    """The title of a model, without reading its weights; the name itself when it is unknown."""
    if name in KNOWN:
        return KNOWN[name].title
    places = [POCKET_FOLDER] if name == POCKET else [each for each in _own_folders(folders) if each.name == name]
    title = "Pocket" if name == POCKET else name
    return str(_setting(places[0], CARD_FILE, "title") or title) if places else name


def entry_for(folder: Path, name: str) -> Entry:
    """The entry of a model folder: from its card if it has one, else with the values of a similar known model."""
    missing, like = missing_files(folder), similar_known_model(folder)
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
        missing=tuple(missing),
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
    """The family of a model folder, by name. Raises ModelProblem."""
    index = index_of(folder)
    if index is None:
        raise ModelProblem(f"{folder} is no model folder: {INDEX} is not there.")
    pipeline = read_json(index).get("_class_name")
    if pipeline not in PIPELINES:
        raise ModelProblem(f"{folder} is a {pipeline}; Likeness can train {', '.join(PIPELINES)}.")
    return PIPELINES[pipeline]


def similar_known_model(folder: Path) -> KnownModel | None:
    """The known model whose defaults suit a folder of the user; None without one."""
    card = _card_of_family(folder)
    return KNOWN[card.like(_settings_of(folder))] if card else None


def is_distilled(folder: Path) -> bool:
    """Whether the model was distilled to few steps, an ability that training damages."""
    card = _card_of_family(folder)
    return card is not None and card.distilled(_settings_of(folder))


def drawing_of(folder: Path) -> dict[str, Any]:
    """The best settings for drawing with this model: {"steps", "guidance", "side_px"}."""
    like = similar_known_model(folder)
    return {**(like.drawing if like else {}), **_card_table(folder, "drawing")}


def assistant_of(folder: Path) -> Path | None:
    """The training assistant: an adapter that is active in training and off in drawing; None without one.

    It is the file that the folder's card names, else the download of the similar known model. Without its assistant
    a distilled model loses the ability to draw in few steps. A card with null has none, such as that of a model that
    looks like a distilled one and is not. Raises ModelProblem.
    """
    card = _card(folder)
    name = card.get("assistant")
    if name is None:
        like = similar_known_model(folder) if "assistant" not in card and is_distilled(folder) else None
        return hub_cache.file(like.assistant.repo, like.assistant.name) if like and like.assistant else None
    if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
        raise ModelProblem(f"{folder / CARD_FILE}: assistant is {name!r}; it must name an adapter file in this folder.")
    return folder / name


def elsewhere(family: str | None) -> str:
    """Which programs miss layers of a family's adapters in diffusers' names, in a sentence; empty for none."""
    return FAMILIES[family].elsewhere if family in FAMILIES else ""


def unassisted(folder: Path) -> str:
    """What training costs a distilled model that has no assistant, in a sentence; empty for any other model."""
    if not is_distilled(folder) or assistant_of(folder) is not None:
        return ""
    like = similar_known_model(folder)
    offer = "The Models page offers one" if like and like.assistant else "Train on its base"
    return (
        "This model was distilled to draw in few steps, and no training assistant of it is here: while it learns the "
        f"subject it loses that, and its pictures turn soft. {offer}."
    )


def defaults_of(folder: Path) -> dict[str, Any]:
    """The model's own defaults for knobs of a run; those of samples are from `drawing_of`."""
    like = similar_known_model(folder)
    return {**_with_samples(like.defaults if like else {}, drawing_of(folder)), **_card_table(folder, "defaults")}


def _entry_of_known(known: KnownModel, places: Sequence[Path]) -> Entry:
    """A known model, in the first complete folder, else in the first incomplete one, with what is missing."""
    licence, commercial = known.terms
    folder: Path | None = None
    problems: tuple[FieldProblem, ...] = ()
    for place in (*places, *hub_cache.snapshots(known.repo)):
        missing = tuple(missing_files(place))
        if folder is None or not missing:
            folder, problems = place, missing
        if not missing:
            break
    return Entry(
        name=known.name,
        title=known.title,
        what_for=known.what_for,
        licence=licence,
        commercial=commercial,
        folder=folder,
        missing=problems,
        pipeline=known.pipeline,
        known=known,
        trains=known.trains,
        draws_with=known.draws_with or known.name,
        defaults=_with_samples(known.defaults, known.drawing),
        drawing=known.drawing,
    )


def _own_folders(folders: Sequence[Path]) -> Iterator[Path]:
    """Every folder that holds a model's index, in LIKENESS_MODELS and in `folders`, one level deep."""
    variable = os.environ.get(MODELS_VARIABLE)
    for place in (*([Path(variable)] if variable else []), *folders):
        place = place.expanduser()
        try:
            inside = [place] if index_of(place) else sorted(place.iterdir())
        except OSError:
            continue
        yield from (each for each in inside if index_of(each) and not each.name.startswith("."))


def _names(known: KnownModel) -> tuple[str, ...]:
    """The folder names that count as a known model: our name, and its repository's."""
    return known.name, known.repo.partition("/")[2]


def _with_samples(defaults: Mapping[str, Any], drawing: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults, with sampler settings that suit the model."""
    names = {"sample_steps": "steps", "sample_guidance": "guidance"}
    return {**defaults, **{knob: drawing[name] for knob, name in names.items() if name in drawing}}


def _card(folder: Path) -> dict[str, Any]:
    return read_json(folder / CARD_FILE) if (folder / CARD_FILE).is_file() else {}


def _card_table(folder: Path, name: str) -> dict[str, Any]:
    table = _card(folder).get(name, {})
    if not isinstance(table, dict):
        raise ModelProblem(f"{folder / CARD_FILE}: {name} must be a table of names and values.")
    return table


def _card_of_family(folder: Path) -> FamilyCard | None:
    return FAMILIES.get(PIPELINES.get(pipeline_of(folder), ""))


def _settings_of(folder: Path) -> Setting:
    return lambda file, name: _setting(folder, file, name)


def _setting(folder: Path, file: str, name: str) -> Any:
    """A value of one of the folder's JSON files, or None; INDEX stands for either index."""
    path = index_of(folder) if file == INDEX else folder / file
    try:
        return read_json(path).get(name) if path else None
    except ModelProblem:
        return None
