"""The page where a run is set up: every knob, filled in with the model's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from app import settings
from app.actions import adapters, estimate, jobs, models, projects
from app.actions.models import ModelView
from app.actions.projects import ProjectView
from app.database import Database
from app.jobs import store
from app.jobs.states import Kind
from app.knob_fields import KnobField, KnobGroup, Option, fields, front, groups
from app.pages.lines import ALL, AdapterOption, adapter_options
from app.pages.render import Page
from app.tables import Run
from app.wording import number, plural
from core.config.resolve import Source
from core.config.train import knobs


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRunPage(Page):
    """The settings of a run before it starts."""

    template = "new_run.html"
    project: ProjectView
    front: tuple[KnobField, ...]  # the four that are shown unfolded
    groups: tuple[KnobGroup, ...]  # the rest, folded away
    suggested_steps: int  # for the first model; 0 without one
    suggestion: str  # why so many
    jobs_before: int  # how many run or wait before the run would start
    models: dict[str, ModelChoice]  # by name; the script reads it when another model is chosen
    again: EarlierRun | None  # the run whose settings are filled in
    draft: str  # the name under which the browser stores edits of this form; another project has another
    adapters: tuple[AdapterOption, ...]  # that the run can start from, the newest first


class EarlierRun(TypedDict):
    """A run to start again with other settings."""

    id: int
    name: str
    edits: dict[str, str]  # what its form had that differed from the defaults, as text by field


class ModelChoice(TypedDict):
    """What the form shows once a model is chosen."""

    defaults: dict[str, KnobDefault]
    steps: int
    why: str


class KnobDefault(TypedDict):
    """The value that a knob has unless the user sets it."""

    value: str
    source: Source


def new_run_page(database: Database, project_id: int, again: int | None = None) -> NewRunPage:
    """The form, filled in as the run with the id `again` had it, if that is a run of this project. Raises NotFound."""
    project = projects.get_project(database, project_id)
    trainable = [model for model in models.list_models(database) if model.usable and model.trains]
    with database.read() as session:
        with_machines = bool(settings.value_of(session, "hosts_file"))
    choices = {model.name: _choice(database, model, project.photos, with_machines) for model in trainable}
    first = trainable[0] if trainable else None
    shown = _knob_fields(first.defaults if first else {}, trainable, with_machines)
    return NewRunPage(
        project=project,
        front=front(shown),
        groups=groups(shown),
        suggested_steps=choices[first.name]["steps"] if first else 0,
        suggestion=choices[first.name]["why"] if first else "",
        jobs_before=sum(1 for job in jobs.queue(database) if job.kind.lane == Kind.TRAIN.lane),
        models=choices,
        adapters=adapter_options(database, adapters.list_adapters(database, limit=ALL)[::-1]),
        again=_earlier_run(database, project_id, again) if again is not None else None,
        draft=f"new-run {project.id} {project.created_at.isoformat()}",
    )


def _earlier_run(database: Database, project_id: int, run_id: int) -> EarlierRun | None:
    """None for a run that is gone or of another project: its link leads to the plain form."""
    with database.read() as session:
        run = session.get(Run, run_id)
        if run is None or run.project_id != project_id:
            return None
        start = store.get(session, run.job_id).params.get("start_from")
    ours = {"rank", "alpha"} if start else set()  # of the adapter that it began with
    edits = {
        name: number(entry["value"])
        for name, entry in run.config.items()
        if name in knobs() and name not in ours and (entry["source"] == "user" or name in ("model", "steps"))
    }
    return EarlierRun(id=run_id, name=run.name, edits=edits | ({"start_from": str(start["id"])} if start else {}))


def _choice(database: Database, model: ModelView, photos: int, with_machines: bool) -> ModelChoice:
    steps = estimate.suggest(database, model.name, photos).steps
    shown = _knob_fields(model.defaults, (), with_machines)
    why = f"{steps} steps suit this model. More photos want more."
    if photos:
        why = f"{steps} steps suit {plural(photos, 'photo')}. You can stop earlier, or add more afterwards."
    defaults: dict[str, KnobDefault] = {
        name: {"value": field.default, "source": field.source} for name, field in shown.items()
    }
    return {"defaults": defaults, "steps": steps, "why": why}


def _knob_fields(
    defaults: Mapping[str, Any], trainable: Sequence[ModelView], with_machines: bool
) -> dict[str, KnobField]:
    """Every knob by name; `machines` only when the settings name a hosts file."""
    options = tuple(Option(model.name, model.title) for model in trainable)
    return {name: field for name, field in fields(defaults, options).items() if with_machines or name != "machines"}
