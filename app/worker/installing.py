"""The built-in captioner as a job: mlx-vlm into an environment of its own, then its model into the hub's cache.

What is here already is left as it is. While pip works, a stop or a shutdown ends it and removes what it made; the
download of the model goes on where it ended, as every download.
"""

from __future__ import annotations

import os

from app.jobs import store
from app.jobs.states import State
from app.worker.downloading import follow
from app.worker.outcome import Outcome
from app.worker.work import Work, write_log
from core.captioners.environment import PROGRAM, Environment
from core.hub.caption_model import MODEL


def install_captioner(work: Work) -> Outcome:
    """Raises Stopped, CaptionerProblem, DownloadProblem, DiskProblem."""
    environment = Environment(work.home.captioner)
    if not environment.installed:
        work.log(f"Installs {PROGRAM} into {environment.folder}, with pip and its settings.")
        _report(work, "making its environment")
        environment.install(lambda words: _report(work, words), work.raise_if_stopped, write_log)
        work.log(f"{PROGRAM} is installed.")
    if MODEL.folder is not None:
        return Outcome(State.SUCCEEDED)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when huggingface_hub is imported
    from core.hub import download

    work.log(f"Downloads {MODEL.title} from {MODEL.page}.")
    done = follow(work, download.download_flat(MODEL, MODEL.repo))
    work.log("All files are here, and each has the hash that the hub states for it.")
    return Outcome(State.SUCCEEDED, result={"bytes": done})


def _report(work: Work, words: str) -> None:
    """What pip does now. Nobody knows how much is left, so the bar has no end."""
    name = f"{PROGRAM}: {words}"
    with work.transaction(phase=name) as session:
        store.append_event(session, work.claim, "phase", {"name": name, "done": 0, "of": 0})
