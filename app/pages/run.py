"""The page of one run: what it has drawn, saved and reported so far.

Parts:

    run (state, step)   diagnosis, photo_scores     grid of samples by step and prompt
    checkpoints         class_pictures              log, settings

The curves are not in it: the page's script fetches them (GET /api/runs/{id}/metrics), and applies every event
after `after` as it comes (static/js/run/run.js).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import col, select

from app import wording
from app.actions import models, projects, runs
from app.actions.projects import ProjectView
from app.actions.run_views import PhotoScore, RunDetail, SampleView
from app.database import Database
from app.jobs.states import State, Stop
from app.knob_fields import KnobField, fields
from app.pages.lines import NOT_RESPONDING, newest_event
from app.pages.render import Page
from app.tables import Event
from core.config.train import knobs
from core.dataset import split
from core.training.diagnosis import Diagnosis

REMOVED = "It was removed before it started."
ROWS_TO_COME = 12  # empty rows of the sample grid that are laid out beforehand
LOG_LINES = 500
MORE_STEPS_AT_LEAST, MORE_STEPS_MULTIPLE = 100, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage(Page):
    """One training, live."""

    template = "run.html"
    after: int  # the newest event that the page knows of
    project: ProjectView
    run: RunNow
    diagnosis: Diagnosis  # what the scores say so far
    held_out_photos: int  # on how many the run is scored; 0: on one that it trains on
    photo_scores: tuple[PhotoScore, ...]  # empty before the first score
    grid: Grid
    class_pictures: ClassPictures | None  # None for a run that trains on none
    checkpoints: tuple[SavedStep, ...]  # the newest first
    elsewhere: str  # which programs miss layers of the downloaded file, in a sentence; empty for none
    first_checkpoint: int  # the step after which the first one comes
    more_steps: int  # how many "Continue" offers on top
    activations: KnobField  # a run may resume with another value of this knob
    log: tuple[LogLine, ...]
    settings: tuple[UsedKnob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNow:
    """The run as it is when its page is drawn."""

    id: int
    job_id: int
    name: str
    model: str  # its title
    photos: int  # how many it trains on
    started_from: str | None  # the name of the adapter that it began with
    state: State
    stop: Stop  # the user's request: none, stop or now
    phase: str
    step: int
    steps: int
    error: str  # empty without one
    failed_with_checkpoint: bool  # the page says that it can be resumed from there
    failed_for_settings: bool  # the page offers to edit them and start again
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Grid:
    """Samples: steps as rows, prompts as columns. Rows still to come are there already, so that nothing jumps."""

    prompts: tuple[GridPrompt, ...]
    rows: tuple[GridRow, ...]
    why_empty: str = ""  # a sentence, if there are no columns


@dataclass(frozen=True, slots=True)
class GridPrompt:
    """A column of the grid."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class GridRow:
    """The samples of one step."""

    step: int
    cells: tuple[GridCell, ...]


@dataclass(frozen=True, slots=True)
class GridCell:
    """A sample, or the place where one will be (without a url)."""

    prompt_id: int  # of a class picture, its number
    prompt: str
    url: str | None = None
    seed: int | None = None
    width: int = 256
    height: int = 256


@dataclass(frozen=True, slots=True)
class SavedStep:
    """A checkpoint."""

    step: int
    adapter_bytes: int | None  # of the file to download; None if it is no longer there


