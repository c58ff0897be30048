"""The page of the models: which are ready, which can be downloaded, how far a download is; and the captioner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app import wording
from app.actions import captioner, models
from app.actions.jobs import JobView
from app.actions.models import ModelView
from app.database import Database
from app.jobs.states import State
from app.pages.captioner import CaptionerCard, captioner_card
from app.pages.lines import Fetching, fetching, newest_event
from app.pages.render import Page
from core.config.choices import BITS
from core.config.train import knobs
from core.estimate import memory
from core.estimate.requirements import ModelNeeds, Need

GROUPS = {
    "ready": ("Ready", "Complete on this computer; they can be trained and drawn with."),
    "download": ("To download", "Downloads go into the cache that other programs on this computer share."),
    "broken": ("Incomplete", "Folders of your own that lack something; they are not used until they are complete."),
    "later": ("Not for this version", "Likeness knows these models, but cannot load them yet."),
}
GOING = (State.QUEUED, State.RUNNING)
SHOWN_KNOBS = ("steps", "side_px", "rank", "learning_rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsPage(Page):
    """The base models."""

    template = "models.html"
    here = "models"
    after: int  # the newest event that the page knows of
    groups: tuple[ModelGroup, ...]
    captioner: CaptionerCard


@dataclass(frozen=True, slots=True)
class ModelGroup:
    """Models that a user can do the same with."""

    name: str
    title: str
    hint: str
    cards: tuple[ModelCard, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One model."""

    model: ModelView
    badge: State  # its icon and colour
    badge_words: str
    draws_with: str  # the title of the model that its adapters are drawn with; empty for itself
    run_defaults: str  # "steps 1000, rank 16"; empty for nothing of its own
    problem: str  # what is wrong with its folder, or why its download failed
    gated: str  # the licence to accept before a download; empty for none, or once the model is here
    verb: str  # the label of the download button; empty for no button
    fetching: Fetching | None  # None while no download waits or runs
    needs: NeedTable | None  # None where nothing can be predicted


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
    cards: dict[str, list[ModelCard]] = {name: [] for name in GROUPS}
    for view in views:
        cards[_group(view)].append(_card(view, titles))
    groups = (ModelGroup(name, *GROUPS[name], tuple(found)) for name, found in cards.items() if found)
    return ModelsPage(after=after, groups=tuple(groups), captioner=captioner_card(captioner.view(database)))


def _group(view: ModelView) -> str:
    if not view.supported:
        return "later"
    if view.usable:
        return "ready"
    return "broken" if view.page is None else "download"


def _card(view: ModelView, titles: Mapping[str, str]) -> ModelCard:
    job = view.download if view.lacks_assistant or not view.usable else None
    going = fetching(job) if job is not None and job.state in GOING else None
    badge, words = _badge(view, job)
    can_download = view.page is not None and view.supported and (view.lacks_assistant or not view.on_disk)
    refused = job is not None and job.error is not None and job.error.get("code") == "gated"  # its problem says so
    return ModelCard(
        model=view,
        badge=badge,
        badge_words=words,
        draws_with=titles.get(view.draws_with, view.draws_with) if view.draws_with != view.name else "",
        run_defaults=", ".join(_run_defaults(view)),
        problem=_problem(view, job),
        gated="" if view.on_disk or view.bytes_here or going or refused else view.gated,
        verb=_verb(view, job) if can_download and going is None else "",
        fetching=going,
        needs=_need_table(view.needs) if view.needs else None,
    )


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
    return State.QUEUED, "not here yet"


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
