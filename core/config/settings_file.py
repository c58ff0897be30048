"""Settings of a run as a file that people share: what the studio exports, and `likeness train --config` reads.

    {"_name": "Soft portraits", "_program": "Likeness 0.9", "rank": 32, "learning_rate": 5e-05}        JSON
    _name = "Soft portraits"                                                                          TOML
    rank = 32

One table of knobs by name. A name that begins with "_" is no setting: `_name` is the configuration's. A run's own
config.json, with {"value", "source"} for each knob, is one too. core/config/resolve.py checks the values.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core import strict_json

FORMATS = ("json", "toml")
NAME, PROGRAM = "_name", "_program"


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """What a file holds."""

    name: str  # empty where it has none
    settings: dict[str, Any]  # by knob, as written


def loads(content: bytes, file_format: str = "json") -> SettingsFile:
    """Read a file of one of `FORMATS`. Raises ValueError with a sentence that continues "the file"."""
    table = _toml(content) if file_format == "toml" else strict_json.loads(content)
    if not isinstance(table, dict):
        raise ValueError('must hold a JSON object of settings, such as {"rank": 8}')
    name = table.get(NAME, "")
    settings = {key: _value(entry) for key, entry in table.items() if not key.startswith("_")}
    return SettingsFile(name if isinstance(name, str) else "", settings)


def dumps(name: str, settings: Mapping[str, Any], program: str, file_format: str = "json") -> str:
    """The text of a file that `loads` reads back."""
    table = {NAME: name, PROGRAM: program, **settings}
    if file_format == "toml":
        return "".join(f"{key} = {_as_toml(value)}\n" for key, value in table.items())
    return strict_json.dumps(table, indent=2) + "\n"


def format_of(name: str) -> str:
    """The format that a file's name says; JSON unless it ends with .toml."""
    return "toml" if name.lower().endswith(".toml") else "json"


def _toml(content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text; save it again as plain UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is not TOML: {error}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _value(entry: Any) -> Any:
    return entry["value"] if isinstance(entry, Mapping) and "value" in entry else entry


def _as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_as_toml(each) for each in value)}]"
    if isinstance(value, str):  # TOML takes JSON's escapes, and wants one more character escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return repr(value)
