"""The JSON file of settings that `--config` names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import strict_json
from core.errors import ConfigProblem, FieldProblem


def read(path: Path) -> dict[str, Any]:
    """The settings by knob, not yet checked. A run's own config.json, with {"value", "source"} a knob, is one too.

    Raises ConfigProblem when the file cannot be read, or holds no JSON object.
    """
    try:
        table = strict_json.loads(path.read_bytes())
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _wrong(f"{path} {error}") from None
    if not isinstance(table, dict):
        raise _wrong(f'{path} must hold a JSON object of settings, such as {{"rank": 8}}')
    return {name: _value(entry) for name, entry in table.items() if not name.startswith("_")}


def _value(entry: Any) -> Any:
    return entry["value"] if isinstance(entry, Mapping) and "value" in entry else entry


def _wrong(message: str) -> ConfigProblem:
    return ConfigProblem("This cannot be done as asked.", [FieldProblem("--config", message)])
