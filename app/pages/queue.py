"""The page of the queue: the jobs that run, wait and have ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app import wording
from app.actions import forecast, job_pictures, jobs, models
from app.actions.jobs import JobView
from app.database import Database
from app.jobs.states import Kind, Lane, State, Stop
from app.pages.lines import ALL, job_progress, newest_event
from app.pages.render import Page
from app.tables import now

ENDED = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePage(Page):
    """The jobs that run, wait and have ended."""

    template = "queue.html"
    here = "queue"
    after: int  # the newest event that the page knows of
    running: tuple[JobLine, ...]
    queued: tuple[JobLine, ...]  # in the order in which they will run
    ended: tuple[JobLine, ...]  # the last to end first


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job."""

    id: int
    title: str  # "Training: Miso, Run 3"
    url: str  # of the page that shows its result; empty without one
    lane: Lane  # jobs change places within their lane
    picture_url: str | None  # what it has drawn, else of its project
    again_url: str  # where a training starts again with changes; empty for other jobs
    done_in: float | None  # seconds from now until it is done; None: nobody knows
    state: State
    progress: str  # "120 of 300 steps"
    error: str
    stopping: bool
    retry_path: str  # below /api, of a failed job
    step: int
    steps: int
    created_at: datetime
    changed_at: datetime  # when it ended, else started, else was created


def queue_page(database: Database) -> QueuePage:
    after = newest_event(database)
    # Reviews come and go with each change of the photos; the project's page shows them.
    current = [job for job in jobs.queue(database) if job.kind is not Kind.CHECK]
    every = [job for job in jobs.list_jobs(database, limit=ALL) if job.kind is not Kind.CHECK or job.error]
    shown = {job.id for job in current}  # one of them may have ended since
    ended = [job for job in every if job.ended_at and job.id not in shown]
    ended.sort(key=lambda job: job.ended_at or now(), reverse=True)
    ended = ended[:ENDED]
    done_in = {each.job_id: each.done_in for each in forecast.forecasts(database)} if current else {}
    pictures = job_pictures.picture_urls(database, [*current, *ended])

    def line(job: JobView) -> JobLine:
        return _line(database, job, pictures.get(job.id), done_in.get(job.id))

    return QueuePage(
        after=after,
        running=tuple(line(job) for job in current if job.state is State.RUNNING),
        queued=tuple(line(job) for job in current if job.state is State.QUEUED),
        ended=tuple(line(job) for job in ended),
    )


def _line(database: Database, job: JobView, picture: str | None, done_in: float | None) -> JobLine:
    about = ", ".join(name for name in (job.project_name, job.run_name) if name)
    if job.kind is Kind.DOWNLOAD and job.model:
        about = models.title(database, job.model)
    return JobLine(
        id=job.id,
        title=": ".join(part for part in (wording.KINDS[job.kind], about) if part),
        url=_url(job),
        lane=job.lane,
        picture_url=picture,
        again_url=again_url(job.project_id, job.run_id) if job.project_id and job.run_id else "",
        done_in=done_in,
        state=job.state,
        progress=job_progress(job),
        error=wording.error(job.error) if job.state is State.FAILED else "",
        stopping=job.stop is not Stop.NONE,
        retry_path=f"/runs/{job.run_id}/resume" if job.run_id else f"/jobs/{job.id}/retry",
        step=job.step,
        steps=job.steps,
        created_at=job.created_at,
        changed_at=job.ended_at or job.started_at or job.created_at,
    )


def again_url(project_id: int, run_id: int) -> str:
    """The address of the form that is filled in as a run had it."""
    return f"/projects/{project_id}/train?again={run_id}"


def _url(job: JobView) -> str:
    if job.run_id:
        return f"/runs/{job.run_id}"
    if job.kind is Kind.SAMPLE:
        return "/pictures"
    if job.kind is Kind.DOWNLOAD:
        return "/models"
    return f"/projects/{job.project_id}" if job.project_id else ""
