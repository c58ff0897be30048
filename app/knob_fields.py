"""The knobs of `core/config/train.py` as fields of a form."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from app.wording import number
from core.config.knob import Knob
from core.config.resolve import Source
from core.config.train import GROUPS, default_of, kind_of, knobs

CHOICES = {
    "logit_normal": "logit-normal: mostly medium noise",
    "uniform": "uniform: every amount of noise alike",
    "model_shift": "as the model itself was trained",
    "adamw": "AdamW",
    "adafactor": "Adafactor: the least state",
    "lion": "Lion: half the state",
    "prodigy": "Prodigy: finds the learning rate",
    "cosine": "cosine: falls to a tenth",
    "cosine_restarts": "cosine with restarts: falls several times",
    "linear": "linear: a line to a tenth",
    "constant": "constant",
    "full": "full: the precision this computer computes in",
    "8-bit": "8-bit: about half the memory of 16",
    "6-bit": "6-bit: about two fifths",
    "4-bit": "4-bit: less than a third",
    "as_fit": "as fit: keep what memory allows",
    "all": "all: keep all, fastest",
    "none": "none: recompute all, least memory",
    "as_photographed": "as photographed: each keeps its shape",
    "square": "square",
}
"""Labels of choices; a choice without one is shown as it is."""


@dataclass(frozen=True, slots=True)
class Option:
    """One entry of a select."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class KnobField:
    """One field of the form."""

    name: str
    label: str
    sentence: str
    kind: str  # int, float, bool, str, choice, lines or sizes
    value: str  # at first
    default: str  # unless the user changes it; only values that differ are sent
    source: Source
    span: str  # "1 to 256"; empty when there is none
    unit: str
    choices: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class KnobGroup:
    """The fields that fold away together."""

    name: str
    label: str
    summary: str  # their labels, in one line
    knobs: tuple[KnobField, ...]


def fields(model_defaults: Mapping[str, Any], models: tuple[Option, ...]) -> dict[str, KnobField]:
    """Every knob by name, filled in with the model's value, else the default."""
    return {name: _field(name, knob, model_defaults, models) for name, knob in knobs().items()}


def front(fields_by_name: Mapping[str, KnobField]) -> tuple[KnobField, ...]:
    """The fields that are shown unfolded."""
    return tuple(fields_by_name[name] for name, knob in knobs().items() if knob.front)


def groups(fields_by_name: Mapping[str, KnobField], without: Collection[str] = ()) -> tuple[KnobGroup, ...]:
    """The other fields, by group; those of `without` have a place of their own."""
    known = knobs()
    found = []
    for name, label in GROUPS.items():
        members = tuple(
            field
            for each, field in fields_by_name.items()
            if known[each].group == name and not known[each].front and each not in without
        )
        if members:
            summary = ", ".join(member.label[:1].lower() + member.label[1:] for member in members)
            found.append(KnobGroup(name, "More about the run" if name == "run" else label, summary, members))
    return tuple(found)


def _field(name: str, knob: Knob, model_defaults: Mapping[str, Any], models: tuple[Option, ...]) -> KnobField:
    source: Source = "model" if name in model_defaults else "default"
    value = number(model_defaults.get(name, default_of(name)))
    options = models if name == "model" else tuple(Option(each, CHOICES.get(each, each)) for each in knob.choices)
    return KnobField(
        name=name,
        label=knob.label,
        sentence=knob.sentence,
        kind="choice" if options else kind_of(name),
        value=value,
        default=value,
        source=source,
        span=_span(knob),
        unit=knob.unit,
        choices=options,
    )


def _span(knob: Knob) -> str:
    low = number(knob.at_least) if knob.at_least is not None else ""
    high = number(knob.at_most) if knob.at_most is not None else ""
    if knob.above is not None:
        return f"More than {number(knob.above)}" + (f", at most {high}" if high else "")
    if not low and not high:
        return ""
    return f"{low} to {high}" if low and high else f"At least {low}" if low else f"At most {high}"
