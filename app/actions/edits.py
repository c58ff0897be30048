"""Undo and redo: every change of a project's photos, captions, crops, boxes and masks is a step, in one table.

    with edits.step(session, project_id, "the caption of A.jpg", [photo_id]):
        ...                                    their rows are read before and after; what differs is the step

    step          edit 1, 2, 3 [undone: 4, 5]  ->  1, 2, 3, 6         steps that were undone are forgotten
    undo, redo    the newest that counts, or the first that was undone: its rows as they were before, or after

Rows are compared and written back as SQLite stores them, ids and times included, so undo returns the exact state. A
deleted photo is a row in a step; files that a step names stay on the disk until it is forgotten
(`app/actions/unreferenced.py`). Each change appends an event of the project, so that its other pages refresh.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import bindparam, text
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, delete, func, select, update

from app.actions import check_jobs, unreferenced
from app.actions.photo_views import PhotoView, views
from app.database import Database
from app.errors import Conflict, NotFound
from app.tables import Edit, Event, Photo, Project, now
from core import strict_json

STEPS_AT_MOST = 1000  # of a project; older ones are forgotten
CONTINUED = timedelta(seconds=60)  # a step with the key of the newest one continues it for so long

# In the order in which rows are inserted; they are deleted in the opposite one.
TABLES: dict[str, str] = {
    "project": "SELECT id, name, trigger, class_word FROM project WHERE id = :project",
    "photo": "SELECT * FROM photo WHERE id IN :photos",
    "caption": "SELECT * FROM caption WHERE photo_id IN :photos",
}
REVIEWED = {"sha256", "aside", "subject", "mask"}  # columns of a photo on which the judgement of a set depends

FORGOTTEN = {"words": "every step forgotten", "undone": False, "photos": [], "undo": None, "redo": None}

SHOWN = (
    col(Edit.id),
    col(Edit.words),
    col(Edit.photos),
    col(Edit.undone),
    col(Edit.at),
)  # not the megabytes of changes

Side = Literal["before", "after"]
SIDES: tuple[Side, Side] = ("before", "after")
Rows = dict[tuple[str, int], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class EditView:
    """One step of a project's history."""

    id: int
    words: str
    photos: list[int]  # ids
    undone: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Done:
    """What was just done, and what undo and redo would do now."""

    done: str
    photos: list[int]  # ids of those that changed
    undo: str | None
    redo: str | None
    views: list[PhotoView]  # those of them that are there, as they are now


@contextmanager
def step(
    session: Session,
    project_id: int,
    words: str,
    photo_ids: Iterable[int] = (),
    *,
    key: str = "",
    with_project: bool = False,
) -> Iterator[set[int]]:
    """Record what the block changes of these photos as one step; nothing when it changes nothing.

    `with_project` records the project's own words, too.

    Yields the set of ids; the block adds those of photos that it creates. A step with the `key` of an earlier one that
    still counts continues it: a job's, or within CONTINUED that of the newest step.
    """
    touched = set(photo_ids)
    session.flush()
    before = _rows(session, touched, project_id if with_project else 0)
    yield touched
    session.flush()
    changes = _changes(before, _rows(session, touched, project_id if with_project else 0))
    if changes:
        _record(session, project_id, words, changes, key)


def undo(database: Database, project_id: int) -> Done:
    """Take back the newest step. Raises NotFound, Conflict when there is none."""
    return _move(database, project_id, "before")


def redo(database: Database, project_id: int) -> Done:
    """Do the step again that was undone last. Raises NotFound, Conflict when there is none."""
    return _move(database, project_id, "after")


def history(database: Database, project_id: int, after: int = 0, limit: int = STEPS_AT_MOST) -> list[EditView]:
    """The project's steps with an id above `after`, the newest first; those that were undone can be redone.

    Raises NotFound.
    """
    with database.read() as session:
        _check_project(session, project_id)
        shown = (col(Edit.id), col(Edit.words), col(Edit.photos), col(Edit.undone), col(Edit.at))
        chosen = select_columns(*shown).where(col(Edit.project_id) == project_id, col(Edit.id) > after)
        rows = session.connection().execute(chosen.order_by(col(Edit.id).desc()).limit(limit))
        return [EditView(number or 0, words, photos, undone, at) for number, words, photos, undone, at in rows]


def state(session: Session, project_id: int, done: str = "", photos: Sequence[int] = ()) -> Done:
    """What undo and redo would do now."""
    undo, redo = (_next(session, project_id, side)[1] for side in SIDES)
    chosen = select(Photo).where(Photo.project_id == project_id, col(Photo.id).in_(photos)).order_by(col(Photo.id))
    return Done(done, list(photos), undo, redo, views(session, session.exec(chosen)) if photos else [])


