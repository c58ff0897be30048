"""The download job: bytes of a known model arrive in the hub's cache, and the job's row and events say how many.

`Job.step` of `Job.steps` counts bytes, and so does the phase's `done` of `of`. A stop ends the process at once: every
byte on the disk is kept, and the next attempt goes on behind it.
"""

from __future__ import annotations

import os
import time
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

TELL_SECONDS = 1.0  # at most so often, and only what can be seen:
TELL_SHARE = 1e-3  # of the whole; a thousand events are enough for a bar of any length,
SIGN_SECONDS = 5.0  # but somebody with a slow line wants a sign of life


def download_model(work: Work) -> Outcome:
    """Fetch the model that the job names. Raises DownloadProblem, GatedProblem, DiskProblem."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the client is imported
    from core.hub import download

    known = KNOWN.get(work.job.params["model"])
    if known is None:
        raise DownloadProblem(f"This version of Likeness does not know where to find {work.job.params['model']}.")
    here = catalog.models(models.folders(work.database))[known.name].on_disk  # then its training assistant is wanted
    work.ends_anywhere = True
    work.log(f"Downloads {'the training assistant of ' if here else ''}{known.title} from {known.page}.")
    told, told_at = download.Progress(0, 0, ""), 0.0
    for progress in download.download(known, assistant_alone=here):
        since = time.monotonic() - told_at
        visible = abs(progress.done - told.done) >= TELL_SHARE * progress.of
        due = progress.done != told.done and since >= (TELL_SECONDS if visible else SIGN_SECONDS)
        if due or progress.name != told.name or progress.of != told.of:
            _tell(work, progress, further=progress.done > told.done)
            told, told_at = progress, time.monotonic()
    _tell(work, progress, further=True)
    work.log("All of it is here, and every file has the hash that the hub gives for it.")
    return Outcome(State.SUCCEEDED, result={"bytes": progress.of})


def _tell(work: Work, progress: Progress, *, further: bool) -> None:
    """One event and the row; a process that got further starts its count of deaths anew."""
    payload = {"name": progress.name, "done": progress.done, "of": progress.of}
    columns = {"deaths": 0} if further else {}
    with work.telling(phase=progress.name, step=progress.done, steps=progress.of, **columns) as session:
        store.tell(session, work.claim, "phase", payload)
