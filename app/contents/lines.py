"""What several pages show: a run in a list, a job in a line, adapters to choose from, the newest event they know of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import func
from sqlmodel import select

from app import wording
from app.actions import jobs, models
from app.actions.adapters import AdapterView
from app.actions.jobs import JobView
from app.actions.run_views import RunView
from app.database import Database
from app.jobs.states import Kind, State
from app.page_parts import AdapterOption, JobLine, RunLine
from app.tables import Event, Project, Run

ALL = 10_000  # a page shows the whole list: people have dozens of photos and runs, not tens of thousands


def newest_event(database: Database) -> int:
    with database.read() as session:
        return session.exec(select(func.max(Event.id))).one() or 0


def active_jobs(database: Database) -> int:
    """How many jobs run or wait: the number in the navigation."""
    return len(jobs.queue(database))


def run_line(database: Database, view: RunView, with_project: bool = False) -> RunLine:
    return RunLine(
        id=view.id,
        job_id=view.job_id,
        name=f"{view.project_name}: {view.name}" if with_project else view.name,
        model=models.title(database, view.model),
        state=view.state.value,
        state_words=wording.STATES[view.state],
        progress=f"{view.step} of {view.steps} steps",
        picture_url=view.cover_url,
        created_at=view.created_at.isoformat(),
        when=wording.ago(view.created_at),
    )


def job_line(database: Database, job: JobView) -> JobLine:
    about = ", ".join(name for name in (job.project_name, job.run_name) if name)
    if job.kind is Kind.DOWNLOAD and job.model:
        about = models.title(database, job.model)
    url = (
        f"/runs/{job.run_id}" if job.run_id else {Kind.SAMPLE: "/pictures", Kind.DOWNLOAD: "/models"}.get(job.kind, "")
    )
    if not url and job.project_id:
        url = f"/projects/{job.project_id}"
    return JobLine(
        id=job.id,
        title=": ".join(part for part in (wording.KINDS[job.kind], about) if part),
        url=url,
        state=job.state.value,
        state_words=wording.STATES[job.state],
        words=job_words(job),
        error=wording.error(job.error) if job.state is State.FAILED else "",
        step=job.step,
        steps=job.steps,
        created_at=job.created_at.isoformat(),
        when=wording.ago(job.ended_at or job.started_at or job.created_at),
    )


def job_words(job: JobView) -> str:
    """Where a job stands, in a few words."""
    units = {Kind.TRAIN: "step", Kind.CAPTION: "photo", Kind.SAMPLE: "picture"}
    done = f"{job.step} of {wording.plural(job.steps, units.get(job.kind, 'part'))}" if job.steps else ""
    if job.kind is Kind.DOWNLOAD and job.steps:
        done = f"{wording.size(job.step)} of {wording.size(job.steps)}"
    if job.state is State.QUEUED:
        return "next" if job.place == 0 else f"{job.place} before it" if job.place else "waiting"
    if job.not_responding:
        return "it has said nothing for a while; the computer may have slept"
    if job.state is State.RUNNING:
        return ", ".join(part for part in (job.phase, done) if part) or "starting"
    return done


def adapter_options(database: Database, views: Sequence[AdapterView]) -> tuple[AdapterOption, ...]:
    """Adapters to choose from, named by project, run and step, each with the model that it was trained on."""
    with database.read() as session:
        rows = session.exec(select(Run, Project).join(Project)).all()
    names = {int(run.id or 0): f"{project.name}, {run.name}" for run, project in rows}
    return tuple(_option(view, names) for view in views)


def _option(view: AdapterView, names: Mapping[int, str]) -> AdapterOption:
    label = f"{names.get(view.run_id, view.name)}, step {view.step}" if view.run_id else f"{view.name} (imported)"
    return AdapterOption(str(view.id), label, view.model, view.trigger, view.class_word)