def forget(database: Database, project_id: int) -> int:
    """Forget every step of a project; files that only they need go to the trash. Returns how many. Raises NotFound."""
    with database.write() as session:
        _check_project(session, project_id)
        steps = session.exec(select(Edit).where(Edit.project_id == project_id)).all()
        hashes = {sha256 for each in steps for sha256 in each.hashes}
        deleted = unreferenced.files_of_hashes(database.home, hashes)
        session.exec(delete(Edit).where(col(Edit.project_id) == project_id))
        session.add(Event(project_id=project_id, kind="edit", payload=dict(FORGOTTEN)))
    deleted.to_trash(database, "photos that were deleted")
    return len(steps)


def photos_so_far(session: Session, project_id: int, key: str) -> int:
    """How many photos the step has that one with this key would continue."""
    counted = select(func.json_array_length(Edit.photos)).where(Edit.id == _continued(session, project_id, key))
    return session.exec(counted).first() or 0


def _move(database: Database, project_id: int, side: Side) -> Done:
    with database.write() as session:
        _check_project(session, project_id)
        edit = session.get(Edit, _next(session, project_id, side)[0])
        if edit is None:
            raise Conflict(f"There is nothing to {'undo' if side == 'before' else 'redo'} in this project.")
        edit.undone = side == "before"
        session.add(edit)
        session.flush()
        changes, words, photos = edit.changes, edit.words, edit.photos
        _announce(session, project_id, words, photos, undone=edit.undone)
        done = f"{'Undone' if edit.undone else 'Done again'}: {words}."
        _apply(session, changes, side)
        if _concerns_review(changes):
            check_jobs.request(session, project_id)
        return state(session, project_id, done, photos)


def _next(session: Session, project_id: int, side: Side) -> tuple[int, str | None]:
    """The step that undo (side "before") or redo ("after") would apply: its id and words; 0, None without one."""
    undone = side == "after"
    # Only these columns: the changes of a step may be megabytes.
    chosen = select(Edit.id, Edit.words).where(Edit.project_id == project_id, Edit.undone == undone)
    order = col(Edit.id).asc() if undone else col(Edit.id).desc()
    number, words = session.exec(chosen.order_by(order).limit(1)).first() or (0, None)
    return int(number or 0), words


def _check_project(session: Session, project_id: int) -> None:
    if session.get(Project, project_id) is None:
        raise NotFound(f"There is no project {project_id}.")


def _rows(session: Session, photo_ids: Iterable[int], project_id: int) -> Rows:
    """The rows of these photos, and the words of the project if there is one, as SQLite stores them."""
    found: Rows = {}
    values = {"project": project_id, "photos": sorted(photo_ids)}
    for table, query in TABLES.items():
        parameter = "photos" if ":photos" in query else "project"
        if not values[parameter]:
            continue
        statement = text(query)
        if parameter == "photos":
            statement = statement.bindparams(bindparam("photos", expanding=True))
        for row in session.connection().execute(statement, {parameter: values[parameter]}).mappings():
            found[table, row["id"]] = dict(row)
    return found


def _changes(before: Rows, after: Rows) -> list[dict[str, Any]]:
    """[{table, id, photo, before, after}]: the columns that differ, whole rows where one was added or deleted."""
    changes = []
    for place in dict.fromkeys([*before, *after]):
        old, new = before.get(place), after.get(place)
        if _alike(old, new):
            continue
        either = new or old or {}
        photo = {"photo": place[1], "caption": either.get("photo_id")}.get(place[0])
        if old is not None and new is not None:
            differ = [name for name in old if old[name] != new[name]]
            old, new = ({name: row[name] for name in differ} for row in (old, new))
        changes.append({"table": place[0], "id": place[1], "photo": photo, "before": old, "after": new})
    return changes


