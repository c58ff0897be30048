"""A review as a job: every photo of a project that is not analysed yet, then the set as a whole.

    photo   --core.vision-->  Analysis, by the hash of its file; another project has it already
    set     --reconcile--->   Subject of each photo: what recurs in a set is its subject
            --review, pick->  Review: verdict, findings, and the photos by worth

Runs on the CPU, in the io lane beside a training. A photo that comes meanwhile is taken too; `check_jobs.close` says when
no more are. A photo that cannot be read is left out with a sentence in the log.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlmodel import Session, col, select

from app.actions import check_jobs
from app.actions.masks import of_size, store_picture
from app.actions.photo_views import found_subjects
from app.jobs.states import State
from app.tables import Analysis, Event, Photo, Review, Subject
from app.worker.outcome import Outcome
from app.worker.work import Work
from core import files
from core.dataset import dates, photos
from core.dataset.crops import Box
from core.errors import DataProblem
from core.vision import pictures, results, review
from core.vision import subject as subjects
from core.vision.analysers import analyser

AGAIN = 1.5  # times as many photos as when a subject was found: it is found again, in the better company


@dataclass(frozen=True, slots=True)
class Shown:
    """A photo of the set with its analysis; None where it cannot be analysed."""

    row: Photo
    found: results.Analysis | None


def review_photos(work: Work) -> Outcome:
    """Review and judge until nothing is left to do. Raises Stopped, DiskProblem."""
    project_id = int(work.job.project_id or 0)
    looking = analyser()
    judged = 0
    while True:
        work.raise_if_stopped()
        _analyse_new(work, project_id, looking)
        with work.database.read() as session:
            state = check_jobs.set_state(session, project_id)
            shown = _set(session, project_id, looking.name)
        work.report_phase("judging the set", 0, 1)
        found = _subjects(work, shown)
        row = _judged(project_id, state, shown, found)
        judged = len(shown)
        if _store(work, row, found):
            return Outcome(State.SUCCEEDED, result={"photos": judged})
