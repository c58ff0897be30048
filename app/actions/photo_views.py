"""How photos are shown: each with its newest caption, its crops, and what was found in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from app.tables import Caption, Photo, Subject


@dataclass(frozen=True, slots=True)
class SubjectView:
    """Where the subject of a photo is."""

    box: list[float] | None  # left, top, right, bottom in fractions of the photo as seen; None: not known
    source: str  # "you" or "found"
    sure: float  # 0 to 1


@dataclass(frozen=True, slots=True)
class PhotoView:
    """One photo with its newest caption and its crops."""

    id: int
    project_id: int
    name: str
    sha256: str
    bytes: int
    width: int  # as seen
    height: int
    warnings: list[str]
    caption: str | None
    caption_origin: str | None  # "user", "template" or the name of a vision model
    crop: dict[str, float] | None  # the first of `crops`; None for the default crop
    crops: list[dict[str, float]]  # [{"left", "top", "right", "bottom"}] in fractions; each is a training example
    aside: bool  # kept, and not trained on
    subject: SubjectView
    mask: str | None  # "you" or "found"; None without one
    mask_url: str | None
    taken: str | None  # by the camera's clock, "2024-05-01T12:00:00"
    file_url: str
    thumb_url: str
    created_at: datetime


def newest_captions(session: Session, photo_ids: Iterable[int]) -> dict[int, Caption]:
    """The caption in force, by photo id."""
    of_photos = col(Caption.photo_id).in_(list(photo_ids))
    newest = select(func.max(Caption.id)).where(of_photos).group_by(col(Caption.photo_id))
    return {row.photo_id: row for row in session.exec(select(Caption).where(col(Caption.id).in_(newest)))}


def found_subjects(session: Session, photo_ids: Iterable[int]) -> dict[int, Subject]:
    """The subjects that reviews have found, by photo id."""
    rows = session.exec(select(Subject).where(col(Subject.photo_id).in_(list(photo_ids))))
    return {int(row.photo_id or 0): row for row in rows}


def active(project_id: int) -> SelectOfScalar[Photo]:
    """The query of the project's photos that are trained on, by name.

    Files dropped together arrive in any order, and which photo a step sees depends on the order here.
    """
    chosen = select(Photo).where(Photo.project_id == project_id, col(Photo.aside).is_(False))
    return chosen.order_by(col(Photo.name))


def subject_view(row: Photo, found: Subject | None) -> SubjectView:
    """The user's box, or that of the user's mask, before the one that was found."""
    if drawn := row.subject or row.mask_box:
        return SubjectView(drawn, "you", 1.0)
    if found is None or found.box is None:
        return SubjectView(None, "found", 0.0)
    return SubjectView(found.box, "found", found.sure)


def mask_of(row: Photo, found: Subject | None) -> tuple[str, str] | None:
    """(source, hash) of the mask in force: the user's own before the one that was found."""
    if row.mask is not None:
        return "you", row.mask
    return ("found", found.mask) if found is not None and found.mask is not None else None


def thumb_url(row: Photo) -> str:
    return f"/api/photos/{row.id}/thumb?v={row.sha256[:12]}"


def file_url(row: Photo) -> str:
    return f"/api/photos/{row.id}/file?v={row.sha256[:12]}"


def views(session: Session, rows: Iterable[Photo]) -> list[PhotoView]:
    rows = list(rows)
    ids = [int(row.id or 0) for row in rows]
    captions, subjects = newest_captions(session, ids), found_subjects(session, ids)
    return [_view(row, captions.get(int(row.id or 0)), subjects.get(int(row.id or 0))) for row in rows]


def _view(row: Photo, caption: Caption | None, found: Subject | None) -> PhotoView:
    shown = caption if caption is not None and caption.text else None
    mask = mask_of(row, found)
    return PhotoView(
        id=int(row.id or 0),
        project_id=row.project_id,
        name=row.name,
        sha256=row.sha256,
        bytes=row.bytes,
        width=row.width,
        height=row.height,
        warnings=row.warnings,
        caption=shown.text if shown else None,
        caption_origin=shown.origin if shown else None,
        crop=row.crops[0] if row.crops else None,
        crops=row.crops,
        aside=row.aside,
        subject=subject_view(row, found),
        mask=mask[0] if mask else None,
        mask_url=f"/api/photos/{row.id}/mask?v={mask[1][:12]}" if mask else None,
        taken=row.taken,
        file_url=file_url(row),
        thumb_url=thumb_url(row),
        created_at=row.created_at,
    )