def _merged(earlier: Sequence[Mapping[str, Any]], later: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Both steps as one: before the earlier, after the later."""
    found = {(each["table"], each["id"]): dict(each) for each in earlier}
    for each in later:
        place = (each["table"], each["id"])
        if place in found:
            first, before, after = found[place], found[place]["before"], each["after"]
            before = None if before is None else {**(each["before"] or {}), **before}
            after = None if after is None else {**(first["after"] or {}), **after}
            found[place] = {**each, "before": before, "after": after}
        else:
            found[place] = dict(each)
    return [each for each in found.values() if not _alike(each["before"], each["after"])]


def _alike(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool:
    """Whether nothing differs that a person sees: not the time at which the same caption was written."""
    return {**(before or {}), "at": None} == {**(after or {}), "at": None}


def _apply(session: Session, changes: Sequence[Mapping[str, Any]], side: Side) -> None:
    """Make the rows as they were on one side of a step: deletes, children first; updates; inserts, parents first."""
    other = "after" if side == "before" else "before"
    order = list(TABLES)
    statements: dict[tuple[int, int, str], list[dict[str, Any]]] = {}
    for each in changes:
        table, row = each["table"], each[side]
        place = order.index(table)
        if row is None:
            key = (0, -place, f"DELETE FROM {table} WHERE id = :id_")
        elif each[other] is None:
            columns, marks = ", ".join(f'"{name}"' for name in row), ", ".join(f":{name}" for name in row)
            key = (2, place, f"INSERT INTO {table} ({columns}) VALUES ({marks})")
        else:
            pairs = ", ".join(f'"{name}" = :{name}' for name in row)
            key = (1, place, f"UPDATE {table} SET {pairs} WHERE id = :id_")
        statements.setdefault(key, []).append({**(row or {}), "id_": each["id"]})
    for key in sorted(statements):
        session.connection().execute(text(key[2]), statements[key])
    session.expire_all()


def _record(session: Session, project_id: int, words: str, changes: list[dict[str, Any]], key: str) -> None:
    session.exec(delete(Edit).where(col(Edit.project_id) == project_id, col(Edit.undone)))
    number = _continued(session, project_id, key)
    if number and all(each["before"] is None for each in changes):
        _append(session, number, words, changes)
    else:
        edit = session.get(Edit, number) or Edit(project_id=project_id, words=words, key=key)
        edit.words, edit.at = words, now()
        edit.changes = _merged(edit.changes, changes)
        edit.photos, edit.hashes = _photos_of(edit.changes), _hashes_of(edit.changes)
        session.add(edit)
        session.flush()
        if not edit.changes:  # what was typed is what was there before
            session.delete(edit)
            session.flush()
    _announce(session, project_id, words, _photos_of(changes), undone=False)
    if _concerns_review(changes):
        check_jobs.request(session, project_id)
    chosen = select(Edit.id).where(Edit.project_id == project_id).order_by(col(Edit.id).desc())
    oldest = chosen.offset(STEPS_AT_MOST).limit(1).scalar_subquery()
    session.exec(delete(Edit).where(col(Edit.project_id) == project_id, col(Edit.id) <= oldest))


def _append(session: Session, number: int, words: str, changes: list[dict[str, Any]]) -> None:
    """Add rows that are new to a step, without reading what it has: a thousand photos may be one step."""
    session.exec(update(Edit).where(col(Edit.id) == number).values(words=words, at=now()))
    columns = {"changes": changes, "photos": _photos_of(changes), "hashes": _hashes_of(changes)}
    for column, more in columns.items():
        if more:
            values = strict_json.dumps(more, ascii_only=True)[1:-1]
            comma = f"iif({column} = '[]', '', ',')"
            joined = f"substr({column}, 1, length({column}) - 1) || {comma} || :more || ']'"
            statement = text(f"UPDATE edit SET {column} = {joined} WHERE id = :id")
            session.connection().execute(statement, {"more": values, "id": number})


def _continued(session: Session, project_id: int, key: str) -> int:
    """The id of the step that one with this key continues; 0 for none."""
    if not key:
        return 0
    same = select(Edit.id, Edit.at).where(Edit.project_id == project_id, Edit.key == key, col(Edit.undone).is_(False))
    number, at = session.exec(same.order_by(col(Edit.id).desc()).limit(1)).first() or (0, now())
    if key.startswith("job "):
        return int(number or 0)
    newest, _ = _next(session, project_id, "before")
    return newest if newest == number and now() - at < CONTINUED else 0


def _photos_of(changes: Sequence[Mapping[str, Any]]) -> list[int]:
    return sorted({each["photo"] for each in changes if each["photo"] is not None})


def _hashes_of(changes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of the photos and masks on either side."""
    rows = [each[side] or {} for each in changes if each["table"] == "photo" for side in ("before", "after")]
    return sorted({row[name] for row in rows for name in ("sha256", "mask") if row.get(name)})


def _concerns_review(changes: Sequence[Mapping[str, Any]]) -> bool:
    rows = [each[side] or {} for each in changes if each["table"] == "photo" for side in ("before", "after")]
    return any(REVIEWED & row.keys() for row in rows)


def _announce(session: Session, project_id: int, words: str, photos: Sequence[int], *, undone: bool) -> None:
    """Append the event for the project's pages."""
    undo, redo = (_next(session, project_id, side)[1] for side in SIDES)
    payload = {"words": words, "undone": undone, "photos": list(photos), "undo": undo, "redo": redo}
    session.add(Event(project_id=project_id, kind="edit", payload=payload))
