"""The home page: a place to drop photos, and the projects, each with its best picture beside a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app import wording
from app.actions import examples, grid_views, photos, projects, runs
from app.actions.photo_views import PhotoView
from app.actions.projects import ProjectView
from app.actions.run_views import RunView
from app.database import Database
from app.jobs.states import State
from app.pages.lines import ALL, newest_event
from app.pages.render import Page

PHOTOS = 4  # of a project that has drawn nothing yet


@dataclass(frozen=True, slots=True, kw_only=True)
class HomePage(Page):
    """The projects; the way in when there are none."""

    template = "home.html"
    after: int  # the newest event that the page knows of
    projects: tuple[ProjectCard, ...]  # the newest first
    examples: tuple[str, ...]  # addresses of the photos that come with Likeness; without them no example is offered


@dataclass(frozen=True, slots=True)
class ProjectCard:
    """One project: its photos, what was drawn last, and how far its newest run is."""

    project: ProjectView
    photos: tuple[PhotoView, ...]  # the first ones
    more: int  # photos beyond those
    drawn_url: str | None  # the sample of the starred checkpoint, else the newest
    drawn_step: int | None
    job_id: int | None  # of the newest run
    state: State | None  # of the newest run
    percent: int  # of its steps
    words: str  # "Training, step 120 of 600"
    action: tuple[str, str]  # the next thing to do: its label and address


def home_page(database: Database) -> HomePage:
    after = newest_event(database)
    views = reversed(projects.list_projects(database, limit=ALL))
    return HomePage(
        after=after,
        projects=tuple(_card(database, view) for view in views),
        examples=tuple(f"/api/examples/{name}" for name in examples.names()),
    )


def _card(database: Database, project: ProjectView) -> ProjectCard:
    first = photos.list_photos(database, project.id, limit=PHOTOS + 1) if project.photos or project.aside else []
    every = runs.list_runs(database, project.id, limit=ALL)
    newest = every[-1] if every else None
    covers = {run.id: url for run in every if (url := run.cover_url or _drawn_beside(database, run))}
    shown = [run for run in reversed(every) if run.id in covers]
    drawn = next((run for run in shown if run.starred is not None), shown[0] if shown else None)
    return ProjectCard(
        project=project,
        photos=tuple(first[:PHOTOS]),
        more=max(0, project.photos + project.aside - PHOTOS),
        drawn_url=covers[drawn.id] if drawn else None,
        drawn_step=(drawn.step if drawn.starred is None else drawn.starred) if drawn else None,
        job_id=newest.job_id if newest else None,
        state=newest.state if newest else None,
        percent=round(100 * newest.step / newest.steps) if newest and newest.steps else 0,
        words=_words(project, every),
        action=_action(project, newest),
    )


def _drawn_beside(database: Database, run: RunView) -> str | None:
    """A picture of the starred checkpoint, for a run without samples."""
    return grid_views.drawn_with(database, run.id, run.starred) if run.starred is not None else None


def _words(project: ProjectView, every: Sequence[RunView]) -> str:
    count = wording.plural(project.photos, "photo")
    if not every:
        return f"Not trained yet, {count}" if project.photos else "No photos yet"
    newest = every[-1]
    if newest.state is State.SUCCEEDED:
        return f"Ready, {count}, {wording.plural(len(every), 'run')}"
    word = "Training" if newest.state is State.RUNNING else wording.STATES[newest.state].capitalize()
    return f"{word}, step {newest.step} of {newest.steps}"


def _action(project: ProjectView, newest: RunView | None) -> tuple[str, str]:
    if newest is None:
        place = f"/projects/{project.id}"
        return ("Train", f"{place}/train") if project.photos else ("Add photos", place)
    if newest.state is State.SUCCEEDED:
        return "Draw", f"/pictures?run={newest.id}"
    going = newest.state in (State.RUNNING, State.QUEUED)
    return ("Watch" if going else "Look"), f"/runs/{newest.id}"
