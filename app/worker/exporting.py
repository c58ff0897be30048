"""An adapter in another program's form as a job: written whole, read back and compared, and only then offered.

diffusers   the checkpoint's own file          core/adapters/diffusers.py
kohya       for ComfyUI and Forge              core/adapters/kohya.py
merged      the transformer with the adapter   core/adapters/merge.py
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from app import wording
from app.actions import models
from app.jobs import store
from app.jobs.states import State, Stop
from app.worker.outcome import Outcome
from app.worker.work import Work
from core import files
from core.device import backend
from core.errors import AdapterProblem
from core.hub import catalog

SECONDS_BETWEEN_WORDS = 0.5


class _Stopped(Exception):
    """The user or the studio ends the job between two tensors."""


def export_adapter(work: Work) -> Outcome:
    """Write the file that the job's parameters ask for; an adapter that would do nothing is refused."""
    backend.prepare()  # before MLX is imported for the first time
    params, home = work.job.params, work.home
    source, folder = home.file(params["file"]), home.exports / str(work.claim.job_id)
    if not source.is_file():
        raise AdapterProblem("The checkpoint's file is no longer there; export another step.")
    shutil.rmtree(folder, ignore_errors=True)  # what an attempt that was killed left half-written
    target = folder / "adapter.safetensors"
    try:
        _write(work, params, source, target)
    except _Stopped:
        return Outcome(State.QUEUED if work.requests.stop is Stop.NONE else State.STOPPED)
    size = target.stat().st_size
    work.log(f"Wrote {params['name']} ({wording.size(size)}), and read it back: it is whole.")
    return Outcome(State.SUCCEEDED, result={"file": home.relative(target), "name": params["name"], "bytes": size})


def _write(work: Work, params: dict[str, Any], source: Path, target: Path) -> None:
    from core.adapters import file as adapter_file
    from core.adapters import kohya, merge

    entry = catalog.find(params["model"], models.folders(work.database))
    family = catalog.family_of(entry.folder)
    held = adapter_file.read(source, family)
    adapter_file.check_worth(held.factors)
    match params["format"]:
        case "kohya":
            work.phase("writing the file", 0, 1)
            kohya.write(target, held.factors, held.metadata, family)
        case "merged":
            found = merge.write(
                target,
                entry.folder / "transformer",
                held.factors,
                held.metadata,
                strength=float(params["strength"]),
                on_tensor=_Progress(work),
            )
            work.log(f"Merged {found.layers} layers; {found.kept:.1%} of the change is left after rounding.")
        case _:
            with files.atomic_file(target) as part:
                shutil.copyfile(source, part)
                if files.sha256_of(part) != files.sha256_of(source):
                    raise AdapterProblem("The copy differs from the checkpoint's file. Check the disk.")


class _Progress:
    """Says now and then how many tensors are done, and ends the work when that was asked for."""

    def __init__(self, work: Work) -> None:
        self._work, self._said_at = work, 0.0

    def __call__(self, done: int, of: int) -> None:
        if self._work.should_stop:
            raise _Stopped
        if done == of or time.monotonic() - self._said_at > SECONDS_BETWEEN_WORDS:
            self._said_at = time.monotonic()
            with self._work.telling(phase="merging", step=done, steps=of) as session:
                store.tell(session, self._work.claim, "phase", {"name": "merging", "done": done, "of": of})
