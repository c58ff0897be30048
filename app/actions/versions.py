"""Versions of a set of photos: what a run trains on, frozen when it is created; what differs between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from app.actions import projects
from app.actions.photo_views import active, found_subjects, mask_of, newest_captions, subject_view
from app.database import Database
from app.errors import NotFound
from app.settings import value_of
from app.tables import Photo, Project, Run, Subject, Version
from core.dataset.captions import fill
from core.vision.results import UNSURE

NOW = 0  # in the place of a version's id: the set as it is now

Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VersionView:
    """A frozen set, and the runs that were made with it."""

    id: int
    photos: int
    runs: list[dict[str, Any]]  # [{"id", "name"}]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PhotoChange:
    """A photo that is in both versions, and what of it differs."""

    photo_id: int
    name: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """What has to be done to the earlier version to make it the later one. Photos are compared by their bytes."""

    before: int
    after: int  # 0: the set as it is now
    added: list[dict[str, Any]]  # [{"photo_id", "name", "sha256"}]
    removed: list[dict[str, Any]]
    captions: list[PhotoChange]
    crops: list[PhotoChange]  # lists of boxes; empty for the default crop
    masks: list[PhotoChange]  # hashes, None without one


def frozen(session: Session, project: Project, rows: Sequence[Photo]) -> list[dict[str, Any]]:
    """The items of a `Version`: each photo with its crops, caption, subject and mask; the template's caption where it
    has none.

    `pending` is true of a photo that was not reviewed yet: a run waits for that before its first step.
    """
    ids = [int(row.id or 0) for row in rows]
    written, found = newest_captions(session, ids), found_subjects(session, ids)
    template = fill(value_of(session, "caption_template"), project.trigger, project.class_word)
    items = []
    for number, row in zip(ids, rows, strict=True):
        caption = written[number].text if number in written else ""
        items.append(
            {
                "photo_id": row.id,
                "sha256": row.sha256,
                "extension": row.extension,
                "name": row.name,
                "width": row.width,
                "height": row.height,
                "crop": row.crops[0] if row.crops else None,
                "crops": row.crops,
                "caption": caption or template,
                **seen_in(row, found.get(number)),
                "pending": number not in found,
            }
        )
    return items


def seen_in(row: Photo, found: Subject | None) -> dict[str, Any]:
    """Subject and mask of a photo, as an item has them."""
    view, mask = subject_view(row, found), mask_of(row, found)
    trusted = view.source == "you" or view.sure >= UNSURE  # a box of the user's finds its mask, too
    return {
        "subject": view.box if trusted else None,
        "mask": mask[1] if mask and (mask[0] == "you" or trusted) else None,
    }


def list_versions(database: Database, project_id: int, after: int = 0, limit: int = 200) -> list[VersionView]:
    """The project's versions with an id above `after`, oldest first. Raises NotFound."""
    with database.read() as session:
        projects.find(session, project_id)
        runs = session.exec(select(Run).where(Run.project_id == project_id)).all()
        chosen = select(Version).where(Version.project_id == project_id, col(Version.id) > after)
        rows = session.exec(chosen.order_by(col(Version.id)).limit(limit))
        return [
            VersionView(
                id=int(row.id or 0),
                photos=len(row.items),
                runs=[{"id": run.id, "name": run.name} for run in runs if run.version_id == row.id],
                created_at=row.created_at,
            )
            for row in rows
        ]


def difference(database: Database, project_id: int, before: int, after: int = NOW) -> Difference:
    """From one version to another, or to the set as it is now. Raises NotFound."""
    with database.read() as session:
        project = projects.find(session, project_id)
        old, new = (_items(session, project, number) for number in (before, after))
    both = [(old[sha256], new[sha256]) for sha256 in new if sha256 in old]
    return Difference(
        before=before,
        after=after,
        added=[_named(item) for sha256, item in new.items() if sha256 not in old],
        removed=[_named(item) for sha256, item in old.items() if sha256 not in new],
        captions=[_change(a["caption"], b["caption"], b) for a, b in both if a["caption"] != b["caption"]],
        crops=[_change(_crops(a), _crops(b), b) for a, b in both if _crops(a) != _crops(b)],
        masks=[_change(a.get("mask"), b.get("mask"), b) for a, b in both if a.get("mask") != b.get("mask")],
    )


def _items(session: Session, project: Project, number: int) -> dict[str, Item]:
    """The items of a version by the photo's hash."""
    if number == NOW:
        items = frozen(session, project, session.exec(active(int(project.id or 0))).all())
    else:
        row = session.get(Version, number)
        if row is None or row.project_id != project.id:
            raise NotFound(f"There is no version {number} in this project.")
        items = row.items
    return {item["sha256"]: item for item in items}


def _crops(item: Item) -> list[Any]:
    """Every crop; items of older versions have one."""
    return list(item.get("crops", [item["crop"]] if item["crop"] else []))


def _named(item: Item) -> dict[str, Any]:
    return {"photo_id": item["photo_id"], "name": item["name"], "sha256": item["sha256"]}


def _change(before: Any, after: Any, item: Item) -> PhotoChange:
    return PhotoChange(item["photo_id"], item["name"], before, after)
