"""Settings of a run saved under a name: for every project, and as a file for other people and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from app import __version__
from app.actions.runs import checked_name, file_word
from app.database import Database
from app.errors import NotFound
from app.tables import Configuration, now
from core.config import settings_file
from core.config.resolve import examine
from core.config.train import knobs
from core.errors import ConfigProblem, FieldProblem

BYTES_AT_MOST = 2**20


@dataclass(frozen=True, slots=True)
class ConfigurationView:
    """Settings under a name."""

    id: int
    name: str
    settings: dict[str, Any]  # values by knob; those left out take the preset's, the model's or the default
    unknown: dict[str, Any]  # what an earlier or later version had beside them, and this one has no knob for
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file to save under `name`."""

    name: str
    text: str


def list_configurations(database: Database, after: int = 0, limit: int = 200) -> list[ConfigurationView]:
    """Those with an id above `after`, oldest first."""
    with database.read() as session:
        chosen = select(Configuration).where(col(Configuration.id) > after).order_by(col(Configuration.id))
        return [_view(row) for row in session.exec(chosen.limit(limit))]


def get(database: Database, configuration_id: int) -> ConfigurationView:
    """Raises NotFound."""
    with database.read() as session:
        return _view(_find(session, configuration_id))


def create(database: Database, name: str, settings: Mapping[str, Any]) -> ConfigurationView:
    """Save settings under a new name. Raises ConfigProblem for a wrong or used name, and every wrong setting."""
    with database.write() as session:
        name, values = _checked(session, name, settings)
        row = Configuration(name=name, settings=values)
        session.add(row)
        session.flush()
        return _view(row)


def change(
    database: Database, configuration_id: int, name: str | None = None, settings: Mapping[str, Any] | None = None
) -> ConfigurationView:
    """Rename one, or save other settings under its name. Raises NotFound, ConfigProblem as `create` does."""
    with database.write() as session:
        row = _find(session, configuration_id)
        new_name, values = _checked(session, row.name if name is None else name, settings or {}, own=row)
        row.name = new_name
        if settings is not None:
            row.settings = values
        row.changed_at = now()
        session.add(row)
        return _view(row)


def delete(database: Database, configuration_id: int) -> None:
    """Runs that were started with it keep their settings. Raises NotFound."""
    with database.write() as session:
        session.delete(_find(session, configuration_id))


def export(database: Database, configuration_id: int, file_format: str) -> ExportedFile:
    """As a file of one of `settings_file.FORMATS`. Raises NotFound, ConfigProblem for another format."""
    view = get(database, configuration_id)
    if file_format not in settings_file.FORMATS:
        words = f"is {file_format[:80]!r}; it can be {' or '.join(settings_file.FORMATS)}"
        raise ConfigProblem("There is no such format.", [FieldProblem("format", words)])
    text = settings_file.dumps(view.name, view.settings, f"Likeness {__version__}", file_format)
    return ExportedFile(f"{file_word(view.name)}.{file_format}", text)


def add_file(database: Database, filename: str, content: bytes) -> tuple[ConfigurationView, bool]:
    """Save the settings of a file, under the name that it holds, else its own; False when they are there already.

    A name that is used for other settings gets a number. Raises ConfigProblem that names every wrong setting.
    """
    try:
        found = settings_file.loads(content, settings_file.format_of(filename))
    except ValueError as error:
        raise ConfigProblem("This file cannot be used.", [FieldProblem("file", f"{filename} {error}")]) from None
    stem = filename.rpartition(".")[0] or filename
    with database.write() as session:
        name, values = _checked(session, found.name or stem, found.settings, may_be_used=True)
        rows = {row.name: row for row in session.exec(select(Configuration))}
        if name in rows and rows[name].settings == values:
            return _view(rows[name]), False
        free = next(each for each in _numbered(name) if each not in rows)
        row = Configuration(name=free, settings=values)
        session.add(row)
        session.flush()
        return _view(row), True


def _numbered(name: str) -> list[str]:
    """The name, then with numbers after it; more than there can be rows of it in a year."""
    return [name, *(f"{name} {number}" for number in range(2, 10_000))]


def _checked(
    session: Session,
    name: str,
    settings: Mapping[str, Any],
    *,
    own: Configuration | None = None,
    may_be_used: bool = False,
) -> tuple[str, dict[str, Any]]:
    """The name, and the settings as the types of their knobs. Raises ConfigProblem naming everything that is wrong."""
    problems: list[FieldProblem] = []
    try:
        name = checked_name(name, "configuration")
    except ConfigProblem as problem:
        problems += problem.problems
    used = session.exec(select(Configuration).where(Configuration.name == name)).first()
    if used is not None and not may_be_used and (own is None or used.id != own.id):
        problems.append(FieldProblem("name", f"is {name!r}, which another configuration has; choose another name"))
    given = {knob: value for knob, value in settings.items() if value is not None}
    examined = examine(given)
    problems += examined.problems
    if problems:
        raise ConfigProblem("This configuration needs another look.", problems)
    typed = examined.resolved.as_json()
    values = {knob: typed[knob]["value"] for knob in typed if knob in given}
    return name, {knob: list(value) if isinstance(value, tuple) else value for knob, value in values.items()}


def _find(session: Session, configuration_id: int) -> Configuration:
    row = session.get(Configuration, configuration_id)
    if row is None:
        raise NotFound(f"There is no configuration {configuration_id}.")
    return row


def _view(row: Configuration) -> ConfigurationView:
    known = knobs()
    return ConfigurationView(
        id=int(row.id or 0),
        name=row.name,
        settings={name: value for name, value in row.settings.items() if name in known},
        unknown={name: value for name, value in row.settings.items() if name not in known},
        created_at=row.created_at,
        changed_at=row.changed_at,
    )
