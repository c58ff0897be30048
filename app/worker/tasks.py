"""From a job's kind to the work itself. What computes is imported where it is used: a template needs no MLX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlmodel import select

from app.actions import photos
from app.actions.photo_views import newest_captions
from app.database import Database
from app.jobs.states import Kind, State
from app.jobs.store import Claim
from app.tables import Photo, Project, Run
from app.worker.outcome import Outcome
from app.worker.work import Work
from core.captioners.base import Captioner
from core.captioners.template import TemplateCaptioner
from core.dataset import captions
from core.errors import DataProblem, Problem


def train(work: Work) -> Outcome:
    from app.worker.training import train_run

    return train_run(work)


def sample(work: Work) -> Outcome:
    from app.worker.drawing import draw_pictures

    return draw_pictures(work)


def export(work: Work) -> Outcome:
    from app.worker.exporting import export_adapter

    return export_adapter(work)


def download(work: Work) -> Outcome:
    from app.worker.downloading import download_model

    return download_model(work)


def caption(work: Work) -> Outcome:
    """Write a caption for each photo; those already written stay when the job ends early."""
    params, home = work.job.params, work.home
    with work.database.read() as session:
        project = session.get(Project, work.job.project_id)
        rows = [session.get(Photo, photo_id) for photo_id in params["photo_ids"]]
    if project is None:
        raise DataProblem("The project is gone.")
    todo = [row for row in rows if row is not None]
    captioner = _captioner(params, project)
    work.log(f"Captions by {captioner.origin} for {len(todo)} photos.")
    for done, row in list(enumerate(todo))[work.job.step :]:  # those before were written by an earlier attempt
        if work.should_stop:
            return Outcome(State.QUEUED if work.leaving.asked else State.STOPPED, result={"written": done})
        work.phase("writing captions", done, len(todo))
        text = captioner.caption(home.photo(row.sha256, row.extension))
        with work.telling(step=done + 1) as session:
            photo_id = int(row.id or 0)
            if session.get(Photo, photo_id) is None:
                continue  # deleted meanwhile
            newest = newest_captions(session, [photo_id]).get(photo_id)
            if params["overwrite"] or newest is None or not newest.text:  # what the user typed meanwhile stays
                photos.write_caption(session, photo_id, text, captioner.origin)
    work.phase("writing captions", len(todo), len(todo))
    return Outcome(State.SUCCEEDED, result={"written": len(todo)})


def log_file(database: Database, claim: Claim) -> Path:
    """Where a job's own words go: a run's folder, else the logs folder."""
    with database.read() as session:
        run = session.exec(select(Run).where(Run.job_id == claim.job_id)).one_or_none()
    return database.home.run(int(run.id or 0)) / "log.txt" if run else database.home.logs / f"job-{claim.job_id}.txt"


def _captioner(params: dict[str, str], project: Project) -> Captioner:
    if params["backend"] == "template":
        return TemplateCaptioner(params["template"], project.trigger, project.class_word)
    from core.captioners.openai import OpenAICaptioner

    prompt = captions.fill(params["prompt"], project.trigger, project.class_word)
    return OpenAICaptioner(params["url"], params["model"], prompt)


def _not_yet(work: Work) -> Outcome:
    raise Problem(f"This version of Likeness has no jobs of the kind {work.claim.kind}.")


TASKS: dict[Kind, Callable[[Work], Outcome]] = {
    **dict.fromkeys(Kind, _not_yet),
    Kind.TRAIN: train,
    Kind.SAMPLE: sample,
    Kind.CAPTION: caption,
    Kind.EXPORT: export,
    Kind.DOWNLOAD: download,
}
