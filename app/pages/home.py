"""The home page: the projects and the latest runs; the way in when there are none."""

from __future__ import annotations

from dataclasses import dataclass

from app.actions import examples, photos, projects, runs
from app.actions.projects import ProjectView
from app.database import Database
from app.pages.lines import ALL, RunLine, newest_event, run_line
from app.pages.render import Page

LATEST_RUNS = 5
THUMBS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HomePage(Page):
    """The projects; the way in when there are none."""

    template = "home.html"
    after: int  # the newest event that the page knows of
    projects: tuple[ProjectCard, ...]  # the newest first
    runs: tuple[RunLine, ...]  # the latest, over all projects
    examples: tuple[str, ...]  # addresses of the photos that come with Likeness; without them no example is offered


@dataclass(frozen=True, slots=True)
class ProjectCard:
    """One project."""

    project: ProjectView
    thumb_urls: tuple[str, ...]  # of its first photos


def home_page(database: Database) -> HomePage:
    after = newest_event(database)
    views = reversed(projects.list_projects(database, limit=ALL))
    latest = runs.list_runs(database, limit=ALL)[::-1][:LATEST_RUNS]
    return HomePage(
        after=after,
        projects=tuple(_card(database, view) for view in views),
        runs=tuple(run_line(database, view, with_project=True) for view in latest),
        examples=tuple(f"/api/examples/{name}" for name in examples.names()),
    )


def _card(database: Database, project: ProjectView) -> ProjectCard:
    first = photos.list_photos(database, project.id, limit=THUMBS) if project.photos else []
    return ProjectCard(project, tuple(photo.thumb_url for photo in first))
