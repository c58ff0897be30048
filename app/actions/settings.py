"""Settings of the studio; each is described in `app/settings.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import settings
from app.database import Database
from app.tables import Setting


def get_settings(database: Database) -> dict[str, Any]:
    """The current value of every setting, by key."""
    with database.read() as session:
        return settings.values(session)


def change(database: Database, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Set some of them; None restores the default. Raises ConfigProblem, and then changes nothing."""
    good = settings.checked(changes)
    with database.write() as session:
        for key, value in good.items():
            session.merge(Setting(key=key, value=value))
        session.flush()
        return settings.values(session)
