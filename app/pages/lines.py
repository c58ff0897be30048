"""What several pages show: a run in a list, how far a job is, adapters to choose from, the newest event's id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func
from sqlmodel import select

from app import wording
from app.actions import adapters, jobs, models
from app.actions.adapters import AdapterView
from app.actions.jobs import JobView
from app.actions.run_views import RunView
from app.database import Database
from app.jobs.states import Kind, State, Stop
from app.tables import Event

ALL = 10_000  # a page shows the whole list: people have dozens of photos and runs, not tens of thousands
NOT_RESPONDING = "Not responding; the computer may have slept"
UNITS = {Kind.TRAIN: "step", Kind.CAPTION: "photo", Kind.CHECK: "photo", Kind.SAMPLE: "picture"}


@dataclass(frozen=True, slots=True)
class Line:
    """A name and a value."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run in a list."""

    id: int
    job_id: int
    project_id: int
    name: str
    model: str  # its title
    state: State
    step: int
    steps: int
    picture_url: str | None  # the newest sample
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AdapterOption:
    """An adapter in a select."""

    value: str  # its id
    label: str  # "Miso, Run 3, step 300"
    model: str
    trigger: str
    class_word: str
    imported: str = ""  # the name of one that can be renamed and deleted: also of an average


@dataclass(frozen=True, slots=True)
class Fetching:
    """A download that waits or runs."""

    job_id: int
    progress: str  # "3.2 GB of 33 GB"
    done: int  # bytes
    of: int  # bytes; 0 while unknown
    stopping: bool


def fetching(job: JobView) -> Fetching:
    return Fetching(job.id, job_progress(job), job.step, job.steps, job.stop is not Stop.NONE)


def newest_event(database: Database) -> int:
    """The id of the newest event; a page's stream starts after it."""
    with database.read() as session:
        return session.exec(select(func.max(Event.id))).one() or 0


def active_jobs(database: Database) -> int:
    """How many jobs run or wait: the number in the navigation. Reviews of photos come and go by themselves."""
    return sum(job.kind is not Kind.CHECK for job in jobs.queue(database))


def run_line(database: Database, view: RunView, *, with_project: bool = False) -> RunLine:
    return RunLine(
        id=view.id,
        job_id=view.job_id,
        project_id=view.project_id,
        name=f"{view.project_name}: {view.name}" if with_project else view.name,
        model=models.title(database, view.model),
        state=view.state,
        step=view.step,
        steps=view.steps,
        picture_url=view.cover_url,
        created_at=view.created_at,
    )


def job_progress(job: JobView) -> str:
    """How far a job is, in a few words: "next", "training, 120 of 300 steps", "3.2 GB of 33 GB"."""
    if job.state is State.QUEUED:
        return "next" if job.place == 0 else f"{job.place} before it" if job.place else "waiting"
    if job.not_responding:
        return NOT_RESPONDING.lower()
    done = ""
    if job.steps and job.kind is Kind.DOWNLOAD:
        done = f"{wording.size(job.step)} of {wording.size(job.steps)}"
    elif job.steps:
        done = f"{job.step} of {wording.plural(job.steps, UNITS.get(job.kind, 'part'))}"
    if job.state is State.RUNNING:
        return ", ".join(part for part in (job.phase, done) if part) or "starting"
    return done


def adapter_options(database: Database, views: Sequence[AdapterView]) -> tuple[AdapterOption, ...]:
    """Adapters to choose from, named by project, run and step, each with the model that it was trained on."""
    labels = adapters.labels(database)
    return tuple(
        AdapterOption(
            value=str(view.id),
            label=labels.get(view.id, view.name),
            model=view.model,
            trigger=view.trigger,
            class_word=view.class_word,
            imported=view.name if view.step is None else "",
        )
        for view in views
    )
