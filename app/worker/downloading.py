"""A download as a job: files of a known model go to the hub's cache, and the job's row and events count the bytes.

`Job.step` of `Job.steps`, and `done` of `of` in the phase events, are bytes. A stop ends the process at once: the bytes
on disk stay, and the next attempt continues after them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from app.actions import models
from app.jobs import store
from app.jobs.states import State
from app.worker.outcome import Outcome
from app.worker.work import Work
from core.errors import DownloadProblem
from core.hub import catalog
from core.hub.registry import KNOWN

if TYPE_CHECKING:
    from core.hub.download import Progress

REPORT_SECONDS = 1.0  # at least, between two reports
REPORT_SHARE = 1e-3  # of all bytes, at least: a thousand events are enough for a progress bar of any length
SLOW_REPORT_SECONDS = 5.0  # on a slow connection, report a smaller share after this long


def download_model(work: Work) -> Outcome:
    """Fetch the model that the job names. Raises DownloadProblem, GatedProblem, DiskProblem."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when huggingface_hub is imported
    from core.hub import download

    known = KNOWN.get(work.job.params["model"])
    if known is None:
        raise DownloadProblem(f"This version of Likeness does not know where to find {work.job.params['model']}.")
    on_disk = catalog.models(models.folders(work.database))[known.name].on_disk  # only its assistant is missing then
    work.log(f"Downloads {'the training assistant of ' if on_disk else ''}{known.title} from {known.page}.")
    return follow(work, download.download(known, assistant_alone=on_disk))


def follow(work: Work, steps: Iterator[Progress]) -> Outcome:
    """Download by the steps of `core.hub.download`, and report them. Raises as they do."""
    from core.hub import download

    work.interruptible = True
    progress = reported = download.Progress(0, 0, "")
    reported_at = 0.0
    for progress in steps:
        elapsed = time.monotonic() - reported_at
        visible = abs(progress.done - reported.done) >= REPORT_SHARE * progress.of
        due = progress.done != reported.done and elapsed >= (REPORT_SECONDS if visible else SLOW_REPORT_SECONDS)
        if due or progress.name != reported.name or progress.of != reported.of:
            _report(work, progress, advanced=progress.done > reported.done)
            reported, reported_at = progress, time.monotonic()
    _report(work, progress, advanced=True)
    work.log("All files are here, and each has the hash that the hub states for it.")
    return Outcome(State.SUCCEEDED, result={"bytes": progress.of})


def _report(work: Work, progress: Progress, *, advanced: bool) -> None:
    """Write one phase event and the job's row. A process that advanced resets the count of deaths."""
    payload = {"name": progress.name, "done": progress.done, "of": progress.of}
    columns = store.JobProgress(phase=progress.name, step=progress.done, steps=progress.of)
    if advanced:
        columns["deaths"] = 0
    with work.transaction(**columns) as session:
        store.append_event(session, work.claim, "phase", payload)
