"""The page of one project: its photos, their captions, crops and masks, the verdict on them, and its runs."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from app.actions import captioner, edits, jobs, photos, projects, runs, settings, training_shape
from app.actions.captioner import CaptionerView
from app.actions.comparison import RUNS_AT_MOST
from app.actions.photo_views import PhotoView
from app.actions.projects import ProjectView
from app.database import Database
from app.jobs.states import Kind, State
from app.pages.lines import ALL, RunLine, job_progress, newest_event, run_line
from app.pages.render import Page
from core.dataset import buckets, captions


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPage(Page):
    """One subject: its photos, captions and runs."""

    template = "project.html"
    after: int  # the newest event that the page knows of
    project: ProjectView
    photos: int  # how many, those set aside too
    set_json: str  # a `PhotoSet`, to stand in a <script>: the page's script draws the photos from it
    runs: tuple[RunLine, ...]  # the newest first
    compared_at_most: int  # how many of them stand beside one another
    captioning: Captioning | None  # None while no caption job waits or runs
    caption_template: str
    default_caption: str  # the template filled in
    captioner_url: str
    captioner_model: str
    built_in: CaptionerView  # the captioner of the Models page


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """What static/js/project/state.js begins with."""

    photos: list[PhotoView]
    buckets: list[tuple[int, int]]  # width and height in which photos will be trained
    template: str  # the caption of a photo without one
    undo: str | None  # what undo and redo would do
    redo: str | None


SET = TypeAdapter(PhotoSet)


@dataclass(frozen=True, slots=True)
class Captioning:
    """The caption job that waits or runs."""

    job_id: int
    progress: str  # "3 of 8 photos"


def project_page(database: Database, project_id: int) -> ProjectPage:
    """Raises NotFound."""
    after = newest_event(database)
    project = projects.get_project(database, project_id)
    values = settings.get_settings(database)
    views = runs.list_runs(database, project_id, limit=ALL)[::-1]
    default_caption = captions.fill(values["caption_template"], project.trigger, project.class_word)
    every = photos.list_photos(database, project_id, limit=ALL)
    with database.read() as session:
        possible = edits.state(session, project_id)
    photo_set = PhotoSet(every, _buckets(database, project_id), default_caption, possible.undo, possible.redo)
    return ProjectPage(
        after=after,
        project=project,
        photos=len(every),
        set_json=_within_script(SET.dump_json(photo_set).decode()),
        runs=tuple(run_line(database, view) for view in views),
        compared_at_most=RUNS_AT_MOST,
        captioning=_captioning(database, project_id),
        caption_template=values["caption_template"],
        default_caption=default_caption,
        captioner_url=values["captioner_url"],
        captioner_model=values["captioner_model"],
        built_in=captioner.view(database),
    )


def _within_script(json: str) -> str:
    """JSON inside of a <script> element, which a "</script>" in a caption must not end."""
    return json.replace("<", "\\u003c")


def _captioning(database: Database, project_id: int) -> Captioning | None:
    going = (State.QUEUED, State.RUNNING)
    found = jobs.list_jobs(database, limit=ALL, states=going, kinds=(Kind.CAPTION,), project_id=project_id)
    return Captioning(found[-1].id, job_progress(found[-1])) if found else None


def _buckets(database: Database, project_id: int) -> list[tuple[int, int]]:
    config = training_shape.config_of(database, project_id)
    if config.shapes == "square":
        return [(config.side_px, config.side_px)]
    return [(each.width, each.height) for each in buckets.of_side(config.side_px)]
