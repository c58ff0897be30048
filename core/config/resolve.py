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
from core.config.knob import read
from core.config.optimizer_defaults import own_settings
from core.config.train import TrainConfig, default_of, kind_of, knobs
from core.errors import ConfigProblem, FieldProblem

Source = Literal["default", "model", "user"]
OLD_DEFAULTS: dict[str, Any] = {"shapes": "square", "held_out": "none"}
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
        values["alpha"] = float(values["rank"])  # keep alpha / rank at 1 when only the rank was set
    if sources["optimizer"] == "user":
        own = own_settings(values["optimizer"], values["learning_rate"])
        values |= {name: value for name, value in own.items() if sources[name] != "user"}
    return Resolved(TrainConfig(**values), sources)
