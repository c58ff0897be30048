"""The file of settings that `--config` names: JSON or TOML, as the studio exports its configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.config import settings_file
from core.errors import ConfigProblem, FieldProblem


def read(path: Path) -> dict[str, Any]:
    """The settings by knob, not yet checked. A run's own config.json, with {"value", "source"} a knob, is one too.

    Raises ConfigProblem when the file cannot be read, or holds no table of settings.
    """
    try:
        return settings_file.loads(path.read_bytes(), settings_file.format_of(path.name)).settings
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _wrong(f"{path} {error}") from None


def _wrong(message: str) -> ConfigProblem:
    return ConfigProblem("This cannot be done as asked.", [FieldProblem("--config", message)])
