"""How photos are shown: each with its newest caption and crop. Older ones are history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.tables import Caption, Crop, Photo
from core.dataset.crops import WHOLE, Box


@dataclass(frozen=True, slots=True)
class PhotoView:
    """One photo with its newest caption and crop."""

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
    crop: dict[str, float] | None  # {"left", "top", "right", "bottom"} in fractions, None for the whole photo
    file_url: str
    thumb_url: str
    created_at: datetime


def newest_captions(session: Session, photo_ids: Iterable[int]) -> dict[int, Caption]:
    """The caption in force, by photo id."""
    of_photos = col(Caption.photo_id).in_(list(photo_ids))
    newest = select(func.max(Caption.id)).where(of_photos).group_by(col(Caption.photo_id))
    return {row.photo_id: row for row in session.exec(select(Caption).where(col(Caption.id).in_(newest)))}


def newest_crops(session: Session, photo_ids: Iterable[int]) -> dict[int, Crop]:
    """The crop in force, by photo id; none for a photo that is used whole."""
    of_photos = col(Crop.photo_id).in_(list(photo_ids))
    newest = select(func.max(Crop.id)).where(of_photos).group_by(col(Crop.photo_id))
    rows = session.exec(select(Crop).where(col(Crop.id).in_(newest)))
    return {row.photo_id: row for row in rows if Box(row.left, row.top, row.right, row.bottom) != WHOLE}


def crop_json(row: Crop | None) -> dict[str, float] | None:
    """A crop as JSON has it; None for the whole photo."""
    return None if row is None else {"left": row.left, "top": row.top, "right": row.right, "bottom": row.bottom}


def thumb_url(row: Photo) -> str:
    return f"/api/photos/{row.id}/thumb?v={row.sha256[:12]}"


def views(session: Session, rows: Iterable[Photo]) -> list[PhotoView]:
    rows = list(rows)
    ids = [int(row.id or 0) for row in rows]
    captions, crops = newest_captions(session, ids), newest_crops(session, ids)
    return [_view(row, captions.get(int(row.id or 0)), crops.get(int(row.id or 0))) for row in rows]


def _view(row: Photo, caption: Caption | None, crop: Crop | None) -> PhotoView:
    shown = caption if caption is not None and caption.text else None
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
        crop=crop_json(crop),
        file_url=f"/api/photos/{row.id}/file?v={row.sha256[:12]}",
        thumb_url=thumb_url(row),
        created_at=row.created_at,
    )
