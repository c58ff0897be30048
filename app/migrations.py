"""Older files of the database, brought to the schema of `app/tables.py`, one version after the other.

A migration is plain SQL: it must do the same when `tables.py` has moved on.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

NUMBER_IN_PROJECT = """
UPDATE run SET name = 'Run ' || (
    SELECT count(*) FROM run AS earlier WHERE earlier.project_id = run.project_id AND earlier.id <= run.id)
WHERE name = 'Run ' || id
"""


def run_numbers(connection: Connection) -> None:
    """Runs that nobody named are numbered within their project: they had the number of their id."""
    connection.exec_driver_sql(NUMBER_IN_PROJECT)


MIGRATIONS: list[Callable[[Connection], None]] = [run_numbers]
"""MIGRATIONS[n] migrates schema version n + 1 to n + 2. A new file gets the newest schema from `tables.py` at once."""
