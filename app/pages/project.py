"""The page of one project: its photos, captions and runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.actions import jobs, models, photos, projects, runs, settings
from app.actions.photo_views import PhotoView, SubjectView
from app.actions.projects import ProjectView
from app.actions.run_views import RunView
from app.database import Database
from app.jobs.states import Kind, State
from app.pages.lines import ALL, RunLine, job_progress, newest_event, run_line
from app.pages.render import Page
from app.tables import now
from core.config.train import default_of
from core.dataset import captions


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPage(Page):
    """One subject: its photos, captions and runs."""

    template = "project.html"
    after: int  # the newest event that the page knows of
    project: ProjectView
    photos: tuple[PhotoView, ...]
    blank_photo: PhotoView  # for the script to copy and fill in
    keeps_shapes: bool  # whether photos are trained on in their own shape, else as squares
    runs: tuple[RunLine, ...]  # the newest first
    captioning: Captioning | None  # None while no caption job waits or runs
    caption_template: str
    default_caption: str  # the template filled in
    captioner_url: str
    captioner_model: str


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
    return ProjectPage(
        after=after,
        project=project,
        photos=tuple(photos.list_photos(database, project_id, limit=ALL)),
        blank_photo=_blank_photo(project_id),
        keeps_shapes=_shapes(database, views) != "square",
        runs=tuple(run_line(database, view) for view in views),
        captioning=_captioning(database, project_id),
        caption_template=values["caption_template"],
        default_caption=captions.fill(values["caption_template"], project.trigger, project.class_word),
        captioner_url=values["captioner_url"],
        captioner_model=values["captioner_model"],
    )


def _captioning(database: Database, project_id: int) -> Captioning | None:
    going = (State.QUEUED, State.RUNNING)
    found = jobs.list_jobs(database, limit=ALL, states=going, kinds=(Kind.CAPTION,), project_id=project_id)
    return Captioning(found[-1].id, job_progress(found[-1])) if found else None


def _shapes(database: Database, newest_first: Sequence[RunView]) -> str:
    """The `shapes` knob of the project's newest run; without a run, that of the first model to train."""
    if newest_first:
        return str(runs.get_run(database, newest_first[0].id).config.get("shapes", {"value": "square"})["value"])
    first = next((model for model in models.list_models(database) if model.usable and model.trains), None)
    return str((first.defaults if first else {}).get("shapes", default_of("shapes")))


def _blank_photo(project_id: int) -> PhotoView:
    return PhotoView(
        id=0,
        project_id=project_id,
        name="photo",
        sha256="",
        bytes=0,
        width=1,
        height=1,
        warnings=[],
        caption=None,
        caption_origin=None,
        crop=None,
        crops=[],
        aside=False,
        subject=SubjectView(None, "found", 0.0),
        mask=None,
        mask_url=None,
        taken=None,
        file_url="",
        thumb_url="",
        created_at=now(),
    )
