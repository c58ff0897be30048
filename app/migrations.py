"""Older files of the database, brought to the schema of `app/tables.py`, one version after the other.

A migration is plain SQL: it must do the same when `tables.py` has moved on. One that changes `photo` or `caption` also
empties `edit`, whose rows hold rows of both. `tests/app/test_migrations.py` compares a migrated file with a new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from sqlalchemy import Connection, text

NUMBER_IN_PROJECT = """
UPDATE run SET name = 'Run ' || (
    SELECT count(*) FROM run AS earlier WHERE earlier.project_id = run.project_id AND earlier.id <= run.id)
WHERE name = 'Run ' || id
"""

EDITING_TABLES = """
CREATE TABLE edit (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    words VARCHAR NOT NULL, changes JSON NOT NULL, photos JSON NOT NULL, hashes JSON NOT NULL,
    "key" VARCHAR NOT NULL, undone BOOLEAN NOT NULL, at DATETIME NOT NULL);
CREATE INDEX edit_of_project ON edit (project_id, undone, id);
CREATE INDEX ix_edit_project_id ON edit (project_id);
CREATE TABLE analysis (
    id INTEGER NOT NULL PRIMARY KEY, sha256 VARCHAR NOT NULL, analyser VARCHAR NOT NULL, found JSON NOT NULL,
    problem VARCHAR NOT NULL, at DATETIME NOT NULL, UNIQUE (sha256, analyser));
CREATE TABLE subject (
    photo_id INTEGER NOT NULL PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    box JSON, sure FLOAT NOT NULL, "of" INTEGER NOT NULL,
    within JSON, mask VARCHAR);
CREATE INDEX ix_subject_project_id ON subject (project_id);
CREATE TABLE review (
    project_id INTEGER NOT NULL PRIMARY KEY REFERENCES project (id) ON DELETE CASCADE,
    state VARCHAR NOT NULL, verdict JSON NOT NULL, findings JSON NOT NULL, good INTEGER NOT NULL,
    "order" JSON NOT NULL, at DATETIME NOT NULL);
