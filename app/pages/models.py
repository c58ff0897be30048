"""The page of the models: one that suits this computer, the others to compare, and how far a download is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app import wording
from app.actions import models
from app.actions.jobs import JobView
from app.actions.models import ModelView
from app.database import Database
from app.jobs.states import State, Stop
from app.pages.lines import job_progress, newest_event
from app.pages.model_files import FilesPart, files_part
from app.pages.recommendation import best_settings, recommendation
from app.pages.render import Page, parameter_count
from core.config.choices import BITS
from core.config.train import knobs
from core.device.units import memory_size
from core.estimate import memory
from core.estimate.requirements import ModelNeeds, Need
from core.hub.catalog import POCKET

GROUPS = {
    "ready": ("Ready", "Complete on this computer."),
    "download": ("To download", "Downloads go into the cache that other programs on this computer share."),
    "broken": ("Incomplete", "Folders of your own that lack something; they are not used until they are complete."),
    "later": ("Not for this version", "Likeness knows these models, but cannot load them yet."),
}
GOING = (State.QUEUED, State.RUNNING)
SHOWN_KNOBS = ("steps", "side_px", "rank", "learning_rate")
USES = {"commercial": "commercial use too", "non-commercial": "non-commercial use only"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsPage(Page):
    """The base models."""

    template = "models.html"
    here = "models"
    after: int  # the newest event that the page knows of
    recommended: ModelRow
    reason: str  # why it is recommended, in a sentence
    groups: tuple[ModelGroup, ...]  # the others
    files: FilesPart | None  # ComfyUI's folder, where the settings name it


@dataclass(frozen=True, slots=True)
class ModelGroup:
    """Models that a user can do the same with."""

    name: str
    title: str
    hint: str
    rows: tuple[ModelRow, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """What a row says in one column: in a word or two, and a small line below."""

    words: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of the details."""

    label: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One model: a row of the comparison, and the details behind it. A model of any kind can be one."""

    name: str
    title: str
    what_for: str
    page: str | None  # its page on the hub
    purpose: Cell
    size: Cell
    memory: Cell
    licence: Cell
    fits: Cell
    fit: str  # the tone of `fits`: good, warn, bad, or empty where nothing can be predicted
    badge: State  # its icon and colour
    badge_words: str  # empty for no badge
    facts: tuple[Fact, ...]
    problem: str  # what is wrong with its folder, or why its download failed
    gated: str  # the licence to accept before a download; empty for none, or once the model is here
    verb: str  # the label of the download button; empty for no button
    fetching: Fetching | None  # None while no download waits or runs
    needs: NeedTable | None  # None where nothing can be predicted


@dataclass(frozen=True, slots=True)
class Fetching:
    """A download that waits or runs."""

    job_id: int
    progress: str  # "3.2 GB of 33 GB"
    done: int  # bytes
    of: int  # bytes; 0 while unknown
    stopping: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedTable:
    """Predicted memory with precisions as rows and picture sizes as columns, and the disk below it."""

    purpose: str  # training or drawing
    sides_px: tuple[int, ...]
    rows: Mapping[str, tuple[Need, ...]]  # by precision, one for each side
    disk: tuple[int, ...]  # bytes of a run, by side; empty for drawing
    memory_there: int  # bytes
    whose_memory: str  # "of this Mac's memory"
    disk_there: int  # bytes


def models_page(database: Database) -> ModelsPage:
    after = newest_event(database)
    views = models.list_models(database)
    titles = {view.name: view.title for view in views}
    chosen = recommendation(views)
    rows: dict[str, list[ModelRow]] = {name: [] for name in GROUPS}
    for view in views:
        if view.name != chosen.name:
            rows[_group(view)].append(_row(view, titles))
    first = next(_row(view, titles) for view in views if view.name == chosen.name)
    groups = (ModelGroup(name, *GROUPS[name], tuple(found)) for name, found in rows.items() if found)
    return ModelsPage(
        after=after,
        recommended=first,
        reason=chosen.reason,
        groups=tuple(groups),
        files=files_part(database),
    )


def _group(view: ModelView) -> str:
    if not view.supported:
        return "later"
    if view.usable:
        return "ready"
    return "broken" if view.page is None else "download"


def _row(view: ModelView, titles: Mapping[str, str]) -> ModelRow:
    job = view.download if view.lacks_assistant or not view.usable else None
    fetching = _fetching(job) if job is not None and job.state in GOING else None
    badge, words = _badge(view, job)
    can_download = view.page is not None and view.supported and (view.lacks_assistant or not view.on_disk)
    refused = job is not None and job.error is not None and job.error.get("code") == "gated"  # its problem says so
    fits, tone = _fits(view)
    return ModelRow(
        name=view.name,
        title=view.title,
        what_for=view.what_for,
        page=view.page,
        purpose=_purpose(view),
        size=_size(view),
        memory=_memory(view),
        licence=Cell(view.licence, USES.get(view.use, "read its terms" if view.page is not None else "")),
        fits=fits,
        fit=tone,
        badge=badge,
        badge_words=words,
        facts=tuple(Fact(label, words) for label, words in _facts(view, titles) if words),
        problem=_problem(view, job),
        gated="" if view.on_disk or view.bytes_here or fetching or refused else view.gated,
        verb=_verb(view, job) if can_download and fetching is None else "",
        fetching=fetching,
        needs=_need_table(view.needs) if view.needs else None,
    )


def _facts(view: ModelView, titles: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Labels and words of the details; without words a line is left out."""
    yield "Name", view.name
    texts = f", and {parameter_count(view.text_parameters)} to read prompts" if view.text_parameters else ""
    yield "Size", f"{parameter_count(view.parameters)} parameters{texts}" if view.parameters else ""
    if view.bytes and not view.on_disk:
        here = f"; {wording.size(view.bytes_here)} are here" if view.bytes_here else ""
        yield "Download", f"{wording.size(view.bytes)}, and as much room on the disk{here}"
    yield "Location", view.folder if view.folder and not view.bytes_here else ""
    lack = "not here; without it a run unlearns how to draw in few steps"
    yield "Training assistant", lack if view.lacks_assistant else ""
    elsewhere = view.trains and view.draws_with != view.name
    yield "Draw with", titles.get(view.draws_with, view.draws_with) if elsewhere else ""
    yield "A run", ", ".join(_run_defaults(view))
    if {"steps", "guidance", "side_px"} <= view.drawing.keys():
        steps, guidance, side_px = (view.drawing[name] for name in ("steps", "guidance", "side_px"))
        yield "A picture", f"{wording.plural(steps, 'step')}, guidance {guidance:g}, {side_px} px"
    yield "On this computer", view.needs.sentence if view.needs else ""
    yield "Licence", f"{view.licence}. {view.commercial}" if view.commercial else view.licence


