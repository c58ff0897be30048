"""Captions as a job: one for each photo, by a template or by a vision model on this computer.

A photo whose answer fails or is empty is left out, with a sentence in the log, and the job goes on. The job fails when
not one caption could be written, and at once when nobody answers at the server's address. The captions of a job are one
step, which can be undone. With `preview` they are events and the job's result, and nothing is written. The built-in
captioner is a server of the job's own, which ends with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlmodel import col, select

from app.actions import edits, masks
from app.actions.captioner import BACKEND as BUILT_IN
from app.actions.photo_changes import write_caption
from app.actions.photo_views import newest_captions
from app.jobs import store
from app.jobs.states import State
from app.tables import Event, Photo, Project
from app.wording import plural
from app.worker.outcome import Outcome
from app.worker.work import Work, write_log
from core.captioners import built_in
from core.captioners.base import Captioner, Unreachable
from core.captioners.environment import Environment
from core.captioners.openai import OpenAICaptioner
from core.captioners.template import TemplateCaptioner
from core.dataset import captions
from core.errors import CaptionerProblem, DataProblem, FieldProblem
from core.hub.caption_model import MODEL

FAILURES_AT_FIRST = 5  # failed answers without one caption, after which the other photos are not tried


def write_captions(work: Work) -> Outcome:
    """Caption the photos that the job names, in order; a caption that is written stays when the job ends early.

    Raises DataProblem; CaptionerProblem when the server is gone, or no caption could be written.
    """
    params = work.job.params
    with work.database.read() as session:
        project = session.get(Project, work.job.project_id)
        rows = [session.get(Photo, photo_id) for photo_id in params["photo_ids"]]
    if project is None:
        raise DataProblem("The project is gone.")
    with _captioner(work, project) as captioner:
        return _write(work, captioner, [row for row in rows if row is not None])


def _write(work: Work, captioner: Captioner, remaining: Sequence[Photo]) -> Outcome:
    params = work.job.params
    work.log(f"Captions by {captioner.origin} for {len(remaining)} photos.")
    first = work.job.step  # an earlier attempt dealt with those before
    written = _written_by(captioner.origin, work, remaining[:first]) if not params.get("preview") else first
    left_out: list[FieldProblem] = []
    for done, row in list(enumerate(remaining))[first:]:
        if work.should_stop:
            return Outcome(work.state_after_stop, result=_result(work, written, left_out))
        work.report_phase("writing captions", done, len(remaining))
        try:
            text = captioner.caption(work.home.photo(row.sha256, row.extension), _mask_of(work, row))
        except Unreachable:
            raise
        except (CaptionerProblem, DataProblem) as problem:
            left_out.append(FieldProblem(row.name, problem.message))
            _leave_out(work, left_out[-1], done=done + 1)
            if not written and len(left_out) == FAILURES_AT_FIRST:
                break
        else:
            written += 1
            if params.get("preview"):
                _propose(work, int(row.id or 0), text, captioner.origin, done=done + 1)
            else:
                _store_caption(work, row, text, captioner.origin, params["overwrite"], done=done + 1, written=written)
    if left_out and not written:
        raise CaptionerProblem(_no_caption(left_out, len(remaining)), left_out)
    work.report_phase("writing captions", len(remaining), len(remaining))
    return Outcome(State.SUCCEEDED, result=_result(work, written, left_out))


def _store_caption(
    work: Work, photo: Photo, text: str, origin: str, overwrite: bool, *, done: int, written: int
) -> None:
    """Write the row, unless the photo was deleted or the user typed a caption meanwhile."""
    photo_id = int(photo.id or 0)
    with work.transaction(step=done) as session:
        if session.get(Photo, photo_id) is None:
            return
        newest = newest_captions(session, [photo_id]).get(photo_id)
        if overwrite or newest is None or not newest.text:
            words = (
                f"captions of {plural(written, 'photo')} by {origin}" if written > 1 else f"the caption of {photo.name}"
            )
            with edits.step(session, photo.project_id, words, [photo_id], key=f"job {work.claim.job_id}"):
                write_caption(session, photo_id, text, origin)


def _propose(work: Work, photo_id: int, text: str, origin: str, *, done: int) -> None:
    """Append the caption as an event, for the page to show and the result to hold."""
    with work.transaction(step=done) as session:
        store.append_event(session, work.claim, "caption", {"photo": photo_id, "text": text, "origin": origin})


def _mask_of(work: Work, photo: Photo) -> Path | None:
    """The user's own mask: what it ignores, a captioner does not see. A proposed one ignores nothing."""
    with work.database.read() as session:
        row = session.get(Photo, photo.id)
    return masks.of_size(work.home, row.mask, (row.width, row.height)) if row is not None and row.mask else None


def _leave_out(work: Work, problem: FieldProblem, *, done: int) -> None:
    with work.transaction(step=done):
        pass
    work.log(f"{problem.field} was left out. {problem.message}", "warning")


def _written_by(origin: str, work: Work, rows: Sequence[Photo]) -> int:
    """How many of the photos have a caption by this captioner."""
    with work.database.read() as session:
        newest = newest_captions(session, [int(row.id or 0) for row in rows])
    return sum(caption.origin == origin for caption in newest.values())


def _no_caption(left_out: Sequence[FieldProblem], of: int) -> str:
    first = left_out[0]
    if of == 1:
        return f"No caption could be written for {first.field}. {first.message}"
    tried = f"{of}" if len(left_out) == of else f"first {len(left_out)}"
    return f"No caption could be written for any of the {tried} photos. {first.field}: {first.message}"


def _result(work: Work, written: int, left_out: Sequence[FieldProblem]) -> dict[str, Any]:
    """With the proposed captions of a preview, those of earlier attempts too."""
    with work.database.read() as session:
        chosen = select(Event).where(Event.job_id == work.claim.job_id, Event.kind == "caption").order_by(col(Event.id))
        proposed = {event.payload["photo"]: event.payload["text"] for event in session.exec(chosen)}
    captions = [{"photo": photo_id, "text": text} for photo_id, text in proposed.items()]
    return {"written": written, "left_out": [asdict(each) for each in left_out], "captions": captions}


@contextmanager
def _captioner(work: Work, project: Project) -> Iterator[Captioner]:
    """The captioner that the job names. Raises CaptionerProblem, Stopped while the built-in one starts."""
    params = work.job.params
    if params["backend"] == "template":
        yield TemplateCaptioner(params["template"], project.trigger, project.class_word)
        return
    prompt = captions.fill(params["prompt"], project.trigger, project.class_word)
    if params["backend"] != BUILT_IN:
        with OpenAICaptioner(params["url"], params["model"], prompt) as captioner:
            yield captioner
        return
    folder = MODEL.folder
    if folder is None:
        raise CaptionerProblem(f"{MODEL.title} is not on this computer. Install the captioner on the Models page.")
    work.report_phase("loading the captioner", 0, 0)
    environment = Environment(work.home.captioner)
    check, log = work.raise_if_stopped, write_log
    with built_in.started(environment, folder, MODEL.title, prompt, check=check, log=log) as own:
        yield own
