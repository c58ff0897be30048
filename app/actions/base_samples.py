"""What the base itself draws for a prompt and a seed: step 0 of earlier runs, and pictures without an adapter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlmodel import Session, col, select

from app.actions import projects
from app.actions.run_views import picture_url
from app.database import Database
from app.jobs.states import Kind
from app.tables import Job, Run, Sample

AT_MOST = 200  # of each kind, the newest


@dataclass(frozen=True, slots=True)
class BaseSample:
    """A picture that the base drew."""

    model: str
    prompt: str  # filled in
    seed: int
    url: str


def base_samples(database: Database, project_id: int) -> list[BaseSample]:
    """One picture for each model, prompt and seed, the newest. Raises NotFound."""
    with database.read() as session:
        projects.find(session, project_id)
        found: dict[tuple[str, str, int], BaseSample] = {}
        for model, sample in sorted(_drawn(session, project_id), key=lambda each: -int(each[1].id or 0)):
            base = BaseSample(model, sample.prompt, sample.seed, picture_url(int(sample.id or 0)))
            found.setdefault((model, sample.prompt, sample.seed), base)
    return list(found.values())


def _drawn(session: Session, project_id: int) -> Iterator[tuple[str, Sample]]:
    """Model and picture: of runs that began with the base, and of pictures without an adapter."""
    of_runs = (
        select(Sample, Run, Job)
        .join(Run, col(Sample.run_id) == col(Run.id))
        .join(Job, col(Run.job_id) == col(Job.id))
        .where(Run.project_id == project_id, Sample.step == 0)
    )
    for sample, run, job in session.exec(of_runs.order_by(col(Sample.id).desc()).limit(AT_MOST)):
        if not job.params.get("start_from"):
            yield str(run.config["model"]["value"]), sample
    drawn = select(Sample, Job).join(Job, col(Sample.job_id) == col(Job.id)).where(Job.kind == Kind.SAMPLE)
    for sample, job in session.exec(drawn.order_by(col(Sample.id).desc()).limit(AT_MOST)):
        if not job.params.get("adapters") and "model" in job.params:
            yield str(job.params["model"]), sample
