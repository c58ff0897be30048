"""The pages of the studio. Each is a frozen dataclass, and its template may use nothing else.

    HomePage  ProjectPage  NewRunPage  RunPage  PicturesPage  JobsPage  ModelsPage  SettingsPage  ErrorPage

Beside its own fields every template has `frame`. The parts that pages are made of are in `app/page_parts.py`; what
they are filled with is read in `app/contents/`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app import __version__, resources
from app.actions.photos import PhotoView
from app.actions.projects import ProjectView
from app.actions.run_views import PhotoScore
from app.knob_fields import KnobField, KnobGroup, Option
from app.page_parts import (
    AdapterOption,
    Captioning,
    CheckpointLine,
    ClassPictures,
    DiskLine,
    Drawing,
    Grid,
    JobLine,
    Line,
    LogLine,
    ModelGroup,
    ProjectCard,
    RunLine,
    RunNow,
    SettingField,
    UsedKnob,
    VerdictNote,
)

THEMES = ("system", "light", "dark")


@dataclass(frozen=True, slots=True)
class Place:
    """One entry of the main navigation."""

    name: str
    label: str
    url: str


PLACES = (
    Place("projects", "Projects", "/"),
    Place("pictures", "Pictures", "/pictures"),
    Place("queue", "Queue", "/queue"),
    Place("models", "Models", "/models"),
    Place("settings", "Settings", "/settings"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page has around it."""

    here: str  # name of the place in the navigation
    theme: str  # system, light or dark: this browser's choice, kept in a cookie
    active_jobs: int  # how many run or wait
    version: str = __version__
    places: tuple[Place, ...] = PLACES


class Page:
    """A page knows its template and where it stands in the navigation."""

    template: ClassVar[str]
    here: ClassVar[str] = "projects"


@dataclass(frozen=True, slots=True, kw_only=True)
class HomePage(Page):
    """The projects; the way in when there are none."""

    template = "home.html"
    after: int  # the newest event the page knows of
    projects: tuple[ProjectCard, ...]
    runs: tuple[RunLine, ...]  # the latest, over all projects
    examples: tuple[str, ...]  # addresses of the photos that come with Likeness; none offers no start with them


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPage(Page):
    """One subject: its photos, captions and runs."""

    template = "project.html"
    after: int  # the newest event the page knows of
    project: ProjectView
    counts: str  # "8 photos and 2 runs"
    photos: tuple[PhotoView, ...]
    blank_photo: PhotoView  # for the script to fill in
    keeps_shapes: bool  # whether photos are trained on in their own shape, else as squares
    runs: tuple[RunLine, ...]
    captioning: Captioning | None
    caption_template: str
    default_caption: str  # the template filled in
    captioner_url: str
    captioner_model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRunPage(Page):
    """The settings of a run to be."""

    template = "new_run.html"
    project: ProjectView
    photos: int
    photo_words: str  # "6 photos"
    front: tuple[KnobField, ...]  # the four that are shown unfolded
    groups: tuple[KnobGroup, ...]
    suggested_steps: int
    suggestion: str  # why so many
    queue_words: str  # when it would start
    models: dict[str, Any]  # by name: {"defaults", "steps", "why"}; for the script
    adapters: tuple[AdapterOption, ...]  # to begin with; the newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage(Page):
    """One training, live."""

    template = "run.html"
    after: int
    project: ProjectView
    run: RunNow
    photo_words: str
    verdict: VerdictNote
    scored_words: str  # on which photos
    photo_scores: tuple[PhotoScore, ...]
    grid: Grid
    class_pictures: ClassPictures | None  # None for a run that trains on none
    checkpoints: tuple[CheckpointLine, ...]  # the newest first
    first_checkpoint: int  # the step that will bring it
    first_words: str  # what the samples of step 0 show
    more_steps: int  # how many "continue" offers on top
    activations: KnobField  # which a run may go on with others of
    log: tuple[LogLine, ...]
    settings: tuple[UsedKnob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturesPage(Page):
    """Drawing with an adapter, and what was drawn."""

    template = "pictures.html"
    here = "pictures"
    after: int
    adapters: tuple[AdapterOption, ...]  # the newest first
    chosen: str
    prompt: str
    trigger_words: str  # "sks can"; empty without an adapter
    seed: int
    more: tuple[KnobField, ...]  # steps, guidance, size, precision
    drawings: tuple[Drawing, ...]  # the newest first
    blank_drawing: Drawing  # for the script to fill in


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsPage(Page):
    """What runs, waits and has ended."""

    template = "jobs.html"
    here = "queue"
    after: int
    running: tuple[JobLine, ...]
    queued: tuple[JobLine, ...]
    ended: tuple[JobLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsPage(Page):
    """The base models."""

    template = "models.html"
    here = "models"
    after: int
    groups: tuple[ModelGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsPage(Page):
    """The studio's settings."""

    template = "settings.html"
    here = "settings"
    themes: tuple[Option, ...]
    run_settings: tuple[SettingField, ...]
    caption_settings: tuple[SettingField, ...]
    model_settings: tuple[SettingField, ...]
    home: str
    free_words: str
    disk: tuple[DiskLine, ...]
    about: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPage(Page):
    """Something is not there, or went wrong."""

    template = "error.html"
    status: int
    title: str
    message: str


PAGES: tuple[type[Page], ...] = (
    HomePage,
    ProjectPage,
    NewRunPage,
    RunPage,
    PicturesPage,
    JobsPage,
    ModelsPage,
    SettingsPage,
    ErrorPage,
)


@cache
def templates() -> Environment:
    """The templates; a name that no page declares is an error, not an empty place."""
    return Environment(
        loader=FileSystemLoader(resources.folder("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(request: Request, page: Any, *, active_jobs: int = 0, status: int = 200) -> HTMLResponse:
    """The page as HTML."""
    theme = request.cookies.get("likeness-theme", "system")
    frame = Frame(page.here, theme if theme in THEMES else "system", active_jobs)
    names = [field.name for field in dataclasses.fields(page)]
    text = templates().get_template(page.template).render(frame=frame, **{name: getattr(page, name) for name in names})
    return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})
