"""A run's settings in the end: what the user set, laid over the model's own defaults, laid over ours, and checked.

    resolve({"steps": "500"}, family.defaults)   -->   config.steps == 500, sources["steps"] == "user"

Every wrong or unknown setting is named at once, and nothing is kept of a set that has one. `Resolved` holds both the
value and where it came from; it is what a run's config.json holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.config import layer_ranks
from core.config.knob import read
from core.config.optimizer_defaults import own_settings
from core.config.train import TrainConfig, default_of, kind_of, knobs
from core.errors import ConfigProblem, FieldProblem

Source = Literal["default", "model", "user"]
BEFORE_IT_WAS_THERE: dict[str, Any] = {"shapes": "square", "held_out": "none"}
"""What a run did whose configuration was kept before it had this knob, where that is not today's default."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A checked configuration and, for each knob, where its value came from."""

    config: TrainConfig
    sources: dict[str, Source]

    def as_json(self) -> dict[str, Any]:
        """{knob: {"value", "source"}}, in the order of `TrainConfig`; what a run's config.json holds."""
        values = dataclasses.asdict(self.config)
        return {name: {"value": values[name], "source": self.sources[name]} for name in values}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Resolved:
        """The inverse of `as_json`; the values are checked again.

        Raises ConfigProblem.
        """
        values = {name: entry["value"] for name, entry in data.items()}
        sources: dict[str, Source] = dict.fromkeys(knobs(), "default")
        return Resolved(
            resolve({**BEFORE_IT_WAS_THERE, **values}).config,
            sources | {name: entry["source"] for name, entry in data.items()},
        )


def resolve(
    user: Mapping[str, Any],
    model_defaults: Mapping[str, Any] | None = None,
    choices: Mapping[str, tuple[str, ...]] | None = None,
) -> Resolved:
    """Lay what the user set over the model's defaults over ours, and check every value.

    `choices` names the values a free-text knob may take here, such as the models on this computer.
    Strings as a form sends them ("300", "on") are read as numbers and switches.

    Raises ConfigProblem, naming every unknown or wrong knob at once.
    """
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    problems: list[FieldProblem] = []
    known = knobs()
    for name in user:
        if name not in known:
            problems.append(FieldProblem(name, f"there is no setting called {name}"))
    for name, one in known.items():
        origin: Source = "default"
        given: Any = default_of(name)
        if model_defaults and name in model_defaults:
            origin, given = "model", model_defaults[name]
        if name in user and user[name] is not None:
            origin, given = "user", user[name]
        allowed = (choices or {}).get(name, one.choices)
        value, trouble = read(kind_of(name), given, one, allowed)
        if trouble:
            problems.append(FieldProblem(name, trouble))
        values[name], sources[name] = value, origin
    for name, sides in (("side_px", [values["side_px"]]), ("more_sides_px", values["more_sides_px"])):
        problems += [
            FieldProblem(name, f"is {side} px; it must be a multiple of 16")
            for side in sides
            if isinstance(side, int) and side % 16
        ]
    problems += [FieldProblem("ranks", trouble) for trouble in layer_ranks.read(values["ranks"])[1]]
    if problems:
        raise ConfigProblem("Some settings need another look.", problems)
    if sources["alpha"] != "user" and sources["rank"] == "user":
        values["alpha"] = float(values["rank"])  # a rank chosen alone keeps the scale at 1
    if sources["optimizer"] == "user":
        own = own_settings(values["optimizer"], values["learning_rate"])
        values |= {name: value for name, value in own.items() if sources[name] != "user"}
    return Resolved(TrainConfig(**values), sources)
