"""Sending a run's adapter to another program: what will be written where, and the job that writes it.

    plan   says what `send` would write, and changes nothing
    send   writes it, in a job (app/worker/sending.py): into a folder that the user names, or as one zip to download

A program gets the adapter in the form that it reads (core/adapters/programs.py), a preview, a text with the three lines
that use it, and what is its own: a workflow for ComfyUI, a card for Forge. `share` is one zip with all of that. The
folder is remembered for the program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from app import settings
from app.actions import exports, models, projects, runs, send_places
from app.actions.run_views import picture_url
from app.actions.send_job import SHARE, Sending
from app.database import Database
from app.errors import NotFound
from app.jobs import store
from app.jobs.states import Kind
from app.tables import Project, Run, Sample, Setting
from core.adapters import programs
from core.adapters.key_maps import TITLES
from core.adapters.programs import PROGRAMS, AdapterUse
from core.errors import ConfigProblem, FieldProblem, ModelProblem
from core.hub import catalog
from core.hub.catalog import Entry
from core.hub.registry import KNOWN, KnownModel
from core.safetensors_file import read_json


@dataclass(frozen=True, slots=True)
class ReadingProgram:
    """A program that reads the adapters of a run."""

    name: str
    title: str
    folder: str  # that the user named for it; empty for none
    folder_hint: str  # what to name, with an example


@dataclass(frozen=True, slots=True)
class Offer:
    """Where a run's adapters can be sent."""

    programs: tuple[ReadingProgram, ...]
    unread: str  # which programs do not read them, in a sentence; empty when all do


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file that will be written."""

    path: str  # in a zip, its name
    what: str
    there: bool  # a file of that name is there: unless it has the same bytes, the new one gets another name


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be written, and how it is used."""

    program: str
    title: str
    step: int
    trigger: str
    folder: str  # of the adapter; empty for a zip
    name: str  # of the zip; empty for a folder
    files: tuple[PlannedFile, ...]
    form: str  # of the adapter's file, in words
    why: str  # where that is known from
    lines: tuple[str, ...]  # the three lines that use it; of a zip to share, none
    code: bool  # whether they are code
    preview_url: str  # empty without a preview


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be written, or every problem for which it would be refused."""

    plan: Plan | None
    problems: tuple[FieldProblem, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for, as typed."""

    program: str
    step: int | None = None
    strength: float = 1.0
    folder: str = ""


def offer(database: Database, run_id: int) -> Offer:
    """The programs that read a run's adapters: none where its model is no longer known. Raises NotFound."""
    with database.read() as session:
        model = _model_of(runs.find(session, run_id))
        known = settings.values(session)
    try:
        family, published = _kind(database, model)
    except (NotFound, ModelProblem) as problem:
        return Offer((), problem.message)
    reading = [each for each in PROGRAMS.values() if each.form_for(family, published=published)]
    return Offer(
        programs=tuple(
            ReadingProgram(each.name, each.title, settings.send_folder(known, each.name), each.folder)
            for each in reading
        ),
        unread=programs.unread(family, published=published),
    )


def plan(database: Database, run_id: int, request: Request) -> Planned:
    """What `send` would write; changes nothing. Raises NotFound, Conflict before the first checkpoint."""
    try:
        return Planned(_plan(database, _checked(database, run_id, request)), ())
    except ConfigProblem as problem:
        return Planned(None, tuple(problem.problems))


def _plan(database: Database, sending: Sending) -> Plan:
    place, program = sending.place, PROGRAMS.get(sending.program)
    files = []
    for part in sending.parts:
        path = place.path(part, sending.stem) if place else None
        name = str(path) if path else send_places.name_in_zip(part, sending.stem)
        files.append(PlannedFile(name, send_places.WHAT[part], path is not None and path.exists()))
    preview = _preview(database, sending.run, sending.step) if sending.preview else None
    return Plan(
        program=sending.program,
        title=program.title if program else "one zip to share",
        step=sending.step,
        trigger=sending.trigger,
        folder=str(place.adapters) if place else "",
        name="" if place else f"{sending.stem}.zip",
        files=tuple(files),
        form=" and ".join(programs.FORMS[form] for form in sending.forms.values()),
        why=program.known_from if program else "",
        lines=program.lines(sending.use) if program else (),
        code=program is not None and program.code,
        preview_url=picture_url(int(preview.id or 0)) if preview else "",
    )


def send(database: Database, run_id: int, request: Request) -> int:
    """Write the files in a job, and remember the folder; returns the job's id.

    Raises NotFound, Conflict before the first checkpoint, ConfigProblem that names every wrong field.
    """
    sending = _checked(database, run_id, request)
    with database.write() as session:
        if sending.folder:
            session.merge(Setting(key=settings.send_key(sending.program), value=sending.folder))
        project_id = runs.find(session, run_id).project_id
        return int(store.enqueue(session, Kind.EXPORT, sending.as_json(), project_id=project_id).id or 0)


