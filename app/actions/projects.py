"""Projects, one subject each: listing, creating, changing, deleting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.actions import edits, unreferenced
from app.actions.photo_views import newest_captions, thumb_url
from app.database import Database
from app.errors import Conflict, NotFound
from app.jobs.states import Kind, State
from app.tables import Caption, Job, Photo, Project, Run
from core.dataset import triggers
from core.dataset.captions import CHARACTERS_AT_MOST, has_trigger, replace_trigger
from core.errors import ConfigProblem, FieldProblem

NAME_CHARACTERS = 100
WORD_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class ProjectView:
    """One subject, as lists and pages show it."""

    id: int
    name: str
    trigger: str
    class_word: str
    created_at: datetime
    photos: int  # how many it trains on
    aside: int  # how many more are set aside
    captioned: int  # how many of the photos that it trains on have a caption
    captions_with_trigger: int  # how many of these have the trigger as a word of its own
    runs: int  # how many
    cover_url: str | None  # thumbnail of the first photo
    working: bool  # a job of this project waits or runs


def list_projects(database: Database, after: int = 0, limit: int = 200) -> list[ProjectView]:
    """Projects with an id above `after`, oldest first, at most `limit`."""
    with database.read() as session:
        rows = session.exec(select(Project).where(col(Project.id) > after).order_by(col(Project.id)).limit(limit))
        return [_view(session, row) for row in rows]


def get_project(database: Database, project_id: int) -> ProjectView:
    """Raises NotFound."""
    with database.read() as session:
        return _view(session, find(session, project_id))


def check(database: Database, project_id: int) -> None:
    """Raises NotFound."""
    with database.read() as session:
        find(session, project_id)


def suggest_trigger(database: Database, name: str, project_id: int | None = None) -> str:
    """A rare word for a subject of this name, that no other project (than `project_id`) uses."""
    with database.read() as session:
        others = select(Project.trigger).where(col(Project.id) != project_id) if project_id else select(Project.trigger)
        return triggers.suggest(name, session.exec(others).all())


def create(database: Database, name: str, trigger: str, class_word: str) -> ProjectView:
    """Raises ConfigProblem, naming every field that needs another look."""
    words = _checked({"name": name, "trigger": trigger, "class_word": class_word})
    with database.write() as session:
        row = Project(name=words["name"], trigger=words["trigger"], class_word=words["class_word"])
        session.add(row)
        session.flush()
        return _view(session, row)


def change(
    database: Database,
    project_id: int,
    *,
    name: str | None = None,
    trigger: str | None = None,
    class_word: str | None = None,
    replace_in_captions: bool = False,
) -> ProjectView:
    """Rename, or choose other words; None leaves a field as it is.

    With `replace_in_captions` a new trigger takes the old one's place in the captions, whose history keeps the old.
    It is a step that can be undone, the captions with it.

    Raises NotFound, ConfigProblem.
    """
    given = {"name": name, "trigger": trigger, "class_word": class_word}
    words = _checked({field: value for field, value in given.items() if value is not None})
    with database.write() as session:
        row = find(session, project_id)
        replaced = replace_in_captions and "trigger" in words
        photos = list(session.exec(select(Photo).where(Photo.project_id == project_id))) if replaced else []
        ids = [int(photo.id or 0) for photo in photos]
        what = "the trigger, also in captions" if replaced else f"the words of {row.name}"
        with edits.step(session, project_id, what, ids, with_project=True):
            if replaced:
                _replace_in_captions(session, photos, row.trigger, words["trigger"])
            for field, value in words.items():
                setattr(row, field, value)
            session.add(row)
        return _view(session, row)


def delete(database: Database, project_id: int) -> None:
    """Remove a project with its photos, runs and adapters; their files go to the trash.

    Raises NotFound, and Conflict while one of its jobs runs.
    """
    with database.write() as session:
        row = find(session, project_id)
        if _count_jobs(session, project_id, (State.RUNNING,)):
            raise Conflict(f"{row.name} has a running job; stop it first.")
        deleted = unreferenced.files_of_project(session, database.home, project_id)
        session.delete(row)
    deleted.to_trash(database, f"project {row.name}")


def find(session: Session, project_id: int) -> Project:
    """Raises NotFound."""
    row = session.get(Project, project_id)
    if row is None:
        raise NotFound(f"There is no project {project_id}.")
    return row


def _replace_in_captions(session: Session, rows: Sequence[Photo], trigger: str, replacement: str) -> None:
    newest = newest_captions(session, [int(row.id or 0) for row in rows])
    for row in rows:
        caption = newest.get(int(row.id or 0))
        text = replace_trigger(caption.text, trigger, replacement) if caption else ""
        if caption is None or text == caption.text:
            continue
        if len(text) > CHARACTERS_AT_MOST:
            words = f"makes the caption of {row.name} too long: {len(text)} characters; at most {CHARACTERS_AT_MOST}"
            raise ConfigProblem("The project needs another look.", [FieldProblem("trigger", words)])
        session.add(Caption(photo_id=caption.photo_id, text=text, origin=caption.origin))
    session.flush()


def _count_jobs(session: Session, project_id: int, states: tuple[State, ...]) -> int:
    """Without reviews, which come and go with each change of the photos."""
    chosen = select(func.count()).where(Job.project_id == project_id, col(Job.state).in_(states))
    chosen = chosen.where(Job.kind != Kind.CHECK)
    return session.exec(chosen).one()


def _view(session: Session, row: Project) -> ProjectView:
    of_project = Photo.project_id == row.id, col(Photo.aside).is_(False)
    first = session.exec(select(Photo).where(*of_project).order_by(col(Photo.id)).limit(1)).first()
    aside = select(func.count()).where(Photo.project_id == row.id, col(Photo.aside))
    # Texts alone: a project may have thousands of photos, and this is asked for often.
    newest = select(func.max(Caption.id)).join(Photo).where(*of_project).group_by(col(Caption.photo_id))
    captions = session.exec(select(Caption.text).where(col(Caption.id).in_(newest))).all()
    return ProjectView(
        id=int(row.id or 0),
        name=row.name,
        trigger=row.trigger,
        class_word=row.class_word,
        created_at=row.created_at,
        photos=session.exec(select(func.count()).where(*of_project)).one(),
        aside=session.exec(aside).one(),
        captioned=sum(1 for text in captions if text),
        captions_with_trigger=sum(has_trigger(text, row.trigger) for text in captions),
        runs=session.exec(select(func.count()).where(Run.project_id == row.id)).one(),
        cover_url=thumb_url(first) if first else None,
        working=_count_jobs(session, int(row.id or 0), (State.QUEUED, State.RUNNING)) > 0,
    )


def _checked(fields: dict[str, str]) -> dict[str, str]:
    limits = {"name": NAME_CHARACTERS, "trigger": WORD_CHARACTERS, "class_word": WORD_CHARACTERS}
    problems: list[FieldProblem] = []
    words: dict[str, str] = {}
    for field, value in fields.items():
        words[field] = " ".join(value.split())
        if not words[field]:
            problems.append(FieldProblem(field, "is empty"))
        elif len(words[field]) > limits[field]:
            problems.append(FieldProblem(field, f"has {len(words[field])} characters; at most {limits[field]}"))
        elif not words[field].isprintable():
            problems.append(FieldProblem(field, "has characters that cannot be shown"))
        elif field != "name" and set("{}") & set(words[field]):
            problems.append(FieldProblem(field, f"is {value!r}; braces are reserved for templates"))
    if problems:
        raise ConfigProblem("The project needs another look.", problems)
    return words
