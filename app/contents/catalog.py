"""The page of the models: which are ready, which can be downloaded, and how far a download is."""

from __future__ import annotations

from app import wording
from app.actions import models as shelf
from app.actions.jobs import JobView
from app.actions.models import ModelView
from app.contents.lines import job_words, newest_event
from app.database import Database
from app.jobs.states import State, Stop
from app.page_parts import Fetching, Line, ModelCard, ModelGroup, NeedCell, NeedRow, NeedTable
from app.pages import ModelsPage
from core.config.choices import BITS
from core.config.train import knobs
from core.device.units import disk_size, memory_size
from core.estimate import memory
from core.estimate.requirements import ModelNeeds, Need

GROUPS = {
    "ready": ("Ready", "On this computer, whole, and ready to learn or to draw."),
    "download": ("To download", "They arrive in the cache that other programs on this computer share."),
    "broken": ("Not whole", "Folders of your own that lack something; they are not used until they are whole."),
    "later": ("Not for this version", "Likeness knows them, but cannot load them yet."),
}
SHOWN_KNOBS = ("steps", "side_px", "rank", "learning_rate")


def models(database: Database) -> ModelsPage:
    after = newest_event(database)
    sorted_in: dict[str, list[ModelCard]] = {name: [] for name in GROUPS}
    views = shelf.list_models(database)
    titles = {view.name: view.title for view in views}
    for view in views:
        sorted_in[_group(view)].append(_card(view, titles))
    return ModelsPage(
        after=after,
        groups=tuple(ModelGroup(name, *GROUPS[name], tuple(cards)) for name, cards in sorted_in.items() if cards),
    )


def _group(view: ModelView) -> str:
    if not view.supported:
        return "later"
    if view.usable:
        return "ready"
    return "broken" if view.page is None else "download"


def _card(view: ModelView, titles: dict[str, str]) -> ModelCard:
    job = view.download if view.download and (view.lacks_assistant or not view.usable) else None
    going = job is not None and job.state in (State.QUEUED, State.RUNNING)
    state, words = _state(view, job)
    wanted = view.lacks_assistant or not view.on_disk
    offered = view.page is not None and view.supported and wanted and not going
    return ModelCard(
        name=view.name,
        title=view.title,
        what_for=view.what_for,
        state=state,
        state_words=words,
        facts=tuple(_facts(view, titles)),
        problem=_problem(view, job),
        gated="" if view.on_disk or view.bytes_here or going or _code(job) == "gated" else view.gated,
        page=view.page or "",
        verb=_verb(view, job) if offered else "",
        fetching=_fetching(job) if going and job else None,
        needs=_needs(view.needs) if view.needs else None,
    )


def _fetching(job: JobView) -> Fetching:
    return Fetching(job.id, job_words(job), job.step, job.steps, job.stop is not Stop.NONE)


def _problem(view: ModelView, job: JobView | None) -> str:
    """What went wrong, or what is wrong with a folder; that a download is not whole yet is no trouble."""
    if job is not None and job.state is State.FAILED:
        return wording.error(job.error)
    own = view.page is None
    return view.trouble if own or (view.supported and not view.bytes_here) else ""


def _state(view: ModelView, job: JobView | None) -> tuple[str, str]:
    """The badge: its class and its words."""
    if view.usable:
        return "succeeded", "ready"
    if not view.supported:
        return "queued", "not in this version"
    if job is not None and job.state not in (State.SUCCEEDED, State.CANCELLED):
        return job.state.value, "downloading" if job.state is State.RUNNING else wording.STATES[job.state]
    if view.folder is not None or view.bytes_here:
        return "stopped", "not whole"
    return "queued", "not here yet"


def _verb(view: ModelView, job: JobView | None) -> str:
    if job is not None and job.state is State.FAILED:
        return "Try again"
    if view.lacks_assistant:
        return "Download its training assistant"
    return "Go on" if view.bytes_here else "Download"


def _facts(view: ModelView, titles: dict[str, str]) -> list[Line]:
    lines = [Line("Name", view.name)]
    if view.parameters:
        count = f"{_many(view.parameters)} parameters"
        lines.append(
            Line(
                "Size", f"{count}, and {_many(view.text_parameters)} to read prompts" if view.text_parameters else count
            )
        )
    if view.bytes and not view.on_disk:
        here = f"; {wording.size(view.bytes_here)} of it are here" if view.bytes_here else ""
        lines.append(Line("Download", f"{wording.size(view.bytes)}, and as much room on the disk{here}"))
    if view.folder and not view.bytes_here:
        lines.append(Line("Lies in", view.folder))
    if view.lacks_assistant:
        lines.append(Line("Training assistant", "not here; without it a run unlearns how to draw in few steps"))
    if view.trains and view.draws_with != view.name:
        lines.append(Line("Draw with", titles.get(view.draws_with, view.draws_with)))
    brought = ", ".join(
        f"{knobs()[name].label.lower()} {wording.number(view.defaults[name])}"
        for name in SHOWN_KNOBS
        if name in view.defaults
    )
    if view.trains and brought:
        lines.append(Line("A run", brought))
    if view.drawing:
        steps = wording.plural(int(view.drawing["steps"]), "step")
        lines.append(Line("A picture", f"{steps}, guidance {view.drawing['guidance']:g}, {view.drawing['side_px']} px"))
    if view.needs:
        lines.append(Line("On this computer", view.needs.sentence))
    return [*lines, Line("Licence", f"{view.licence}. {view.commercial}".strip() if view.commercial else view.licence)]


def _needs(needs: ModelNeeds) -> NeedTable:
    table, sides = needs.table, sorted({need.side_px for need in needs.table})
    by_precision = {name: [need for need in table if need.base_precision == name] for name in BITS}
    what = "a run" if needs.purpose == "training" else "drawing a picture"
    least = "with the model's own settings, one photo at a time, no activations kept: the least that it takes"
    how = least if needs.purpose == "training" else "with an adapter"
    there = f"There are {memory_size(needs.memory_there)} {memory.WHOSE[needs.device]}"
    return NeedTable(
        caption=f"Memory that {what} needs, predicted",
        sides=tuple(f"{side} px" for side in sides),
        rows=tuple(NeedRow(name, tuple(_need(need) for need in row)) for name, row in by_precision.items()),
        disk=tuple(disk_size(need.disk) for need in by_precision["full"] if need.disk),
        notes=(
            f"Predicted for {what} {how}.",
            f"{there}, and {disk_size(needs.disk_there)} free on the disk.",
        ),
    )


def _need(need: Need) -> NeedCell:
    state, words = ("fits", "fits") if need.fits else ("too-much", "too much")
    if need.recommended:
        state, words = "recommended", "fits, recommended"
    return NeedCell(memory_size(need.memory), words, state)


def _code(job: JobView | None) -> str:
    return str(job.error.get("code", "")) if job and job.error else ""


def _many(count: int) -> str:
    """17.8 million, 11.9 billion."""
    return f"{count / 1e9:.1f} billion" if count >= 1e9 else f"{count / 1e6:.1f} million"
