"""One knob: its description for a form, and the parsing and validation of its values.

The message about a wrong value continues the knob's name: "steps" "is 0 steps; it can be 1 to 100000 steps". The knobs
themselves are in `core/config/train.py`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

SIZES_AT_MOST = 4  # in a knob of kind "sizes"
LINES_AT_MOST = 8  # in a knob of kind "lines"
SHOWN_CHARACTERS = 80  # of a wrong value
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?:[.,'’\s]\d{3})+", re.ASCII)  # 1.000, 1,000 or 1 000; not 0,005


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting: how a form shows it, and which values are valid."""

    label: str
    sentence: str
    group: str
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    unit: str = ""
    choices: tuple[str, ...] = ()
    may_be_empty: bool = False  # for text
    front: bool = False  # one of the few that the form shows without unfolding


def knob(
    default: Any,
    label: str,
    sentence: str,
    group: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    unit: str = "",
    may_be_empty: bool = False,
    front: bool = False,
) -> Any:
    """A dataclass field that carries its `Knob`."""
    one = Knob(
        label, sentence, group, at_least=at_least, at_most=at_most, above=above, unit=unit, may_be_empty=may_be_empty,
        front=front,
    )  # fmt: skip
    return field(default=default, metadata={"knob": one})


def read(kind: str, given: Any, one: Knob, allowed: tuple[str, ...]) -> tuple[Any, str]:
    """Parse and validate: (value, "") or (anything, a message about what is wrong).

    `kind` is "int", "float", "bool", "str", "choice", "lines" (several strings) or "sizes" (several whole numbers).
    Strings from a form are parsed as numbers and switches; `allowed`, unless empty, lists the valid words.
    """
    if kind == "bool":
        words = {"on": True, "true": True, "1": True, "yes": True, "off": False, "false": False, "0": False, "": False}
        if isinstance(given, bool):
            return given, ""
        value = words.get(str(given).strip().lower())
        return value, "" if value is not None else f"is {_short(repr(given))}; it can be on or off"
    if kind == "lines":
        if not isinstance(given, str | list | tuple):
            return (), f"is {_short(repr(given))}; it must be text, one prompt per line"
        lines = given.splitlines() if isinstance(given, str) else [str(line) for line in given]
        cleaned = tuple(line.strip() for line in lines if line.strip())
        return cleaned, "" if len(cleaned) <= LINES_AT_MOST else f"has {len(cleaned)} lines; at most {LINES_AT_MOST}"
    if kind == "sizes":
        return _read_sizes(given, one)
    if kind in ("str", "choice"):
        text = str(given).strip()
        if allowed and text not in allowed:
            return text, f"is {_short(repr(text))}; it can be {_listed(allowed)}"
        return text, "" if text or one.may_be_empty else "is empty"
    return _read_number(kind, given, one)


def _read_sizes(given: Any, one: Knob) -> tuple[tuple[int, ...], str]:
    """Whole numbers from a list, or from text separated by spaces or commas; may be empty."""
    if not isinstance(given, str | list | tuple):
        return (), f"is {_short(repr(given))}; it must be sizes with spaces between them, such as 512 768"
    parts = given.replace(",", " ").split() if isinstance(given, str) else given
    if len(parts) > SIZES_AT_MOST:
        return (), f"has {len(parts)} sizes; at most {SIZES_AT_MOST}"
    read = [_read_number("int", part, one) for part in parts]
    trouble = next((words for _, words in read if words), "")
    return tuple(value for value, _ in read), trouble


def _read_number(kind: str, given: Any, one: Knob) -> tuple[Any, str]:
    span = _span(one)
    trouble = _separators(kind, given.strip(), span) if isinstance(given, str) else ""
    if trouble:
        return 0, f"is {_short(repr(given))}; {trouble}"
    try:
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        return 0, f"is {_short(repr(given))}; it must be a number{span}"
    if kind == "int" and number != int(number):
        return 0, f"is {_short(repr(given))}; it must be a whole number{span}"
    value = int(number) if kind == "int" else number
    low = (one.at_least is not None and value < one.at_least) or (one.above is not None and value <= one.above)
    high = one.at_most is not None and value > one.at_most
    return value, f"is {_short(str(given))}{_spaced(one.unit)}; it can be{span}" if low or high else ""


def _separators(kind: str, text: str, span: str) -> str:
    """What to write instead of a number with a comma, or with separators between thousands; else empty.

    "1.000" is 1 to Python and a thousand to half of the world. As a whole number nobody means 1 by it.
    """
    grouped, whole = GROUPED.fullmatch(text), _short(re.sub(r"[.,'’\s]", "", text))
    if kind == "int" and grouped:
        return f"write it without separators: {whole}"
    if kind == "float" and grouped and "." not in text:
        decimal = f"{text.replace(',', '.')} or " if text.count(",") == 1 else ""
        return f"write {decimal}{whole}: a point before decimals, nothing between thousands"
    if not re.fullmatch(r"[+-]?\d*,\d+(e[+-]?\d+)?", text, re.ASCII | re.IGNORECASE):
        return ""
    decimal = f"write decimals with a point: {text.replace(',', '.')}"
    return decimal if kind == "float" else f"it must be a whole number{span}"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …"


def _span(one: Knob) -> str:
    low = (
        f"{one.at_least:g}" if one.at_least is not None else f"more than {one.above:g}" if one.above is not None else ""
    )
    return f" {low} to {_plain(one.at_most)}{_spaced(one.unit)}" if one.at_most is not None else f" at least {low}"


def _plain(number: float) -> str:
    return f"{int(number)}" if number == int(number) else f"{number:g}"


def _spaced(unit: str) -> str:
    return f" {unit}" if unit else ""


def _listed(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]