def _purpose(view: ModelView) -> Cell:
    steps = view.drawing.get("steps")
    pace = f"draws in {wording.plural(steps, 'step')}" if steps else ""
    if view.name == POCKET:
        return Cell("To try it out", "trains in minutes")
    if not view.trains:
        return Cell("To draw", pace)
    return Cell("To train with its assistant" if view.assisted else "To train", pace)


def _size(view: ModelView) -> Cell:
    count = Cell(parameter_count(view.parameters)) if view.parameters else Cell("unknown")
    if view.on_disk or not view.bytes:
        return count
    here = f", {wording.size(view.bytes_here)} are here" if view.bytes_here else ""
    return Cell(count.words, f"{wording.size(view.bytes)} to download{here}")


def _memory(view: ModelView) -> Cell:
    """Of the recommended settings, or the least that it takes."""
    if view.needs is None:
        return Cell("unknown")
    best = best_settings(view.needs)
    least = min(view.needs.table, key=lambda need: need.memory)
    shown = best or least
    base = memory.BASES[shown.base_precision].split(" ", 1)[1]
    return Cell(memory_size(shown.memory), f"{shown.side_px} px, {base}")


def _fits(view: ModelView) -> tuple[Cell, str]:
    """Whether it fits this computer, and the tone of that."""
    needs = view.needs
    if needs is None:
        return Cell("unknown"), ""
    best = best_settings(needs)
    if best is None:
        if min(need.memory for need in needs.table) > needs.memory_there:
            return Cell("Too large", f"{memory_size(needs.memory_there)} of memory are there"), "bad"
        return Cell("No room on the disk", f"{wording.size(needs.disk_there)} are free"), "bad"
    if needs.purpose == "drawing" and best.side_px < view.drawing.get("side_px", 0):
        return Cell("Only smaller pictures", f"{best.side_px} px at most"), "warn"
    return Cell("Fits", "" if best.base_precision == "full" else f"in {best.base_precision}"), "good"


def _fetching(job: JobView) -> Fetching:
    return Fetching(job.id, job_progress(job), job.step, job.steps, job.stop is not Stop.NONE)


def _problem(view: ModelView, job: JobView | None) -> str:
    """Why the download failed, or what is wrong with a folder; an unfinished download is no problem."""
    if job is not None and job.state is State.FAILED:
        return wording.error(job.error)
    own = view.page is None
    return view.trouble if own or (view.supported and not view.bytes_here) else ""


def _badge(view: ModelView, job: JobView | None) -> tuple[State, str]:
    if view.usable:
        return State.SUCCEEDED, "ready"
    if not view.supported:
        return State.QUEUED, "not in this version"
    if job is not None and job.state not in (State.SUCCEEDED, State.CANCELLED):
        return job.state, "downloading" if job.state is State.RUNNING else wording.STATES[job.state]
    if view.folder is not None or view.bytes_here:
        return State.STOPPED, "incomplete"
    return State.QUEUED, ""  # its group says so


def _verb(view: ModelView, job: JobView | None) -> str:
    if job is not None and job.state is State.FAILED:
        return "Try again"
    if view.lacks_assistant:
        return "Download its training assistant"
    return "Go on" if view.bytes_here else "Download"


def _run_defaults(view: ModelView) -> list[str]:
    if not view.trains:
        return []
    shown = [name for name in SHOWN_KNOBS if name in view.defaults]
    return [f"{knobs()[name].label.lower()} {wording.number(view.defaults[name])}" for name in shown]


def _need_table(needs: ModelNeeds) -> NeedTable:
    rows: dict[str, tuple[Need, ...]] = {
        name: tuple(need for need in needs.table if need.base_precision == name) for name in BITS
    }
    return NeedTable(
        purpose=needs.purpose,
        sides_px=tuple(sorted({need.side_px for need in needs.table})),
        rows=rows,
        disk=tuple(need.disk for need in rows["full"] if need.disk),
        memory_there=needs.memory_there,
        whose_memory=memory.WHOSE[needs.device],
        disk_there=needs.disk_there,
    )
