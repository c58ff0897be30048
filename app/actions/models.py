"""The models of the catalog, what is on this computer, and downloading one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from app import settings
from app.actions import jobs
from app.actions.jobs import JobView
from app.database import Database
from app.errors import Conflict, NotFound
from app.jobs import store
from app.jobs.states import ENDED, Kind
from app.tables import Job
from core.errors import ModelProblem
from core.estimate import requirements
from core.estimate.requirements import ModelNeeds
from core.hub import cache as hub_cache
from core.hub import catalog
from core.hub.registry import USES


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model of the catalog."""

    name: str
    title: str
    what_for: str
    licence: str
    commercial: str  # what the licence says about commercial use; empty for a model of the user's own
    use: str  # the same in a word: commercial, non-commercial, or empty for terms to read
    on_disk: bool  # complete
    supported: bool  # whether this version can load its family
    usable: bool  # on disk and supported
    assisted: bool  # whether it is trained with an assistant, since it is distilled
    lacks_assistant: bool  # whether it is here without that assistant, which can be downloaded
    trains: bool  # whether a run should start from it
    draws_with: str  # the model that its adapters draw best with
    trouble: str  # why it cannot be used; empty when it can, and when it is only not here
    folder: str | None  # its location
    parameters: int | None  # of the transformer
    text_parameters: int | None  # of its text encoders
    bytes: int | None  # of the download, to 0.1%
    bytes_here: int  # of an incomplete download
    page: str | None  # where a person reads about it and accepts its licence
    gated: str  # the licence to accept there first; empty for none
    download: JobView | None  # the newest download job
    needs: ModelNeeds | None  # by precision and picture size; None where nothing can be predicted
    defaults: Mapping[str, Any]  # knobs it sets; see core/config/train.py
    drawing: Mapping[str, Any]  # {"steps", "guidance", "side_px"} that suit it


def list_models(database: Database) -> list[ModelView]:
    """Every model in the catalog, with what is on this computer."""
    tried = _downloads(database)
    return [
        _view(entry, tried.get(entry.name), database.home.root) for entry in catalog.models(folders(database)).values()
    ]


def find(database: Database, name: str) -> catalog.Entry:
    """The entry of a name, whether it is here or not. Raises NotFound, which lists the known names."""
    known = catalog.models(folders(database))
    if name not in known:
        raise NotFound(f"There is no model called {name}; there is {', '.join(known)}.")
    return known[name]


def family_of(database: Database, name: str) -> str:
    """The family of a model, whether it is here or not. Raises NotFound, ModelProblem when it cannot be loaded."""
    entry = find(database, name)
    if entry.family is None:
        raise ModelProblem(entry.trouble)
    return entry.family


def elsewhere(database: Database, name: str) -> str:
    """Which programs miss layers of this model's adapters as they are downloaded, in a sentence; empty for none."""
    entry = catalog.models(folders(database)).get(name)
    return catalog.elsewhere(entry.family) if entry is not None else ""


def folder_of(database: Database, name: str) -> Path:
    """The folder of a complete model. Raises NotFound, ModelProblem with what it lacks."""
    entry = find(database, name)
    if entry.folder is None or not entry.usable:
        raise ModelProblem(entry.trouble or f"{entry.title} is not on this computer yet. Download it first.")
    return entry.folder


def title(database: Database, name: str) -> str:
    """The title of a model, as pages show it."""
    return catalog.title_of(name, folders(database))


def names(database: Database, *, to_train: bool = False) -> tuple[str, ...]:
    """Names of the models that can be drawn with, or (`to_train`) that a run should start from."""
    entries = catalog.models(folders(database)).values()
    return tuple(each.name for each in entries if each.usable and (each.trains or not to_train))


def draws_with(database: Database, name: str) -> str:
    """The model that adapters of this one are best drawn with, among those that are here."""
    known = catalog.models(folders(database))
    best = known[name].draws_with if name in known else name
    return best if best in known and known[best].usable else name


def folders(database: Database) -> tuple[Path, ...]:
    """The folders searched for models beside the hub's cache: the home's, and those of the settings."""
    with database.read() as session:
        named = settings.folders_of(settings.value_of(session, "model_folders"))
    return (database.home.models, *named)


def download(database: Database, name: str) -> int:
    """Download a model or its training assistant in a job, resuming an earlier download; returns the job's id.

    Raises NotFound, Conflict when there is nothing to download, or nothing that could be loaded.
    """
    entry = find(database, name)
    if entry.on_disk and not entry.lacks_assistant:
        raise Conflict(f"{entry.title} is on this computer already.")
    if entry.known is None:
        raise Conflict(f"{entry.title} is a folder of your own; Likeness does not know where to download it.")
    if entry.family is None:
        raise Conflict(entry.trouble)
    with database.write() as session:
        newest = _newest(session).get(name)
        if newest is not None and newest.state not in ENDED:
            return int(newest.id or 0)
        return int(store.enqueue(session, Kind.DOWNLOAD, {"model": name}).id or 0)


def _newest(session: Session) -> dict[str, Job]:
    """The newest download of each model, by its name; those for a file of ComfyUI are of app/actions/model_files.py."""
    rows = session.exec(select(Job).where(Job.kind == Kind.DOWNLOAD).order_by(col(Job.id)))
    return {str(row.params["model"]): row for row in rows if "file" not in row.params}


def _downloads(database: Database) -> dict[str, JobView]:
    with database.read() as session:
        newest = _newest(session)
        return dict(zip(newest, jobs.views(session, list(newest.values())), strict=True))


def _view(entry: catalog.Entry, job: JobView | None, home: Path) -> ModelView:
    trouble, parameters = entry.trouble, None
    try:
        parameters = entry.parameters
    except ModelProblem as problem:
        trouble = trouble or problem.message
    known = entry.known
    texts = [count for part, count in known.parameters.items() if part.startswith("text_encoder")] if known else []
    return ModelView(
        name=entry.name,
        title=entry.title,
        what_for=entry.what_for,
        licence=entry.licence,
        commercial=entry.commercial,
        use=USES.get(entry.licence, ""),
        on_disk=entry.on_disk,
        supported=entry.family is not None,
        usable=entry.usable,
        assisted=known is not None and known.assistant is not None,
        lacks_assistant=entry.lacks_assistant,
        trains=entry.trains,
        draws_with=entry.draws_with,
        trouble=trouble,
        folder=str(entry.folder) if entry.folder is not None else None,
        parameters=parameters,
        text_parameters=sum(texts) if texts else None,
        bytes=known.download_bytes if known else None,
        bytes_here=hub_cache.bytes_here(known.repo) if known and not entry.on_disk else 0,
        page=known.page if known else None,
        gated=known.gated if known else "",
        download=job,
        needs=requirements.here(entry, home),
        defaults=dict(entry.defaults),
        drawing=dict(entry.drawing),
    )
