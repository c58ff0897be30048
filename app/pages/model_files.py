"""The part of the Models page about ComfyUI's folder: models that its files make, and files that are not read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app import wording
from app.actions import model_files
from app.actions.model_files import CandidateView, ModelFiles, OfferView
from app.database import Database
from app.jobs.states import State, Stop
from app.pages.lines import job_progress


@dataclass(frozen=True, slots=True)
class FilesPart:
    """ComfyUI's folder."""

    folder: str
    trouble: str
    rows: tuple[FileRow, ...]
    refused: tuple[RefusedRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """One transformer."""

    offer: OfferView
    name: str  # of the file
    below: str  # the folder that it is in, within `FilesPart.folder`
    parts: str  # the files of the other parts
    question: str  # what a person decides, where the tensors cannot tell
    buttons: tuple[CandidateView, ...]  # empty while something is lacking, runs, or is done
    gated: tuple[CandidateView, ...]  # of which a licence must be accepted first
    problem: str  # why it cannot become a model, or did not
    job_id: int | None  # that makes a model of it now
    progress: str
    stopping: bool


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """One file that is not read."""

    name: str
    below: str
    sentence: str


def files_part(database: Database) -> FilesPart | None:
    """None where no folder is named in the settings."""
    found = model_files.list_files(database)
    if found.folder is None:
        return None
    return FilesPart(
        folder=found.folder,
        trouble=found.trouble,
        rows=tuple(_row(found, each) for each in found.offers),
        refused=tuple(
            RefusedRow(Path(each.file).name, _below(found, each.file), each.sentence) for each in found.refused
        ),
    )


def _row(found: ModelFiles, offer: OfferView) -> FileRow:
    job = offer.job
    going = job is not None and job.state in (State.QUEUED, State.RUNNING)
    open_now = not (going or offer.made or offer.lacking)
    others = [Path(file).name for part, file in offer.parts.items() if part != "transformer" and file != offer.file]
    problem = f"It also needs {'; '.join(offer.lacking)}." if offer.lacking else ""
    if job is not None and job.state is State.FAILED and not offer.made:
        problem = problem or wording.error(job.error)
    return FileRow(
        offer=offer,
        name=Path(offer.file).name,
        below=_below(found, offer.file),
        parts=", ".join(dict.fromkeys(others)),
        question=_question(offer) if open_now else "",
        buttons=offer.candidates if open_now else (),
        gated=tuple(each for each in offer.candidates if each.gated) if open_now else (),
        problem=problem,
        job_id=job.id if job is not None and going else None,
        progress=job_progress(job) if job is not None and going else "",
        stopping=job is not None and job.stop is not Stop.NONE,
    )


def _question(offer: OfferView) -> str:
    titles = " and ".join([", ".join(each.title for each in offer.candidates[:-1]), offer.candidates[-1].title])
    if not offer.exact:
        return "Its sizes are those of no model that Likeness knows. Which one was it made from?"
    if len(offer.candidates) == 1:
        return ""
    return f"Its tensors are those of {titles}: their names and shapes cannot tell which. Which one is it?"


def _below(found: ModelFiles, file: str) -> str:
    return str(Path(file).parent.relative_to(found.folder or "/"))
