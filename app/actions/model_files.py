"""The files of ComfyUI's folder, and making models of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session, col, select

from app import settings
from app.actions import jobs, models
from app.actions.jobs import JobView
from app.database import Database
from app.errors import Conflict, NotFound
from app.jobs import store
from app.jobs.states import ENDED, Kind
from app.tables import Job
from core.errors import ConfigProblem, FieldProblem
from core.hub import assembled, comfyui
from core.hub.comfyui import Offer
from core.hub.registry import KNOWN

FILE = "file"  # of a job's params: ComfyUI's file, where a download makes a model of it


@dataclass(frozen=True, slots=True)
class CandidateView:
    """A known model that a file can be."""

    name: str
    title: str
    licence: str
    gated: str  # what must be accepted on its page before its small files can be downloaded; empty for nothing
    page: str


@dataclass(frozen=True, slots=True)
class OfferView:
    """A transformer in ComfyUI's folder, and what it takes to make a model of it."""

    file: str
    title: str  # what it is: "FLUX.1 transformer, fp8"
    bytes: int
    candidates: tuple[CandidateView, ...]  # several where the tensors cannot tell: a person chooses
    exact: bool  # whether its sizes are those of the candidates
    parts: dict[str, str]  # the file of each part
    lacking: tuple[str, ...]  # the parts that are not in the folder
    made: str | None  # the name of the model that was made of it
    job: JobView | None  # the newest that makes a model of it


@dataclass(frozen=True, slots=True)
class RefusedView:
    """A file in a form that Likeness does not read."""

    file: str
    bytes: int
    sentence: str


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What is in ComfyUI's folder; `folder` is None where the setting is empty."""

    folder: str | None
    trouble: str  # why the folder cannot be read now; empty when it can
    offers: tuple[OfferView, ...]
    refused: tuple[RefusedView, ...]


def list_files(database: Database) -> ModelFiles:
    """Everything of ComfyUI's folder that concerns Likeness."""
    folder = _folder(database)
    if folder is None:
        return ModelFiles(None, "", (), ())
    trouble = comfyui.trouble_of_folder(folder)
    if trouble:
        return ModelFiles(str(folder), f"{folder} {trouble}.", (), ())
    found, made = comfyui.scan(folder), assembled.made_of([database.home.models])
    with database.read() as session:
        newest = _newest(session)
        shown = dict(zip(newest, jobs.views(session, list(newest.values())), strict=True))
    return ModelFiles(
        folder=str(folder),
        trouble="",
        offers=tuple(_view(each, made, shown) for each in found.offers),
        refused=tuple(RefusedView(str(each.path), each.bytes, f"{each.trouble}.") for each in found.refused),
    )


def use(database: Database, file: str, model: str) -> int:
    """Make a model of a file, as the known `model`, in a job that downloads the small files first; returns its id.

    Raises NotFound for a file that is not offered, ConfigProblem for a model that it cannot be, Conflict when parts
    are lacking or a model was made of it already.
    """
    offer = offer_of(database, file)
    if model not in offer.candidates:
        named = FieldProblem("model", f"is {model!r}; by its tensors this file can be {' or '.join(offer.candidates)}")
        raise ConfigProblem("This file cannot be that model.", [named])
    if offer.lacking:
        raise Conflict(f"{offer.file.name} also needs {'; '.join(offer.lacking)}.")
    made = assembled.made_of([database.home.models]).get(offer.file.resolve())
    if made is not None:
        raise Conflict(f"{offer.file.name} is the model {made} already.")
    with database.write() as session:
        newest = _newest(session).get(file)
        if newest is not None and newest.state not in ENDED:
            return int(newest.id or 0)
        return int(store.enqueue(session, Kind.DOWNLOAD, {"model": model, FILE: file}).id or 0)


def offer_of(database: Database, file: str) -> Offer:
    """The offer of a file. Raises NotFound."""
    folder = _folder(database)
    offers = comfyui.scan(folder).offers if folder is not None and folder.is_dir() else ()
    offer = next((each for each in offers if str(each.file) == file), None)
    if offer is None:
        raise NotFound(f"{file} is not among the transformers of ComfyUI's folder; see the Models page.")
    return offer


def target_of(database: Database, offer: Offer, model: str) -> Path:
    """The folder of the model that is made of an offer: its name is the known one's, while that is free."""
    taken = {path.name for path in database.home.models.iterdir()} if database.home.models.is_dir() else set()
    taken |= {each.name for each in models.list_models(database) if each.folder is not None and each.on_disk}
    return database.home.models / assembled.name_for(KNOWN[model], offer.file, taken)


def _folder(database: Database) -> Path | None:
    with database.read() as session:
        return settings.comfyui_of(settings.value_of(session, "model_comfyui_folder"))


def _newest(session: Session) -> dict[str, Job]:
    rows = session.exec(select(Job).where(Job.kind == Kind.DOWNLOAD).order_by(col(Job.id)))
    return {str(row.params[FILE]): row for row in rows if FILE in row.params}


def _view(offer: Offer, made: dict[Path, str], shown: dict[str, JobView]) -> OfferView:
    known = [KNOWN[name] for name in offer.candidates]
    return OfferView(
        file=str(offer.file),
        title=offer.title,
        bytes=offer.bytes,
        candidates=tuple(
            CandidateView(
                each.name, each.title, each.terms[0], "" if assembled.small_files(each) else each.gated, each.page
            )
            for each in known
        ),
        exact=offer.exact,
        parts={part: str(path) for part, path in offer.parts.items()},
        lacking=offer.lacking,
        made=made.get(offer.file.resolve()),
        job=shown.get(str(offer.file)),
    )
