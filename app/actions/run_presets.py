"""Presets and a named configuration of a requested run: what they set, and what each preset costs on this computer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.actions import configurations, estimate, models, projects
from app.actions.configurations import ConfigurationView
from app.actions.estimate import suggested_steps
from app.actions.photo_views import active
from app.database import Database
from app.errors import NotFound
from app.wording import rough_duration
from core.config.presets import GOALS, TIMES, Change, changes, proposed_goal
from core.config.resolve import resolve
from core.config.train import knobs
from core.device.units import disk_size, memory_size
from core.errors import FieldProblem
from core.hub.catalog import Entry

ID_DIGITS = 19  # numbers with as many may be too large for the database


@dataclass(frozen=True, slots=True)
class Chosen:
    """The presets and the configuration of a request, as it names them."""

    goal: Any = None
    time: Any = None
    configuration: Any = None  # its id

    def problems(self) -> list[FieldProblem]:
        """With the names of the presets."""
        both = (("goal", self.goal, GOALS), ("time", self.time, TIMES))
        return [
            FieldProblem(field, f"is {str(value)[:80]!r}; it can be {', '.join(known)}")
            for field, value, known in both
            if value and str(value) not in known
        ]


@dataclass(frozen=True, slots=True)
class Layers:
    """What they set, by knob, under the user's own values."""

    preset: dict[str, Any]
    configuration: dict[str, Any]
    params: dict[str, Any]  # what the run's job remembers of them
    problems: list[FieldProblem]


@dataclass(frozen=True, slots=True)
class CostView:
    """What a run costs on this computer."""

    steps: int
    seconds: float
    measured: bool  # at the pace of an earlier run on this computer; else a rough figure
    memory: int | None  # bytes, of its largest phase; None for a model whose files say too little
    disk: int | None  # bytes
    fits: bool
    words: str


@dataclass(frozen=True, slots=True)
class ChangeView:
    """A knob that a preset sets, and why."""

    knob: str
    label: str
    value: Any
    reason: str


@dataclass(frozen=True, slots=True)
class PromptView:
    """A sample prompt that a goal proposes, with {trigger} and {class_word}."""

    label: str
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class PresetView:
    """One preset on a model."""

    name: str
    label: str
    sentence: str
    changes: list[ChangeView]
    prompts: list[PromptView]  # that a goal proposes; none of a time
    cost: CostView


@dataclass(frozen=True, slots=True)
class PresetsView:
    """Every preset on a model, for a project."""

    proposed_goal: str  # by the class word
    goals: list[PresetView]
    times: list[PresetView]


def layers_of(
    chosen: Chosen, defaults: Mapping[str, Any], family: str, photos: int, settings: ConfigurationView | None
) -> Layers:
    """What the chosen presets set on a model, and the `settings` of the configuration (`configuration_of`)."""
    problems = chosen.problems()
    wrong = {each.field for each in problems}
    goal = str(chosen.goal) if chosen.goal and "goal" not in wrong else None
    time = str(chosen.time) if chosen.time and "time" not in wrong else None
    found = changes(goal, time, family, defaults, steps_for(defaults, photos))
    params = {"goal": goal, "time": time, "configuration": settings.name if settings else None}
    own = dict(settings.settings) if settings else {}
    if settings and settings.unknown:
        words = f"has {', '.join(settings.unknown)}, for which this version has no setting; save it again without"
        problems.append(FieldProblem("configuration", words))
    return Layers(
        preset={name: change.value for name, change in found.items()},
        configuration=own,
        params={name: value for name, value in params.items() if value},
        problems=problems,
    )


def configuration_of(database: Database, chosen: Chosen) -> tuple[ConfigurationView | None, list[FieldProblem]]:
    """The configuration that a request names by its id, and the problem when there is none."""
    if chosen.configuration in (None, ""):
        return None, []
    number = str(chosen.configuration)
    try:
        if not number.isdecimal() or len(number) >= ID_DIGITS:
            raise NotFound("It is no id.")
        return configurations.get(database, int(number)), []
    except NotFound:
        return None, [FieldProblem("configuration", f"is {number[:ID_DIGITS]!r}; there is no such configuration")]


def steps_for(defaults: Mapping[str, Any], photos: int) -> int:
    """The steps that suit a model with these defaults and so many photos."""
    return suggested_steps(resolve({}, defaults).config.steps, photos)


def of_model(entry: Entry, photos: int) -> tuple[dict[str, dict[str, Change]], dict[str, dict[str, Change]]]:
    """What each goal and each time sets on a model, by name and knob."""
    family, defaults, steps = entry.family or "", entry.defaults, steps_for(entry.defaults, photos)
    goals = {name: changes(name, None, family, defaults, steps) for name in GOALS}
    return goals, {name: changes(None, name, family, defaults, steps) for name in TIMES}


def presets_view(
    database: Database, project_id: int, model: str, goal: str, time: str, own: Mapping[str, Any]
) -> PresetsView:
    """Every preset with its cost; `goal` and `time` are those chosen, `own` the user's values over all of them.

    Raises NotFound, ConfigProblem for values out of range.
    """
    with database.read() as session:
        project = projects.find(session, project_id)
        photos = len(session.exec(active(project_id)).all())
    entry = models.find(database, model)
    by_goal, by_time = of_model(entry, photos)

    def cost(one_goal: str, one_time: str) -> CostView:
        preset = by_goal.get(one_goal, {}) | by_time.get(one_time, {})
        return _cost(database, model, photos, {name: change.value for name, change in preset.items()} | dict(own))

    goals = [
        PresetView(
            name=name,
            label=each.label,
            sentence=each.sentence,
            changes=_views(by_goal[name]),
            prompts=[PromptView(prompt.label, prompt.text, prompt.reason) for prompt in each.prompts],
            cost=cost(name, time),
        )
        for name, each in GOALS.items()
    ]
    times = [
        PresetView(name, each.label, each.sentence, _views(by_time[name]), [], cost(goal, name))
        for name, each in TIMES.items()
    ]
    return PresetsView(proposed_goal(project.class_word), goals, times)


def _cost(database: Database, model: str, photos: int, settings: Mapping[str, Any]) -> CostView:
    found = estimate.suggest(database, model, photos, settings)
    fit = found.fit
    parts = [f"{found.steps:,} steps", f"about {rough_duration(found.seconds)}"]
    if fit is not None:
        parts += [f"{memory_size(fit.memory)} of memory", f"{disk_size(fit.disk)} on the disk"]
    return CostView(
        steps=found.steps,
        seconds=found.seconds,
        measured=found.measured,
        memory=fit.memory if fit else None,
        disk=fit.disk if fit else None,
        fits=fit.fits if fit else True,
        words=", ".join(parts),
    )


def _views(found: Mapping[str, Change]) -> list[ChangeView]:
    known = knobs()
    return [ChangeView(name, known[name].label, change.value, change.reason) for name, change in found.items()]