ALTER TABLE photo ADD COLUMN taken VARCHAR;
ALTER TABLE photo ADD COLUMN aside BOOLEAN NOT NULL DEFAULT 0;
ALTER TABLE photo ADD COLUMN crops JSON NOT NULL DEFAULT '[]';
ALTER TABLE photo ADD COLUMN subject JSON;
ALTER TABLE photo ADD COLUMN mask VARCHAR;
ALTER TABLE photo ADD COLUMN mask_box JSON
"""

NEWEST_CROPS = """
SELECT photo_id, "left", top, "right", bottom FROM crop
WHERE id IN (SELECT max(id) FROM crop GROUP BY photo_id)
"""

EVENTS_OF_PROJECTS = """
CREATE TABLE event_new (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    job_id INTEGER REFERENCES job (id) ON DELETE CASCADE,
    project_id INTEGER REFERENCES project (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL, kind VARCHAR NOT NULL, step INTEGER, payload JSON NOT NULL, at DATETIME NOT NULL);
INSERT INTO event_new (id, job_id, attempt, kind, step, payload, at)
    SELECT id, job_id, attempt, kind, step, payload, at FROM event;
DELETE FROM sqlite_sequence WHERE name = 'event_new';
INSERT INTO sqlite_sequence (name, seq) SELECT 'event_new', seq FROM sqlite_sequence WHERE name = 'event';
DROP TABLE event;
ALTER TABLE event_new RENAME TO event;
CREATE INDEX event_of_job ON event (job_id, id);
CREATE INDEX ix_event_job_id ON event (job_id);
CREATE INDEX ix_event_project_id ON event (project_id)
"""

LINEAGE = """
ALTER TABLE run ADD COLUMN parent_id INTEGER REFERENCES run (id) ON DELETE SET NULL;
ALTER TABLE run ADD COLUMN parent JSON NOT NULL DEFAULT '{}';
CREATE INDEX ix_run_parent_id ON run (parent_id);
UPDATE run SET parent_id = (
    SELECT earlier.id FROM job
    JOIN adapter ON adapter.id = json_extract(job.params, '$.start_from.id')
    JOIN run AS earlier ON earlier.id = adapter.run_id
    WHERE job.id = run.job_id);
UPDATE run SET parent = (
    SELECT json_object('name', earlier.name, 'step', checkpoint.step, 'without', json('[]')) FROM job
    JOIN adapter ON adapter.id = json_extract(job.params, '$.start_from.id')
    JOIN run AS earlier ON earlier.id = adapter.run_id
    LEFT JOIN checkpoint ON checkpoint.id = adapter.checkpoint_id
    WHERE job.id = run.job_id)
WHERE parent_id IS NOT NULL
"""

GRIDS = """
CREATE TABLE grid (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    project_id INTEGER REFERENCES project (id) ON DELETE CASCADE,
    run_id INTEGER REFERENCES run (id) ON DELETE SET NULL,
    axes JSON NOT NULL, cells JSON NOT NULL, problems JSON NOT NULL, created_at DATETIME NOT NULL);
CREATE INDEX ix_grid_job_id ON grid (job_id);
CREATE INDEX ix_grid_project_id ON grid (project_id);
CREATE INDEX ix_grid_run_id ON grid (run_id)
"""

DARKROOM = """
ALTER TABLE sample ADD COLUMN favourite BOOLEAN NOT NULL DEFAULT 0;
CREATE TABLE removed (
    id INTEGER NOT NULL PRIMARY KEY,
    job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    "row" JSON NOT NULL, trash VARCHAR NOT NULL, at DATETIME NOT NULL);
CREATE INDEX ix_removed_job_id ON removed (job_id)
"""

CONFIGURATIONS = """
CREATE TABLE configuration (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, name VARCHAR NOT NULL, settings JSON NOT NULL,
    created_at DATETIME NOT NULL, changed_at DATETIME NOT NULL, UNIQUE (name))
"""


def run_numbers(connection: Connection) -> None:
    """1 to 2: runs that nobody named are numbered within their project: they had the number of their id."""
    connection.exec_driver_sql(NUMBER_IN_PROJECT)


def curation(connection: Connection) -> None:
    """2 to 3: photos set aside, several crops, boxes, masks, steps to undo, and the review of a set."""
    _run(connection, EDITING_TABLES)
    for photo_id, *sides in connection.execute(text(NEWEST_CROPS)).all():
        if sides != [0.0, 0.0, 1.0, 1.0]:
            crops = json.dumps([dict(zip(("left", "top", "right", "bottom"), sides, strict=True))])
            changed = text("UPDATE photo SET crops = :crops WHERE id = :id")
            connection.execute(changed, {"crops": crops, "id": photo_id})
    connection.exec_driver_sql("DROP TABLE crop")
    _run(connection, EVENTS_OF_PROJECTS)


def lineage(connection: Connection) -> None:
    """3 to 4: which run a run began from; of those that began with a run's adapter it is known."""
    _run(connection, LINEAGE)


def grids(connection: Connection) -> None:
    """4 to 5: grids of pictures."""
    _run(connection, GRIDS)


def darkroom(connection: Connection) -> None:
    """5 to 6: favourites, and pictures that were deleted and can be brought back."""
    _run(connection, DARKROOM)


def configurations(connection: Connection) -> None:
    """6 to 7: settings saved under a name."""
    _run(connection, CONFIGURATIONS)


MIGRATIONS: list[Callable[[Connection], None]] = [
    run_numbers,
    curation,
    lineage,
    grids,
    darkroom,
    configurations,
]
"""MIGRATIONS[n] migrates schema version n + 1 to n + 2. A new file gets the newest schema from `tables.py` at once."""


def _run(connection: Connection, script: str) -> None:
    for statement in script.split(";"):
        connection.exec_driver_sql(statement)
