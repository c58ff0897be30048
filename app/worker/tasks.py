"""From a job's kind to the function that does it. Each is imported when it runs: a template caption needs no MLX."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sqlmodel import select

from app.actions import averages
from app.database import Database
from app.jobs import store
from app.jobs.states import Kind
from app.jobs.store import Claim
from app.tables import Run
from app.worker.device import on_the_device
from app.worker.outcome import Outcome
from app.worker.work import Work
from core.device import backend
from core.device.gpu_lock import EXCLUSIVE
from core.device.identity import this_machine
from core.errors import Problem
from core.hub import caption_model


def train(work: Work) -> Outcome:
    with on_the_device(work, trains=True):  # before MLX is imported for the first time
        from app.worker.training import train_run

        return train_run(work)


def sample(work: Work) -> Outcome:
    with on_the_device(work, trains=False):
        if "grid" in work.job.params:
            from app.worker.sheets import draw_grid

            return draw_grid(work)
        from app.worker.drawing import draw_pictures

        return draw_pictures(work)


def _average(work: Work) -> Outcome:
    if this_machine().device in EXCLUSIVE:
        os.environ["LIKENESS_DEVICE"] = "cpu"
    backend.prepare()
    from app.worker.averaging import average_checkpoints

    return average_checkpoints(work)


def export(work: Work) -> Outcome:
    if averages.KEY in work.job.params:
        return _average(work)
    if this_machine().device in EXCLUSIVE:
        os.environ["LIKENESS_DEVICE"] = "cpu"  # exports run beside a training, which has the GPU
    backend.prepare()
    if work.job.params.get("format") == "send":
        from app.worker.sending import send_adapter

        return send_adapter(work)
    from app.worker.exporting import export_adapter

    return export_adapter(work)


def download(work: Work) -> Outcome:
    if work.job.params.get("model") == caption_model.MODEL.name:
        from app.worker.installing import install_captioner

        return install_captioner(work)
    from app.worker.downloading import download_model

    return download_model(work)


def caption(work: Work) -> Outcome:
    from app.worker.captioning import write_captions

    return write_captions(work)


def check(work: Work) -> Outcome:
    os.environ["LIKENESS_DEVICE"] = "cpu"  # the GPU belongs to the training beside it, should MLX be needed
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # and so do the other cores; its arrays are small
    from app.worker.checking import review_photos

    return review_photos(work)


def _unknown(work: Work) -> Outcome:
    raise Problem(f"This version of Likeness has no jobs of the kind {work.claim.kind}.")


TASKS: dict[Kind, Callable[[Work], Outcome]] = {
    **dict.fromkeys(Kind, _unknown),
    Kind.TRAIN: train,
    Kind.SAMPLE: sample,
    Kind.CAPTION: caption,
    Kind.EXPORT: export,
    Kind.DOWNLOAD: download,
    Kind.CHECK: check,
}


def log_file(database: Database, claim: Claim) -> Path:
    """Where the job's process writes: log.txt in the run's folder, else a file in the logs folder.

    Reviews are many and short: those of a project share a file.
    """
    with database.read() as session:
        run = session.exec(select(Run).where(Run.job_id == claim.job_id)).one_or_none()
        project_id = store.get(session, claim.job_id).project_id
    if claim.kind is Kind.CHECK:
        return database.home.logs / f"review-{project_id}.txt"
    return database.home.run(int(run.id or 0)) / "log.txt" if run else database.home.logs / f"job-{claim.job_id}.txt"
