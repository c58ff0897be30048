"""The page of one run: its samples first, then what is known of them.

Parts:

    run (state, step)     scene: samples, photos of the set, checkpoints       suggestion: which checkpoint to draw with
    diagnosis, photos     class_pictures                                       log, settings

The scene, the checkpoints and the log are in the page as JSON, since they change while the run goes on: static/js/run/
draws them, and applies every event after `after` as it comes. The curves it fetches (GET /api/runs/{id}/metrics).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlmodel import col, select

from app import wording
from app.actions import models, projects, runs, sending
from app.actions.lineage import Relative
from app.actions.photo_views import file_url, thumb_url
from app.actions.projects import ProjectView
from app.actions.run_views import PhotoScore, RunDetail, SampleView
from app.database import Database
from app.jobs.states import State, Stop
from app.knob_fields import KnobField, fields
from app.pages.lines import NOT_RESPONDING, newest_event
from app.pages.render import Page
from app.pages.run_sheet import sheet_data
from app.tables import Event, Photo
from core.config.train import knobs
from core.dataset import split
from core.training.diagnosis import Diagnosis

REMOVED = "It was removed before it started."
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
    parent: Relative | None  # the run that it began from
    children: tuple[Relative, ...]  # the runs that began from it
    suggestion_data: Mapping[str, Any]  # `Choice` as JSON: which checkpoint to draw with
    prompts: int  # how many the run has samples of
    why_empty: str  # a sentence where there will be no samples
    has_checkpoint: bool
    data: Mapping[str, Any]  # `SceneData` as JSON
    sheet_data: Mapping[str, Any]  # `SheetData` as JSON
    class_pictures: ClassPictures | None  # None for a run that trains on none
    elsewhere: str  # which programs miss layers of the downloaded file, in a sentence; empty for none
    send: sending.Offer  # the programs that read its adapters
    first_checkpoint: int  # the step after which the first one comes
    more_steps: int  # how many "Continue" offers on top
    activations: KnobField  # a run may resume with another value of this knob
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
class SceneData:
    """What the page's script draws."""

    prompts: tuple[Prompt, ...]
    samples: tuple[Picture, ...]  # by step, then by prompt
    every: int  # steps between samples; 0: none are drawn by themselves
    base: str  # what step 0 is: "the base" or "as begun"
    photos: tuple[ScenePhoto, ...]  # that the run trains on or is scored on
    scores: tuple[PhotoScore, ...]  # empty before the first one
    checkpoints: tuple[SavedStep, ...]  # the oldest first
    log: tuple[LogLine, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that the run draws samples of."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A sample, or a class picture."""

    prompt_id: int  # of a class picture, its number
    prompt: str
    url: str
    seed: int
    width: int
    height: int
    step: int | None


@dataclass(frozen=True, slots=True)
class ScenePhoto:
    """A photo of the set that is still in the project."""

    id: int
    name: str
    url: str
    thumb_url: str
    aside: bool  # by now


@dataclass(frozen=True, slots=True)
class SavedStep:
    """A checkpoint."""

    step: int
    adapter_bytes: int | None  # of the file to download; None if it is no longer there
    starred: bool


@dataclass(frozen=True, slots=True)
class ClassPictures:
    """Pictures of the class by the untouched model, as far as they are drawn."""

    prompt: str
    pictures: tuple[Picture, ...]
    drawn: int  # how many are drawn in all; 0: the run trains on the user's own alone
    own: int  # of the user's
    folder: str  # of those


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log."""

    at: str  # ISO 8601
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
    data, why_empty = _scene(database, detail, config, project)
    return RunPage(
        after=after,
        project=project,
        run=_run_now(database, detail),
        diagnosis=detail.verdict,
        held_out_photos=_held_out_photos(detail, config),
        photo_scores=tuple(detail.photo_scores),
        parent=detail.parent,
        children=tuple(detail.children),
        suggestion_data=asdict(detail.suggestion),
        prompts=len(data.prompts),
        why_empty=why_empty,
        has_checkpoint=bool(detail.checkpoints),
        data=asdict(data),
        sheet_data=asdict(sheet_data(database, detail, [each.text for each in data.prompts], _subject(project))),
        class_pictures=_class_pictures(detail, config, project),
        elsewhere=models.elsewhere(database, detail.model),
        send=sending.offer(database, run_id),
        first_checkpoint=min(int(config.get("save_every", detail.steps)), detail.steps),
        more_steps=max(MORE_STEPS_AT_LEAST, round(detail.steps / 2 / MORE_STEPS_MULTIPLE) * MORE_STEPS_MULTIPLE),
        activations=fields(config, ())["activations"],
        settings=_used_knobs(detail),
    )


def _saved_steps(database: Database, detail: RunDetail) -> Iterator[SavedStep]:
    for each in detail.checkpoints:
        yield SavedStep(each.step, runs.adapter_bytes(database, detail.id, each.step), each.starred)


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


def _scene(
    database: Database, detail: RunDetail, config: Mapping[str, Any], project: ProjectView
) -> tuple[SceneData, str]:
    """What is drawn, what comes next, and a sentence where nothing is drawn and nothing will be."""
    prompts = {number: _filled(prompt, project) for number, prompt in enumerate(config.get("sample_prompts", ()))}
    prompts |= {sample.prompt_id: sample.prompt for sample in detail.samples}
    every = int(config.get("sample_every", 0))
    drawable = every > 0 and detail.state is not State.CANCELLED
    scene = SceneData(
        prompts=tuple(Prompt(number, text) for number, text in prompts.items()) if detail.samples or drawable else (),
        samples=tuple(_picture(sample) for sample in detail.samples),
        every=every,
        base="as begun" if detail.started_from else "the base",
        photos=_photos(database, detail),
        scores=tuple(detail.photo_scores),
        checkpoints=tuple(_saved_steps(database, detail)),
        log=_log(database, detail.job_id),
    )
    return scene, "" if scene.prompts else _why_empty(every, bool(prompts))


def _photos(database: Database, detail: RunDetail) -> tuple[ScenePhoto, ...]:
    """The photos of the run's version, as far as the project still has them."""
    wanted = [item["photo_id"] for item in detail.items]
    with database.read() as session:
        rows = {row.id: row for row in session.exec(select(Photo).where(col(Photo.id).in_(wanted)))}
    return tuple(
        ScenePhoto(number, rows[number].name, file_url(rows[number]), thumb_url(rows[number]), rows[number].aside)
        for number in dict.fromkeys(wanted)
        if number in rows
    )


def _why_empty(every: int, has_prompts: bool) -> str:
    if not has_prompts:
        return "It has no sample prompts."
    return REMOVED if every else "“Sample every” is 0 in its settings."


def _class_pictures(detail: RunDetail, config: Mapping[str, Any], project: ProjectView) -> ClassPictures | None:
    count, folder = config.get("class_pictures", 0), config.get("class_folder", "")  # older runs have no such knobs
    if not count and not folder:
        return None
    drawn = detail.class_pictures
    prompt = drawn[0].prompt if drawn else _filled(config["class_prompt"], project)
    pictures = tuple(_picture(sample) for sample in drawn)
    return ClassPictures(prompt, pictures, count, detail.own_class_pictures, folder)


def _picture(sample: SampleView) -> Picture:
    return Picture(sample.prompt_id, sample.prompt, sample.url, sample.seed, sample.width, sample.height, sample.step)


def _subject(project: ProjectView) -> str:
    return f"{project.trigger} {project.class_word}".strip()


def _filled(prompt: str, project: ProjectView) -> str:
    return prompt.replace("{trigger}", project.trigger).replace("{class_word}", project.class_word)


def _log(database: Database, job_id: int) -> tuple[LogLine, ...]:
    """The newest lines, the oldest of them first."""
    chosen = select(Event).where(Event.job_id == job_id, Event.kind == "log").order_by(col(Event.id).desc())
    with database.read() as session:
        rows = session.exec(chosen.limit(LOG_LINES)).all()[::-1]
    return tuple(
        LogLine(row.at.isoformat(), str(row.payload.get("level", "info")), str(row.payload["text"])) for row in rows
    )


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
