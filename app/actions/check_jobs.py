"""One `check` job a project: it reviews the photos that have not been reviewed, then judges the set.

    a photo is added, deleted, set aside, gets a box   ->  request: one job is queued, unless one waits or is at work
    the job                                            ->  takes photos until none is left; its last look and `close`
                                                           are one transaction, so a photo that comes later gets a job

The judgement names the state of the set that it is about (`set_state`), and the analysis model that it was made with:
of another state it is out of date, and when such a model comes, judgements without it are (`request_all`).
"""

from __future__ import annotations

import hashlib
import json

from sqlalchemy import select as select_columns
from sqlmodel import Session, col, delete, select

from app.database import Database
from app.jobs import store
from app.jobs.states import ENDED, Kind, State
from app.tables import Job, Photo, Project, Review

WITH = "+"  # in Review.state: between the state of the set and the analysis model
CLOSED = "closed"  # in the parameters of a running job: it takes no more photos


def request(session: Session, project_id: int) -> int | None:
    """The id of the job that will review this project's photos, queued if need be; None where nothing is to do."""
    job = pending(session, project_id)
    if job is not None and not job.params.get(CLOSED):
        return job.id  # without looking at the photos, for each of which this is called when many are added
    if up_to_date(session, project_id):
        return None
    earlier = col(Job.project_id) == project_id, col(Job.kind) == Kind.CHECK, col(Job.state).in_(ENDED)
    session.exec(
        delete(Job).where(*earlier)
    )  # every change of the set makes a job; a list of them tells nobody anything
    return store.enqueue(session, Kind.CHECK, {}, project_id=project_id).id


def request_all(database: Database, model: str = "") -> None:
    """A review for each project whose verdict is out of date, as those of older homes are at the studio's start.

    With `model`, an analysis model that is here, verdicts that were made without it are out of date.
    """
    with database.write() as session:
        for project_id in session.exec(select(Project.id)).all():
            review = session.get(Review, project_id)
            if review is not None and model and review.state.partition(WITH)[2] != model:
                review.state = ""
                session.add(review)
                session.flush()
            request(session, int(project_id or 0))


def pending(session: Session, project_id: int) -> Job | None:
    """The newest job of the project that waits or runs."""
    states = (State.QUEUED, State.RUNNING)
    chosen = select(Job).where(Job.project_id == project_id, Job.kind == Kind.CHECK, col(Job.state).in_(states))
    return session.exec(chosen.order_by(col(Job.id).desc()).limit(1)).first()


def close(session: Session, job_id: int) -> None:
    """The job, which has just seen that no photo is left, takes no more."""
    job = store.get(session, job_id)
    job.params = {**job.params, CLOSED: True}
    session.add(job)


def up_to_date(session: Session, project_id: int) -> bool:
    """Whether the set as it is now was judged; an empty one needs no judgement."""
    review = session.get(Review, project_id)
    if review is None:
        return session.exec(select(Photo.id).where(Photo.project_id == project_id).limit(1)).first() is None
    return is_about(review, set_state(session, project_id))


def is_about(review: Review, state: str) -> bool:
    """Whether the judgement is about the set in this state, whatever it was made with."""
    return review.state.partition(WITH)[0] == state


def judged(state: str, model: str) -> str:
    """`Review.state` of a set in this state, judged with this analysis model; "" for none."""
    return f"{state}{WITH}{model}" if model else state


def set_state(session: Session, project_id: int) -> str:
    """A hash of what a judgement depends on."""
    columns = (col(Photo.id), col(Photo.sha256), col(Photo.aside), col(Photo.subject), col(Photo.mask))
    chosen = select_columns(*columns).where(col(Photo.project_id) == project_id).order_by(col(Photo.id))
    items = [list(row) for row in session.connection().execute(chosen)]
    return hashlib.sha256(json.dumps(items).encode()).hexdigest()
