"""A download as a job: files of a known model go to the hub's cache, and the job's row and events count the bytes.

A job with a file of ComfyUI downloads the model's small files only, and makes a model folder of both.

`Job.step` of `Job.steps`, and `done` of `of` in the phase events, are bytes. A stop ends the process at once: the bytes
on disk stay, and the next attempt continues after them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from app.actions import check_jobs, model_files, models
from app.jobs import store
from app.jobs.states import State
from app.worker.outcome import Outcome
from app.worker.work import Work
from core.errors import DownloadProblem
from core.hub import assembled, catalog
from core.hub.analysis_models import ANALYSIS_MODELS
from core.hub.registry import KNOWN, KnownModel

if TYPE_CHECKING:
    from core.hub.download import Progress

REPORT_SECONDS = 1.0  # at least, between two reports
REPORT_SHARE = 1e-3  # of all bytes, at least: a thousand events are enough for a progress bar of any length
SLOW_REPORT_SECONDS = 5.0  # on a slow connection, report a smaller share after this long


def download_model(work: Work) -> Outcome:
    """Fetch the model that the job names. Raises DownloadProblem, GatedProblem, DiskProblem."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when huggingface_hub is imported
    from core.hub import download

    name = str(work.job.params["model"])
    known = KNOWN.get(name) or ANALYSIS_MODELS.get(name)
    if known is None:
        raise DownloadProblem(f"This version of Likeness does not know where to find {name}.")
    if isinstance(known, KnownModel) and model_files.FILE in work.job.params:
        return _use_file(work, known)
    # A model that is here lacks its assistant alone.
    on_disk = name in KNOWN and catalog.models(models.folders(work.database))[name].on_disk
    work.log(f"Downloads {'the training assistant of ' if on_disk else ''}{known.title} from {known.page}.")
    done = follow(work, download.download(known, assistant_alone=on_disk))
    work.log("All files are here, and each has the hash that the hub states for it.")
    if name in ANALYSIS_MODELS:
        check_jobs.request_all(work.database, name)
        work.log("The photos of every project are looked at again with it.")
    return Outcome(State.SUCCEEDED, result={"bytes": done})


def _use_file(work: Work, known: KnownModel) -> Outcome:
    """Make a model folder of a file of ComfyUI. Raises NotFound, ModelProblem where it does not fit, and as above."""
    from core.hub import download
    from core.models.load import check_folder

    offer = model_files.offer_of(work.database, work.job.params[model_files.FILE])
    target, done = model_files.target_of(work.database, offer, known.name), 0
    if assembled.small_files(known) is None:
        work.log(f"Downloads the configs and tokenizers of {known.title} from {known.page}.")
        done = follow(work, download.download_small_files(known))
        work.interruptible = False  # a stop must not leave half a folder
    small = assembled.small_files(known)
    if small is None:
        raise DownloadProblem(f"{known.repo} lacks a config or a tokenizer.")
    assembled.assemble(known, offer, small, target, check_folder)
    work.log(f"Made {target} of {', '.join(str(file) for file in offer.parts.values())}.")
    return Outcome(State.SUCCEEDED, result={"bytes": done, "name": target.name})


def follow(work: Work, steps: Iterator[Progress]) -> int:
    """Download by the steps of `core.hub.download`, and report them; returns the bytes. Raises as they do."""
    from core.hub import download

    work.interruptible = True
    progress = download.Progress(0, 0, "")
    reported, reported_at = progress, 0.0
    for progress in steps:
        elapsed = time.monotonic() - reported_at
        visible = abs(progress.done - reported.done) >= REPORT_SHARE * progress.of
        due = progress.done != reported.done and elapsed >= (REPORT_SECONDS if visible else SLOW_REPORT_SECONDS)
        if due or progress.name != reported.name or progress.of != reported.of:
            _report(work, progress, advanced=progress.done > reported.done)
            reported, reported_at = progress, time.monotonic()
    _report(work, progress, advanced=True)
    return progress.of


def _report(work: Work, progress: Progress, *, advanced: bool) -> None:
    """Write one phase event and the job's row. A process that advanced resets the count of deaths."""
    payload = {"name": progress.name, "done": progress.done, "of": progress.of}
    columns = store.JobProgress(phase=progress.name, step=progress.done, steps=progress.of)
    if advanced:
        columns["deaths"] = 0
    with work.transaction(**columns) as session:
        store.append_event(session, work.claim, "phase", payload)
