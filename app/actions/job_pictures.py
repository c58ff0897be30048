"""A picture for each job in a list: the cover of its run, what it has drawn last, or the first photo of its project."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.actions.jobs import JobView
from app.actions.photo_views import thumb_url
from app.actions.run_views import cover_of, picture_url
from app.database import Database
from app.tables import Photo, Sample


def picture_urls(database: Database, jobs: Sequence[JobView]) -> dict[int, str]:
    """The address of a picture by job id; a job without any has none."""
    with database.read() as session:
        found = {job.id: _picture(session, job) for job in jobs}
        covers = _first_photos(session, {job.project_id for job in jobs if job.project_id is not None})
    urls = {job.id: found[job.id] or covers.get(job.project_id or 0) for job in jobs}
    return {number: url for number, url in urls.items() if url}


def _picture(session: Session, job: JobView) -> str | None:
    if job.run_id is not None:
        return cover_of(session, job.run_id)
    newest = session.exec(select(func.max(Sample.id)).where(Sample.job_id == job.id)).one()
    return picture_url(newest) if newest is not None else None


def _first_photos(session: Session, projects: set[int]) -> dict[int, str]:
    first = select(func.min(Photo.id)).where(col(Photo.project_id).in_(projects), col(Photo.aside).is_(False))
    rows = session.exec(select(Photo).where(col(Photo.id).in_(first.group_by(col(Photo.project_id)))))
    return {row.project_id: thumb_url(row) for row in rows}