def _checked(database: Database, run_id: int, request: Request) -> Sending:
    adapter = runs.adapter_file(database, run_id, request.step)
    step = int(adapter.name.removesuffix(".safetensors").rpartition("-")[2])
    with database.read() as session:
        run = runs.find(session, run_id)
        project = projects.find(session, run.project_id)
        model = _model_of(run)
        prompt = _prompt(session, run, project, step)
    family, published = _kind(database, model)
    folder = request.folder.strip()
    problems = _problems(database, request, family, published)
    if folder and request.program in PROGRAMS:
        size = adapter.path.stat().st_size
        words = send_places.trouble_of(settings.path_of(folder), request.program, database.home, size)
        problems += [FieldProblem("folder", words)] if words else []
    if problems:
        raise ConfigProblem("The adapter cannot be sent like this.", problems)
    preview, stem = _preview(database, run_id, step), adapter.name.removesuffix(".safetensors")
    sending = Sending(
        program=request.program,
        run=run_id,
        step=step,
        file=database.home.relative(adapter.path),
        preview=preview.file if preview is not None and database.home.file(preview.file).is_file() else "",
        stem=stem,
        folder=folder if request.program != SHARE else "",
        published=published,
        title=f"{project.name}, {run.name}, step {step}",
        trigger=project.trigger,
        licence=_licence(database, model),
        use=_use(database, model, f"{stem}.safetensors", prompt, f"{project.trigger} {project.class_word}", request),
    )
    return sending.named(stem)


def _problems(database: Database, request: Request, family: str, published: bool) -> list[FieldProblem]:
    problems = []
    program = PROGRAMS.get(request.program)
    if program is None and request.program != SHARE:
        problems.append(FieldProblem("program", f"is {request.program!r}; it can be {', '.join([*PROGRAMS, SHARE])}"))
    elif program is not None and not program.form_for(family, published=published):
        title = TITLES.get(family, family)
        words = f"is {program.title}, which reads no adapters of {title if published else 'a model of this size'}"
        problems.append(FieldProblem("program", words))
    limit = exports.STRENGTH_AT_MOST
    if not math.isfinite(request.strength) or not 0 < abs(request.strength) <= limit:
        problems.append(FieldProblem("strength", f"is {request.strength:g}; it can be -{limit} to {limit}, and not 0"))
    return problems


def _use(database: Database, model: str, file: str, prompt: str, trigger: str, request: Request) -> AdapterUse:
    """How the adapter is drawn with: on the model that its own one draws best with."""
    entry = models.find(database, model)
    drawn_with = KNOWN.get(entry.draws_with)
    like = drawn_with or _published_like(entry)
    drawing = drawn_with.drawing if drawn_with else entry.drawing
    own = "" if drawn_with else model
    return AdapterUse(
        family=str(entry.family),
        model=like.name if like else "",
        model_title=drawn_with.title if drawn_with else entry.title,
        own_folder=own,
        source=drawn_with.repo if drawn_with else _source(entry, private=bool(request.folder)),
        pipeline=drawn_with.pipeline if drawn_with else entry.pipeline,
        trigger=trigger,
        prompt=prompt,
        strength=request.strength,
        steps=int(drawing["steps"]),
        guidance=float(drawing["guidance"]),
        side_px=int(drawing["side_px"]),
        file=file,
    )


def _source(entry: Entry, *, private: bool) -> str:
    """Where a model of the user's own is: its folder, or in files that may be given away, a path without the user's."""
    return str(entry.folder) if private and entry.folder else f"path/to/{Path(entry.name).name}"


def _kind(database: Database, model: str) -> tuple[str, bool]:
    """The family of a model, and whether it has the sizes of a published one. Raises NotFound, ModelProblem."""
    entry = models.find(database, model)
    if entry.family is None:
        raise ModelProblem(entry.trouble)
    return entry.family, entry.known is not None or _published_like(entry) is not None


def _published_like(entry: Entry) -> KnownModel | None:
    """The known model whose sizes a model of the user's own has."""
    if entry.folder is None:
        return None
    try:
        config = read_json(entry.folder / "transformer" / "config.json")
    except ModelProblem:
        return None
    like = catalog.similar_known_model(entry.folder)
    rows = [like] if like else []
    rows += [row for row in KNOWN.values() if catalog.PIPELINES.get(row.pipeline) == entry.family]
    for row in rows:
        sizes = row.shapes.transformer
        if all(config.get(name, value) == value for name, value in sizes.items()):
            return row
    return None


def _licence(database: Database, model: str) -> tuple[str, str]:
    entry = models.find(database, model)
    return (f"{entry.title}: {entry.licence}", entry.commercial)


def _model_of(run: Run) -> str:
    return str(run.config["model"]["value"])


def _preview(database: Database, run_id: int, step: int) -> Sample | None:
    """The first prompt's newest sample with the adapter, at or before a step."""
    with database.read() as session:
        return session.exec(_samples(run_id, step)).first()


def _samples(run_id: int, step: int) -> SelectOfScalar[Sample]:
    return (
        select(Sample)
        .where(Sample.run_id == run_id, col(Sample.step) > 0, col(Sample.step) <= step)
        .order_by(col(Sample.step).desc(), col(Sample.prompt_id))
        .limit(1)
    )


def _prompt(session: Session, run: Run, project: Project, step: int) -> str:
    """The prompt of the preview, else the run's first, else a plain one."""
    drawn = session.exec(_samples(int(run.id or 0), step)).first()
    if drawn is not None:
        return str(drawn.prompt)
    written = run.config.get("sample_prompts", {}).get("value") or ["a photo of {trigger} {class_word}"]
    return str(written[0]).replace("{trigger}", project.trigger).replace("{class_word}", project.class_word)