@dataclass(frozen=True, slots=True)
class ClassPictures:
    """Pictures of the class by the untouched model, as far as they are drawn."""

    prompt: str
    cells: tuple[GridCell, ...]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log."""

    at: datetime
    level: str  # info, warning or error
    text: str


@dataclass(frozen=True, slots=True)
class UsedKnob:
    """A knob as the run used it."""

    label: str
    value: Any
    unit: str
    source: str  # a key of wording.SOURCES


def run_page(database: Database, run_id: int) -> RunPage:
    """Raises NotFound."""
    # First, so that no event between these reads is missed; the script may apply one twice.
    after = newest_event(database)
    detail = runs.get_run(database, run_id)
    config = {name: entry["value"] for name, entry in detail.config.items()}
    project = projects.get_project(database, detail.project_id)
    return RunPage(
        after=after,
        project=project,
        run=_run_now(database, detail),
        diagnosis=detail.verdict,
        held_out_photos=_held_out_photos(detail, config),
        photo_scores=tuple(detail.photo_scores),
        grid=_grid(detail, config, project),
        class_pictures=_class_pictures(detail, config, project),
        checkpoints=tuple(_saved_steps(database, detail)),
        elsewhere=models.elsewhere(database, detail.model),
        first_checkpoint=min(int(config["save_every"]), detail.steps),
        more_steps=max(MORE_STEPS_AT_LEAST, round(detail.steps / 2 / MORE_STEPS_MULTIPLE) * MORE_STEPS_MULTIPLE),
        activations=fields(config, ())["activations"],
        log=_log(database, detail.job_id),
        settings=_used_knobs(detail),
    )


def _saved_steps(database: Database, detail: RunDetail) -> Iterator[SavedStep]:
    for each in reversed(detail.checkpoints):
        yield SavedStep(each.step, runs.adapter_bytes(database, detail.id, each.step))


def _run_now(database: Database, detail: RunDetail) -> RunNow:
    phase = NOT_RESPONDING if detail.not_responding else detail.phase
    if detail.state is State.CANCELLED:
        phase = REMOVED
    return RunNow(
        id=detail.id,
        job_id=detail.job_id,
        name=detail.name,
        model=models.title(database, detail.model),
        photos=detail.photos,
        started_from=detail.started_from,
        state=detail.state,
        stop=detail.stop,
        phase=wording.QUEUED if detail.state is State.QUEUED else phase,
        step=detail.step,
        steps=detail.steps,
        error=wording.error(detail.error),
        failed_with_checkpoint=detail.state is State.FAILED and bool(detail.checkpoints),
        failed_for_settings=wording.is_of_settings(detail.error),
        created_at=detail.created_at,
    )


def _held_out_photos(detail: RunDetail, config: Mapping[str, Any]) -> int:
    held_out = split.held_out(config.get("held_out", "none"), [item["name"] for item in detail.items])
    return held_out if isinstance(held_out, int) else len(held_out)


def _grid(detail: RunDetail, config: Mapping[str, Any], project: ProjectView) -> Grid:
    """Every sample that is drawn, by step and prompt, and empty cells for the next `ROWS_TO_COME` steps."""
    samples = {(sample.step or 0, sample.prompt_id): sample for sample in detail.samples}
    prompts = {number: _filled(prompt, project) for number, prompt in enumerate(config["sample_prompts"])}
    prompts |= {sample.prompt_id: sample.prompt for sample in detail.samples}
    steps = {step for step, _ in samples}
    every = int(config["sample_every"])
    if every and detail.state is not State.CANCELLED:
        newest = max(steps, default=0)
        to_come = [step for step in (*range(0, detail.steps, every), detail.steps) if step >= newest]
        steps |= set(to_come[:ROWS_TO_COME])
    if not steps or not prompts:
        return Grid((), (), _why_empty(every, bool(prompts)))
    rows = []
    for step in sorted(steps):
        drawn = {number: samples.get((step, number)) for number in prompts}
        cells = [_cell(sample) if sample else GridCell(number, prompts[number]) for number, sample in drawn.items()]
        rows.append(GridRow(step, tuple(cells)))
    return Grid(tuple(GridPrompt(number, text) for number, text in prompts.items()), tuple(rows))


def _why_empty(every: int, has_prompts: bool) -> str:
    if not has_prompts:
        return "It has no sample prompts."
    return REMOVED if every else "“Sample every” is 0 in its settings."


def _class_pictures(detail: RunDetail, config: Mapping[str, Any], project: ProjectView) -> ClassPictures | None:
    if not config.get("class_pictures"):  # runs of older versions have no such knob
        return None
    drawn = detail.class_pictures
    prompt = drawn[0].prompt if drawn else _filled(config["class_prompt"], project)
    return ClassPictures(prompt, tuple(_cell(sample) for sample in drawn))


def _cell(sample: SampleView) -> GridCell:
    return GridCell(sample.prompt_id, sample.prompt, sample.url, sample.seed, sample.width, sample.height)


def _filled(prompt: str, project: ProjectView) -> str:
    return prompt.replace("{trigger}", project.trigger).replace("{class_word}", project.class_word)


def _log(database: Database, job_id: int) -> tuple[LogLine, ...]:
    """The newest lines, the oldest of them first."""
    chosen = select(Event).where(Event.job_id == job_id, Event.kind == "log").order_by(col(Event.id).desc())
    with database.read() as session:
        rows = session.exec(chosen.limit(LOG_LINES)).all()[::-1]
    return tuple(LogLine(row.at, str(row.payload.get("level", "info")), str(row.payload["text"])) for row in rows)


def _used_knobs(detail: RunDetail) -> tuple[UsedKnob, ...]:
    known = knobs()
    used = [
        UsedKnob(
            label=known[name].label if name in known else name,
            value=entry["value"],
            unit=known[name].unit if name in known else "",
            source=entry["source"],
        )
        for name, entry in detail.config.items()
    ]
    if detail.started_from:
        used.append(UsedKnob("Begun with", detail.started_from, "", "user"))
    return tuple(used)
