"""A run's final settings: what was set, over the model's defaults, over ours, validated.

    default         the knob's own (core/config/train.py)
    model           the model's (its row in core/hub/registry.py, or its likeness.json)
    preset          by goal and by time (core/config/presets.py)
    configuration   saved under a name, or shared as a file
    user            set for this run

Each overrides those above it. A value of the user that is the same as the preset's or the configuration's is theirs.
When the optimizer or the rank was set by one of the last three, its own values follow for knobs that none of them set.

    resolve({"steps": "500"}, family.defaults)   -->   config.steps == 500, sources["steps"] == "user"

Every wrong or unknown setting is reported at once. `Resolved` holds each value and where it came from; a run's
config.json stores it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.config import layer_ranks
from core.config.drawing_limits import PIXEL_MULTIPLE
from core.config.knob import read
from core.config.optimizer_defaults import own_settings
from core.config.train import TrainConfig, default_of, kind_of, knobs
from core.errors import ConfigProblem, FieldProblem

Source = Literal["default", "model", "preset", "configuration", "user"]
CHOSEN: tuple[Source, ...] = ("preset", "configuration", "user")
"""The sources that somebody chose: defaults that depend on other knobs do not override them."""
OLD_DEFAULTS: dict[str, Any] = {"shapes": "square", "held_out": "none", "find_subjects": False}
"""Values for runs that were saved before these knobs existed, where today's default differs."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A checked configuration and, for each knob, where its value came from."""

    config: TrainConfig
    sources: dict[str, Source]

    def as_json(self) -> dict[str, Any]:
        """{knob: {"value", "source"}}, in the order of `TrainConfig`, as in a run's config.json."""
        values = dataclasses.asdict(self.config)
        return {name: {"value": values[name], "source": self.sources[name]} for name in values}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Resolved:
        """The inverse of `as_json`; validates the values again.

        Raises ConfigProblem.
        """
        values = {name: entry["value"] for name, entry in data.items()}
        sources: dict[str, Source] = dict.fromkeys(knobs(), "default")
        return Resolved(
            resolve({**OLD_DEFAULTS, **values}).config,
            sources | {name: entry["source"] for name, entry in data.items()},
        )


@dataclass(frozen=True, slots=True)
class Examined:
    """Settings with every problem in them; a wrong value is replaced by our default, so that the rest can be used."""

    resolved: Resolved
    problems: list[FieldProblem]

    @property
    def wrong(self) -> set[str]:
        return {problem.field for problem in self.problems}


def resolve(
    user: Mapping[str, Any],
    model_defaults: Mapping[str, Any] | None = None,
    choices: Mapping[str, tuple[str, ...]] | None = None,
    *,
    preset: Mapping[str, Any] | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> Resolved:
    """Merge the values of every source, and validate each.

    `choices` lists the valid values of a free-text knob, such as the models on this computer. Strings from a form
    ("300", "on") are parsed as numbers and switches.

    Raises ConfigProblem that names every unknown or wrong knob.
    """
    examined = examine(user, model_defaults, choices, preset=preset, configuration=configuration)
    if examined.problems:
        raise ConfigProblem("Some settings need another look.", examined.problems)
    return examined.resolved


def examine(
    user: Mapping[str, Any],
    model_defaults: Mapping[str, Any] | None = None,
    choices: Mapping[str, tuple[str, ...]] | None = None,
    *,
    preset: Mapping[str, Any] | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> Examined:
    """`resolve`, with the problems beside the settings."""
    layers: dict[Source, Mapping[str, Any]] = {
        "model": model_defaults or {},
        "preset": preset or {},
        "configuration": configuration or {},
        "user": user,
    }
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    known = knobs()
    given_names = dict.fromkeys([*user, *layers["configuration"]])
    problems = [FieldProblem(name, f"there is no setting called {name}") for name in given_names if name not in known]
    for name, one in known.items():
        allowed = (choices or {}).get(name, one.choices)
        setting = [(source, layer[name]) for source, layer in layers.items() if layer.get(name) is not None]
        plain: tuple[Source, Any] = ("default", default_of(name))
        origin, given = setting[-1] if setting else plain
        value, trouble = read(kind_of(name), given, one, allowed)
        if origin == "user" and len(setting) > 1 and setting[-2][0] in CHOSEN:
            below, its_own = setting[-2]
            origin = below if read(kind_of(name), its_own, one, allowed) == (value, "") else origin
        troubles = [trouble] if trouble else _more_troubles(name, value)
        problems += [FieldProblem(name, each) for each in troubles]
        values[name], sources[name] = default_of(name) if troubles else value, origin
    if sources["alpha"] not in CHOSEN and sources["rank"] in CHOSEN:
        values["alpha"] = float(values["rank"])  # keep alpha / rank at 1 when only the rank was set
    if sources["optimizer"] in CHOSEN:
        own = own_settings(values["optimizer"], values["learning_rate"])
        values |= {name: value for name, value in own.items() if sources[name] not in CHOSEN}
    return Examined(Resolved(TrainConfig(**values), sources), problems)


def _more_troubles(name: str, value: Any) -> list[str]:
    """What is wrong with a value of the right kind and range."""
    if name in ("side_px", "more_sides_px"):
        sides = value if isinstance(value, tuple) else (value,)
        return [f"is {side} px; it must be a multiple of {PIXEL_MULTIPLE}" for side in sides if side % PIXEL_MULTIPLE]
    return layer_ranks.read(value)[1] if name == "ranks" else []
