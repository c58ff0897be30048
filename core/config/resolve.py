"""A run's final settings: the user's values over the model's defaults over ours, validated.

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

Source = Literal["default", "model", "user"]
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
) -> Resolved:
    """Merge the user's values over the model's defaults over ours, and validate every value.

    `choices` lists the valid values of a free-text knob, such as the models on this computer. Strings from a form
    ("300", "on") are parsed as numbers and switches.

    Raises ConfigProblem that names every unknown or wrong knob.
    """
    examined = examine(user, model_defaults, choices)
    if examined.problems:
        raise ConfigProblem("Some settings need another look.", examined.problems)
    return examined.resolved


def examine(
    user: Mapping[str, Any],
    model_defaults: Mapping[str, Any] | None = None,
    choices: Mapping[str, tuple[str, ...]] | None = None,
) -> Examined:
    """`resolve`, with the problems beside the settings."""
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    known = knobs()
    problems = [FieldProblem(name, f"there is no setting called {name}") for name in user if name not in known]
    for name, one in known.items():
        origin: Source = "default"
        given: Any = default_of(name)
        if model_defaults and name in model_defaults:
            origin, given = "model", model_defaults[name]
        if name in user and user[name] is not None:
            origin, given = "user", user[name]
        value, trouble = read(kind_of(name), given, one, (choices or {}).get(name, one.choices))
        troubles = [trouble] if trouble else _more_troubles(name, value)
        problems += [FieldProblem(name, each) for each in troubles]
        values[name], sources[name] = default_of(name) if troubles else value, origin
    if sources["alpha"] != "user" and sources["rank"] == "user":
        values["alpha"] = float(values["rank"])  # keep alpha / rank at 1 when only the rank was set
    if sources["optimizer"] == "user":
        own = own_settings(values["optimizer"], values["learning_rate"])
        values |= {name: value for name, value in own.items() if sources[name] != "user"}
    return Examined(Resolved(TrainConfig(**values), sources), problems)


def _more_troubles(name: str, value: Any) -> list[str]:
    """What is wrong with a value of the right kind and range."""
    if name in ("side_px", "more_sides_px"):
        sides = value if isinstance(value, tuple) else (value,)
        return [f"is {side} px; it must be a multiple of {PIXEL_MULTIPLE}" for side in sides if side % PIXEL_MULTIPLE]
    return layer_ranks.read(value)[1] if name == "ranks" else []
