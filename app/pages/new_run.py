"""The page where a run is set up: every knob, filled in with the values of the model and the presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

from app import settings
from app.actions import adapters, configurations, estimate, jobs, models, projects, run_presets
from app.actions.base_samples import base_samples
from app.actions.configurations import ConfigurationView
from app.actions.models import ModelView
from app.actions.projects import ProjectView
from app.database import Database
from app.jobs.states import Kind
from app.knob_fields import KnobField, KnobGroup, Option, fields, front, groups
from app.pages.earlier_run import EarlierRun, earlier_run
from app.pages.lines import ALL, AdapterOption, adapter_options
from app.pages.render import Page
from app.wording import number, plural
from core.config.knob import LINES_AT_MOST
from core.config.presets import GOALS, TIMES, Change, proposed_goal
from core.config.resolve import Source
from core.hub.catalog import Entry

PROMPTS = "sample_prompts"  # the knob with a place of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRunPage(Page):
    """The settings of a run before it starts."""

    template = "new_run.html"
    project: ProjectView
    front: tuple[KnobField, ...]  # the four that are shown unfolded
    prompts: KnobField
    prompts_at_most: int
    groups: tuple[KnobGroup, ...]  # the rest, folded away
    goals: tuple[PresetChoice, ...]
    times: tuple[PresetChoice, ...]
    goal: str  # proposed by the class word
    proposals: dict[str, list[ProposedPrompt]]  # sample prompts, by goal
    bases: list[dict[str, Any]]  # what the base drew for prompts and seeds: app.actions.base_samples.BaseSample
    configurations: list[SavedSettings]
    suggestion: str  # how many steps suit the photos and the first model
    jobs_before: int  # how many run or wait before the run would start
    models: dict[str, ModelChoice]  # by name; the script reads it when another model is chosen
    again: EarlierRun | None  # the run whose settings are filled in
    draft: str  # the name under which the browser stores edits of this form; another project has another
    adapters: tuple[AdapterOption, ...]  # that the run can start from, the newest first


@dataclass(frozen=True, slots=True)
class PresetChoice:
    """A preset to choose."""

    name: str
    label: str
    sentence: str


class ProposedPrompt(TypedDict):
    """A sample prompt to add with one press."""

    label: str
    text: str
    reason: str


class PresetValue(TypedDict):
    """What a preset sets, as a form shows it, and why."""

    value: str
    reason: str


class SavedSettings(TypedDict):
    """A named configuration, as text by field; `unknown` are settings of another version."""

    id: str
    name: str
    settings: dict[str, str]
    unknown: dict[str, str]


class ModelChoice(TypedDict):
    """What the form shows once a model is chosen."""

    defaults: dict[str, KnobDefault]
    steps: int
    why: str
    goals: dict[str, dict[str, PresetValue]]  # by preset and knob
    times: dict[str, dict[str, PresetValue]]


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
    entries = {entry.name: entry for entry in models.entries(database)}
    choices = {
        model.name: _choice(database, model, entries[model.name], project.photos, with_machines) for model in trainable
    }
    first = trainable[0] if trainable else None
    shown = _knob_fields(first.defaults if first else {}, trainable, with_machines)
    return NewRunPage(
        project=project,
        front=front(shown),
        prompts=shown[PROMPTS],
        prompts_at_most=LINES_AT_MOST,
        groups=groups(shown, without=(PROMPTS,)),
        goals=tuple(PresetChoice(name, goal.label, goal.sentence) for name, goal in GOALS.items()),
        times=tuple(PresetChoice(name, time.label, time.sentence) for name, time in TIMES.items()),
        goal=proposed_goal(project.class_word),
        proposals=_proposals(),
        bases=[asdict(each) for each in base_samples(database, project_id)],
        configurations=[_saved(each) for each in configurations.list_configurations(database, limit=ALL)],
        suggestion=choices[first.name]["why"] if first else "",
        jobs_before=sum(1 for job in jobs.queue(database) if job.kind.lane == Kind.TRAIN.lane),
        models=choices,
        adapters=adapter_options(database, adapters.list_adapters(database, limit=ALL)[::-1]),
        again=earlier_run(database, project_id, again) if again is not None else None,
        draft=f"new-run {project.id} {project.created_at.isoformat()}",
    )


def _proposals() -> dict[str, list[ProposedPrompt]]:
    return {
        name: [{"label": each.label, "text": each.text, "reason": each.reason} for each in goal.prompts]
        for name, goal in GOALS.items()
    }


def _saved(view: ConfigurationView) -> SavedSettings:
    settings, unknown = ({name: number(v) for name, v in each.items()} for each in (view.settings, view.unknown))
    return {"id": str(view.id), "name": view.name, "settings": settings, "unknown": unknown}


def _choice(database: Database, model: ModelView, entry: Entry, photos: int, with_machines: bool) -> ModelChoice:
    steps = estimate.suggest(database, model.name, photos).steps
    shown = _knob_fields(model.defaults, (), with_machines)
    why = f"{steps} steps suit this model. More photos want more."
    if photos:
        why = f"{steps} steps suit {plural(photos, 'photo')}. You can stop earlier, or add more afterwards."
    defaults: dict[str, KnobDefault] = {
        name: {"value": field.default, "source": field.source} for name, field in shown.items()
    }
    goals, times = run_presets.of_model(entry, photos)
    return {"defaults": defaults, "steps": steps, "why": why, "goals": _values(goals), "times": _values(times)}


def _values(presets: Mapping[str, Mapping[str, Change]]) -> dict[str, dict[str, PresetValue]]:
    return {
        name: {knob: {"value": number(change.value), "reason": change.reason} for knob, change in found.items()}
        for name, found in presets.items()
    }


def _knob_fields(
    defaults: Mapping[str, Any], trainable: Sequence[ModelView], with_machines: bool
) -> dict[str, KnobField]:
    """Every knob by name; `machines` only when the settings name a hosts file."""
    options = tuple(Option(model.name, model.title) for model in trainable)
    return {name: field for name, field in fields(defaults, options).items() if with_machines or name != "machines"}
