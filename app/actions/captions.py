"""A job that captions many photos: from the template, or by a vision model on this computer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import col, select

from app import settings
from app.actions import captioner, projects
from app.actions.photo_views import newest_captions
from app.database import Database
from app.jobs import store
from app.jobs.states import Kind, Lane
from app.tables import Photo
from core.dataset import captions
from core.errors import ConfigProblem, DataProblem, FieldProblem, Problem
from core.hub.caption_model import MODEL

BACKENDS = ("template", "openai", captioner.BACKEND)  # "openai" is the interface of Ollama, LM Studio and others


def start(
    database: Database,
    project_id: int,
    backend: str = "template",
    *,
    template: str | None = None,
    url: str | None = None,
    model: str | None = None,
    prompt: str | None = None,
    overwrite: bool = False,
    preview: bool = False,
    photo_ids: Sequence[int] | None = None,
) -> int:
    """Caption the photos that have no caption (all with `overwrite`, or just `photo_ids`); returns the job's id.

    Photos that are set aside are left out. With `preview` nothing is written: the job's result has the captions, to be
    applied as an edit (`bulk_edits.py`).

    Arguments left out come from the settings. Raises NotFound, ConfigProblem, DataProblem when there is nothing to do,
    Conflict when the built-in captioner is not ready.
    """
    if backend == captioner.BACKEND:
        captioner.require(database)
    with database.write() as session:
        projects.find(session, project_id)
        params = _params(settings.values(session), backend, template, url, model, prompt)
        chosen = select(Photo.id, Photo.aside).where(Photo.project_id == project_id).order_by(col(Photo.id))
        photos = {int(number or 0): aside for number, aside in session.exec(chosen)}
        every = [number for number, aside in photos.items() if not aside]
        strangers = sorted(set(photo_ids or ()) - photos.keys())
        if strangers:
            raise DataProblem(f"Photo {strangers[0]} is not in this project.")
        wanted = [each for each in photo_ids if not photos[each]] if photo_ids is not None else every
        written = newest_captions(session, wanted)
        if not overwrite:
            wanted = [each for each in wanted if each not in written or not written[each].text]
        if not wanted:
            raise DataProblem(_nothing_to_do(photos, photo_ids))
        params |= {"photo_ids": wanted, "overwrite": overwrite, "preview": preview}
        lane = Lane.IO if backend == "template" else Kind.CAPTION.lane  # a template needs no model in memory
        job = store.enqueue(session, Kind.CAPTION, params, project_id=project_id, steps=len(wanted), lane=lane)
        return int(job.id or 0)


def _nothing_to_do(aside: Mapping[int, bool], photo_ids: Sequence[int] | None) -> str:
    """Why there is no photo to caption; `aside` says of each photo of the project whether it is set aside."""
    if not aside:
        return "There are no photos in this project yet."
    if all(aside[each] for each in (photo_ids or aside)):
        return "These photos are set aside; take them back to caption them."
    return "Every photo has a caption already; choose to overwrite them to write new ones."


def servers(database: Database) -> list[dict[str, Any]]:
    """The vision servers that answer on this computer: [{"url", "name", "models"}], the one of the settings first."""
    from core.captioners import openai  # imports an HTTP client: only on demand

    with database.read() as session:
        own = str(settings.value_of(session, "captioner_url"))
    return openai.find_servers(own)


def _params(
    values: dict[str, Any], backend: str, template: str | None, url: str | None, model: str | None, prompt: str | None
) -> dict[str, Any]:
    problems: list[FieldProblem] = []
    if backend not in BACKENDS:
        problems.append(FieldProblem("backend", f"is {backend!r}; it can be {' or '.join(BACKENDS)}"))
    params = {
        "backend": backend,
        "template": template or values["caption_template"],
        "url": url or values["captioner_url"],
        "model": model if model is not None else values["captioner_model"],
        "prompt": prompt or values["captioner_prompt"],
    }
    for field in ("template", "prompt"):
        try:
            captions.check(params[field])
        except Problem as problem:
            problems.append(FieldProblem(field, problem.message))
    if trouble := settings.loopback_trouble(params["url"]):
        problems.append(FieldProblem("url", trouble))
    if problems:
        raise ConfigProblem("The captions cannot be written like this.", problems)
    return params | ({"url": "", "model": MODEL.name} if backend == captioner.BACKEND else {})
