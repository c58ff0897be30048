"""The pages about a subject: all projects, one project, the settings of a run to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import settings, wording
from app.actions import adapters, estimate, examples, jobs, models, photos, projects, runs
from app.actions import settings as settings_actions
from app.actions.photos import PhotoView
from app.actions.run_views import RunView
from app.contents.lines import ALL, adapter_options, job_words, newest_event, run_line
from app.database import Database
from app.jobs.states import Kind, State
from app.knob_fields import KnobField, Option, fields, front, groups
from app.page_parts import Captioning, ProjectCard
from app.pages import HomePage, NewRunPage, ProjectPage
from app.tables import now
from core.config.train import default_of
from core.dataset import captions


def home(database: Database) -> HomePage:
    after = newest_event(database)
    cards = []
    for project in reversed(projects.list_projects(database, limit=ALL)):
        first = photos.list_photos(database, project.id, limit=3) if project.photos else []
        counts = f"{wording.plural(project.photos, 'photo')}, {wording.plural(project.runs, 'run')}"
        thumbs = tuple(photo.thumb_url for photo in first)
        cards.append(ProjectCard(project.id, project.name, project.trigger, project.class_word, counts, thumbs))
    newest = runs.list_runs(database, limit=ALL)[::-1][:5]
    return HomePage(
        after=after,
        projects=tuple(cards),
        runs=tuple(run_line(database, each, True) for each in newest),
        examples=tuple(f"/api/examples/{name}" for name in examples.names()),
    )


def project(database: Database, project_id: int) -> ProjectPage:
    """Raises NotFound."""
    after = newest_event(database)
    found = projects.get_project(database, project_id)
    values = settings_actions.get_settings(database)
    template = values["caption_template"]
    lines = runs.list_runs(database, project_id, limit=ALL)[::-1]
    waiting = jobs.list_jobs(
        database, limit=ALL, states=(State.QUEUED, State.RUNNING), kinds=(Kind.CAPTION,), project_id=project_id
    )
    return ProjectPage(
        after=after,
        project=found,
        counts=f"{wording.plural(found.photos, 'photo')} and {wording.plural(found.runs, 'run')}",
        photos=tuple(photos.list_photos(database, project_id, limit=ALL)),
        blank_photo=_blank_photo(project_id),
        keeps_shapes=_shapes(database, lines) != "square",
        runs=tuple(run_line(database, each) for each in lines),
        captioning=Captioning(waiting[-1].id, job_words(waiting[-1])) if waiting else None,
        caption_template=template,
        default_caption=captions.fill(template, found.trigger, found.class_word),
        captioner_url=values["captioner_url"],
        captioner_model=values["captioner_model"],
    )


def new_run(database: Database, project_id: int) -> NewRunPage:
    """Raises NotFound."""
    found = projects.get_project(database, project_id)
    here = [each for each in models.list_models(database) if each.usable and each.trains]
    choices = tuple(Option(each.name, each.title) for each in here)
    with database.read() as session:
        several = bool(settings.value_of(session, "hosts_file"))

    def drawn_for(defaults: Mapping[str, Any]) -> dict[str, KnobField]:
        found = fields(defaults, choices)
        return {name: field for name, field in found.items() if several or name != "machines"}

    about: dict[str, Any] = {}
    for model in here:
        steps = estimate.suggest(database, model.name, found.photos).steps
        drawn = drawn_for(model.defaults)
        defaults = {name: {"value": one.default, "source": one.source} for name, one in drawn.items()}
        about[model.name] = {"defaults": defaults, "steps": steps, "why": _why(steps, found.photos)}
    first = here[0] if here else None
    drawn = drawn_for(first.defaults if first else {})
    ahead = sum(1 for job in jobs.queue(database) if job.kind.lane == Kind.TRAIN.lane)
    return NewRunPage(
        project=found,
        photos=found.photos,
        photo_words=wording.plural(found.photos, "photo"),
        front=front(drawn),
        groups=groups(drawn),
        suggested_steps=about[first.name]["steps"] if first else 0,
        suggestion=about[first.name]["why"] if first else "",
        queue_words=f"It starts after {wording.plural(ahead, 'job')} before it." if ahead else "It starts at once.",
        models=about,
        adapters=adapter_options(database, adapters.list_adapters(database, limit=ALL)[::-1]),
    )


def _shapes(database: Database, lines: list[RunView]) -> str:
    """The shapes that photos had in the newest of these runs, else those that the first model wants."""
    if lines:
        return str(runs.get_run(database, lines[0].id).config.get("shapes", {"value": "square"})["value"])
    first = next((each for each in models.list_models(database) if each.usable and each.trains), None)
    return str((first.defaults if first else {}).get("shapes", default_of("shapes")))


def _why(steps: int, count: int) -> str:
    if not count:
        return f"{steps} steps suit this model. More photos want more."
    return f"{steps} steps suit {wording.plural(count, 'photo')}. You can stop earlier, or add more afterwards."


def _blank_photo(project_id: int) -> PhotoView:
    """What the page's script copies for a photo that has just arrived."""
    blank = {
        "caption": None,
        "caption_origin": None,
        "crop": None,
        "file_url": "",
        "thumb_url": "",
        "created_at": now(),
    }
    return PhotoView(0, project_id, "photo", "", 0, 1, 1, [], **blank)
