"""Captions as a job: one for each photo, by a template or by a vision model on this computer."""

from __future__ import annotations

from typing import Any

from app.actions import photos
from app.jobs.states import State
from app.tables import Photo, Project
from app.worker.outcome import Outcome
from app.worker.work import Work
from core.captioners.base import Captioner
from core.captioners.openai import OpenAICaptioner
from core.captioners.template import TemplateCaptioner
from core.dataset import captions
from core.errors import DataProblem


def write_captions(work: Work) -> Outcome:
    """Caption the photos that the job names, in order; a caption that is written stays when the job ends early.

    Raises DataProblem, and the problems of the captioner.
    """
    params = work.job.params
    with work.database.read() as session:
        project = session.get(Project, work.job.project_id)
        rows = [session.get(Photo, photo_id) for photo_id in params["photo_ids"]]
    if project is None:
        raise DataProblem("The project is gone.")
    remaining = [row for row in rows if row is not None]
    captioner = _captioner(params, project)
    work.log(f"Captions by {captioner.origin} for {len(remaining)} photos.")
    for done, row in list(enumerate(remaining))[work.job.step :]:  # an earlier attempt wrote those before
        if work.should_stop:
            return Outcome(work.stop_state, result={"written": done})
        work.report_phase("writing captions", done, len(remaining))
        text = captioner.caption(work.home.photo(row.sha256, row.extension))
        _store_caption(work, int(row.id or 0), text, captioner.origin, overwrite=params["overwrite"], done=done + 1)
    work.report_phase("writing captions", len(remaining), len(remaining))
    return Outcome(State.SUCCEEDED, result={"written": len(remaining)})


def _store_caption(work: Work, photo_id: int, text: str, origin: str, *, overwrite: bool, done: int) -> None:
    """Write the row, unless the photo was deleted or the user typed a caption meanwhile."""
    with work.transaction(step=done) as session:
        if session.get(Photo, photo_id) is None:
            return
        newest = photos.newest_captions(session, [photo_id]).get(photo_id)
        if overwrite or newest is None or not newest.text:
            photos.write_caption(session, photo_id, text, origin)


def _captioner(params: dict[str, Any], project: Project) -> Captioner:
    if params["backend"] == "template":
        return TemplateCaptioner(params["template"], project.trigger, project.class_word)
    prompt = captions.fill(params["prompt"], project.trigger, project.class_word)
    return OpenAICaptioner(params["url"], params["model"], prompt)
