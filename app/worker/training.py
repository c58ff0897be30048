"""A training run as a job. What the trainer yields is reported (`reporter.py`); what the user requests is sent to it.

The life of a stop request:

    POST /api/runs/{id}/stop    store.stop sets Job.stop = "stop"; the row stays RUNNING. A queued run has no process:
                                it is STOPPED, or CANCELLED if it never ran, and nothing below happens
    the heartbeat thread        reads it into Work.requests, every 0.5 s (work.py)
    _take_requests              sees it after the current step, and Request.STOP is sent to the trainer. A stop while
                                the model loads waits for the trainer's first progress; no step is taken then
    core/training/trainer.py    saves a checkpoint, yields Saved and then Finished(stopped=True)
    Reporter                    writes the rows and the event of the checkpoint
    _outcome                    STOPPED; __main__.py writes it as the last act of the process
    if the process dies         store.record_death: STOPPED. A checkpoint without a row gets it when the run resumes
                                (Reporter._adopt_checkpoints)

When the server shuts down, Work.shutdown takes the place of Job.stop, and the run is released: QUEUED, or STOPPED when
automatic resume is off. A stop with "now" never gets here: the heartbeat thread ends the process.
"""

from __future__ import annotations

import platform
from collections.abc import Generator, Sequence
from contextlib import closing

from sqlmodel import select

from app import __version__
from app.actions import models
from app.jobs.states import State
from app.resources import JOIN, ROOT
from app.settings import hosts_of, value_of
from app.tables import Project, Run, Version
from app.worker.examples import completed, example_of
from app.worker.outcome import Outcome
from app.worker.reporter import Reporter
from app.worker.work import Work
from core.config.resolve import Resolved
from core.dataset import class_folder
from core.device import backend
from core.device.units import memory_size
from core.distributed.launch import launched
from core.errors import DataProblem
from core.hub import catalog
from core.models.load import load_family
from core.training.events import Finished, Progress, Request
from core.training.trainer import train


def train_run(work: Work) -> Outcome:
    """Train from the last checkpoint, or from the start, to the last step or until the user or the server stops it.

    Raises every Problem that training raises.
    """
    with work.database.read() as session:
        run = session.exec(select(Run).where(Run.job_id == work.claim.job_id)).one()
        project = session.get_one(Project, run.project_id)
        version = session.get_one(Version, run.version_id)
        hosts_file = value_of(session, "hosts_file")
    config = Resolved.from_json(run.config).config
    work.report_phase("loading the model", 0, 1)
    family = load_family(catalog.find(config.model, models.folders(work.database)).path, quantize=config.base_bits)
    _record_origin(work, run, dict(family.hashes))
    items = completed(work, version)
    examples = [example_of(work.home, item, config, family.pixel_multiple) for item in items]
    start = work.job.params.get("start_from")
    if config.class_folder:
        _check_class_pictures(config.class_folder, work.job.params.get("class_pictures", ()))
    photos = "1 photo" if len(examples) == 1 else f"{len(examples)} photos"
    work.log(f"{config.steps} steps on {photos} with {config.model}, rank {config.rank}, {config.side_px} px.")
    if config.machines > 1:
        work.report_phase("starting the other machines", 0, 1)
    hosts = hosts_of(hosts_file) if config.machines > 1 else None
    with launched(hosts, config.machines, JOIN, ROOT) as group:
        if config.machines > 1:
            work.log(f"Each step is shared by {group.size} of {config.machines} machines.")
        training = train(
            family,
            examples,
            config,
            work.home.run(int(run.id or 0)),
            trigger=project.trigger,
            class_word=project.class_word,
            cache=work.home.cache,
            resume=True,
            start_from=work.home.file(start["file"]) if start else None,
            title=project.name,
            group=group,
            dinov2=models.dinov2_folder(work.database),
        )
        reporter = Reporter(work, run, project, config.model, [item["photo_id"] for item in items])
        return _follow(work, training, reporter)


def _check_class_pictures(folder: str, pinned: Sequence[str]) -> None:
    """Raise DataProblem if the user's own class pictures are not those that the run was created with."""
    if sentence := class_folder.changed(pinned, class_folder.read(folder, "")):
        raise DataProblem(sentence)


def _follow(work: Work, training: Generator[Progress, Request | None, None], reporter: Reporter) -> Outcome:
    """Report what the trainer yields, and send it the user's requests, until the run is finished."""
    with closing(training):
        progress = next(training)
        while not isinstance(progress, Finished):
            reporter.report(progress)
            progress = training.send(_take_requests(work))
        work.log(_summary(progress))
        return _outcome(work, progress)


def _take_requests(work: Work) -> Request:
    """Combine stop, save and sample into one request. Clears save and sample in the row."""
    request = Request.NONE
    if work.requests.save or work.requests.sample:
        pending = work.take_requests()  # may hold a later request, also a stop, than the last heartbeat
        request |= Request.SAVE if pending.save else Request.NONE
        request |= Request.SAMPLE if pending.sample else Request.NONE
    if work.should_stop:
        request |= Request.STOP
    return request


def _outcome(work: Work, finished: Finished) -> Outcome:
    result = {
        "steps": finished.step,
        "final_loss": finished.final_loss,
        "held_out_loss": finished.held_out_loss,
        "seconds": finished.seconds,
        "peak_memory_bytes": finished.peak_memory_bytes,
    }
    return Outcome(work.state_after_stop if finished.stopped else State.SUCCEEDED, result=result)


def _summary(finished: Finished) -> str:
    loss = "" if finished.final_loss is None else f", mean loss of the last steps {finished.final_loss:.4f}"
    peak = memory_size(finished.peak_memory_bytes)
    done = "Stopped" if finished.stopped else "Done"
    return f"{done} at step {finished.step} after {finished.seconds:.0f} s{loss}, at most {peak} of memory."


def _record_origin(work: Work, run: Run, hashes: dict[str, str]) -> None:
    """Store the versions, the device and the hashes of the base in the run's row, so that it can be reproduced."""
    device = {name: str(value) for name, value in backend.describe().items()}
    with work.transaction() as session:
        row = session.get_one(Run, run.id)
        row.hashes = hashes
        row.versions = {"likeness": __version__, "python": platform.python_version(), **device}
        session.add(row)
