"""What a project's `check` job has found: the verdict on its set of photos, and the best N of them.

Read from rows alone: judging needs arrays, so it is the job's work (`app/worker/checking.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, col, select

from app.actions import check_jobs, projects
from app.actions.photo_views import SubjectView, found_subjects, subject_view
from app.actions.photos import find
from app.database import Database
from app.errors import Conflict
from app.jobs.states import Kind
from app.tables import Job, Photo, Review
from app.wording import plural
from core.config import knob
from core.config.knob import Knob
from core.errors import ConfigProblem, FieldProblem

EMPTY = {"title": "No photos yet", "words": "Add at least one, better five to twenty."}
UNKNOWN = {"title": "Not looked at yet", "words": "The photos are being looked at."}


@dataclass(frozen=True, slots=True)
class ReviewView:
    """The verdict on a set, its reasons, and whether it is about the set as it is now."""

    state: str  # "running" while photos are to be reviewed or the set to be judged, "done", "stopped" without a job
    verdict: dict[str, str]  # {"title", "words"}
    counts: dict[str, int]  # {"photos", "good", "aside"}
    findings: list[dict[str, Any]]  # [{kind, photos, keep, sure, words, action}]
    job_id: int | None  # that waits or runs
    done: int  # photos reviewed
    problem: str  # why the newest job ended without a verdict; empty otherwise


@dataclass(frozen=True, slots=True)
class Pick:
    """The photos to keep and those to set aside, for an edit to apply."""

    keep: list[int]
    set_aside: list[int]
    words: str
    edit: dict[str, Any] = field(default_factory=dict)  # the body for POST edits that does it


def get(database: Database, project_id: int) -> ReviewView:
    """The newest verdict, without photos that are gone since. Raises NotFound."""
    with database.read() as session:
        projects.find(session, project_id)
        chosen = select(Photo.id, Photo.aside).where(Photo.project_id == project_id)
        photos = {int(number or 0): aside for number, aside in session.exec(chosen)}
        current = check_jobs.up_to_date(session, project_id)
        job = check_jobs.pending(session, project_id)
        row = session.get(Review, project_id)
        problem = "" if current or job else _problem(session, project_id)
        reviewed = len(photos) if current else len(found_subjects(session, photos))
    findings = [_shown(each, photos) for each in (row.findings if row else [])]
    aside = sum(photos.values())
    return ReviewView(
        state="done" if current else "running" if job else "stopped",
        verdict={**EMPTY} if not photos else {**row.verdict} if row else {**UNKNOWN},
        counts={"photos": len(photos), "good": min(row.good if row else 0, len(photos) - aside), "aside": aside},
        findings=[each for each in findings if each["photos"] or each["of_the_set"]] if photos else [],
        job_id=job.id if job else None,
        done=reviewed,
        problem=problem,
    )


def start(database: Database, project_id: int) -> int | None:
    """Queue a job if the verdict is out of date and none waits or runs; its id. Raises NotFound."""
    with database.write() as session:
        projects.find(session, project_id)
        return check_jobs.request(session, project_id)


def subject(database: Database, photo_id: int) -> SubjectView:
    """The user's box of the subject, else the one that was found. Raises NotFound."""
    with database.read() as session:
        return subject_view(find(session, photo_id), found_subjects(session, [photo_id]).get(photo_id))


def pick(database: Database, project_id: int, count: str) -> Pick:
    """Propose the best `count`, as it was typed, of the photos that are not set aside: diverse and sharp.

    Raises NotFound, Conflict while the photos are reviewed, ConfigProblem for more than there are.
    """
    with database.read() as session:
        projects.find(session, project_id)
        if not check_jobs.up_to_date(session, project_id):
            raise Conflict("The photos are still being looked at; try again when the review is done.")
        row = session.get(Review, project_id)
        chosen = select(Photo.id).where(Photo.project_id == project_id, col(Photo.aside).is_(False))
        active = [int(each or 0) for each in session.exec(chosen)]
    number, words = knob.read("int", count, Knob("", "", "", 1, len(active)), ())
    if words:
        words += ", the photos that are not set aside" if words.endswith(f"1 to {len(active)}") else ""
        raise ConfigProblem("So many photos cannot be picked.", [FieldProblem("count", words)])
    place = {photo: at for at, photo in enumerate(row.order if row else [])}
    ordered = sorted(active, key=lambda photo: (place.get(photo, len(place)), photo))
    keep, rest = ordered[:number], sorted(ordered[number:])
    words = f"Keeps the {number} most varied and sharpest of {plural(len(active), 'photo')}; sets {len(rest)} aside."
    return Pick(keep, rest, words, {"photos": rest, "set": {"aside": True}} if rest else {})


def _shown(finding: dict[str, Any], photos: Mapping[int, bool]) -> dict[str, Any]:
    """A finding about the photos that are still there."""
    left = [number for number in finding["photos"] if number in photos]
    alone = finding["keep"] is not None and len(left) < 2  # nothing is left that repeats another
    keep = finding["keep"] if finding["keep"] in photos else None
    return {**finding, "photos": [] if alone else left, "keep": keep}


def _problem(session: Session, project_id: int) -> str:
    chosen = select(Job).where(Job.project_id == project_id, Job.kind == Kind.CHECK)
    job = session.exec(chosen.order_by(col(Job.id).desc()).limit(1)).first()
    return str(job.error.get("message", "")) if job is not None and job.error else ""
