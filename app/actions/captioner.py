"""The built-in captioner: what of it is on this computer, installing it in a job, and removing it.

absent --install--> a download job: the environment, then the model --> ready: offered for captions
ready  --remove-->  absent; the model stays in the cache that other programs share
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from app.actions import jobs
from app.actions.jobs import JobView
from app.database import Database
from app.errors import Conflict
from app.jobs import lane_queue, store
from app.jobs.states import ENDED, Kind
from app.tables import Job
from core.captioners import environment as environments
from core.captioners import platforms
from core.captioners.environment import Environment
from core.errors import disk_errors_as_problem
from core.hub import cache as hub_cache
from core.hub.caption_model import MODEL

BACKEND = "built-in"  # the name by which a caption job asks for it

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionerView:
    """The built-in captioner on this computer."""

    ready: bool  # offered for captions
    why_not: str  # why it cannot run here, in a sentence; empty where it can
    program: str  # with its version
    installed: bool  # the program, in its environment
    removable: bool  # whether there is an environment, be it of an earlier version
    program_bytes: int  # of the environment: as it is, or about what it will be
    model: str  # its title
    model_here: bool
    model_bytes: int  # of its download, to about 1%
    model_bytes_here: int  # of an incomplete download
    memory: int  # bytes that it needs
    licence: str  # of the model
    commercial: str
    page: str  # of the model
    job: JobView | None  # the newest that installs it


def view(database: Database) -> CaptionerView:
    environment = Environment(database.home.captioner)
    why_not = platforms.why_not(platforms.this_machine(database.home.root), MODEL.memory_bytes)
    installed, here = environment.installed, MODEL.folder is not None
    with database.read() as session:
        newest = _newest(session)
        job = jobs.views(session, [newest])[0] if newest is not None else None
    return CaptionerView(
        ready=installed and here and not why_not,
        why_not=why_not,
        program=environments.PROGRAM,
        installed=installed,
        removable=environment.bytes > 0,
        program_bytes=environment.bytes or environments.BYTES,
        model=MODEL.title,
        model_here=here,
        model_bytes=MODEL.download_bytes,
        model_bytes_here=0 if here else hub_cache.bytes_here(MODEL.repo),
        memory=MODEL.memory_bytes,
        licence=MODEL.terms[0],
        commercial=MODEL.terms[1],
        page=MODEL.page,
        job=job,
    )


def require(database: Database) -> None:
    """Raises Conflict, which says why it cannot caption now."""
    found = view(database)
    if found.why_not:
        raise Conflict(found.why_not)
    if not found.ready:
        raise Conflict("The built-in captioner is not on this computer yet. Install it on the Models page.")


def install(database: Database) -> int:
    """Install what is missing of it in a job; returns the job's id. Raises Conflict when it cannot run, or is here."""
    found = view(database)
    if found.why_not:
        raise Conflict(found.why_not)
    if found.ready:
        raise Conflict("The built-in captioner is on this computer already.")
    with database.write() as session:
        newest = _newest(session)
        if newest is not None and newest.state not in ENDED:
            return int(newest.id or 0)
        return int(store.enqueue(session, Kind.DOWNLOAD, {"model": MODEL.name}).id or 0)


def remove(database: Database) -> int:
    """Delete its environment; returns the bytes freed. Raises Conflict while a job uses it or makes it, DiskProblem."""
    place, home = database.home.captioner, database.home
    discarded = home.trash / f"{datetime.now():%Y%m%d-%H%M%S-%f} captioner"
    with database.write() as session:  # no job is claimed meanwhile
        if any(_uses(job) for job in lane_queue.running(session)):
            raise Conflict("A job is using the built-in captioner. Stop it first, on the Queue page.")
        with disk_errors_as_problem(place), suppress(FileNotFoundError):
            os.replace(place, discarded)
    return Environment(discarded).remove()  # thousands of files: not while others wait to write


def remove_half_made(database: Database) -> None:
    """Delete what an installation left that was killed; not while one goes on, which cleans up by itself."""
    environment = Environment(database.home.captioner)
    if not environment.half_made:
        return
    with database.read() as session:
        if any(_uses(job) for job in lane_queue.running(session)):
            return
    log.warning("removed %d bytes of a captioner that was not installed completely", environment.remove())


def _uses(job: Job) -> bool:
    return job.params.get("model") == MODEL.name or job.params.get("backend") == BACKEND


def _newest(session: Session) -> Job | None:
    rows = session.exec(select(Job).where(Job.kind == Kind.DOWNLOAD).order_by(col(Job.id).desc()))
    return next((row for row in rows if row.params.get("model") == MODEL.name), None)
