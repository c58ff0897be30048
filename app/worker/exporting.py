"""An export as a job: the adapter in another program's format, read back and compared before it is offered.

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
from app.jobs.states import State
from app.worker.outcome import Outcome
from app.worker.work import Work
from core import files
from core.adapters import file as adapter_file
from core.adapters import kohya, merge
from core.errors import AdapterProblem
from core.hub import catalog

REPORT_SECONDS = 0.5  # at least, between two reports of progress


def export_adapter(work: Work) -> Outcome:
    """Write the file that the job's parameters describe. Raises Stopped, and AdapterProblem for one without effect."""
    params, home = work.job.params, work.home
    source, folder = home.file(params["file"]), home.exports / str(work.claim.job_id)
    if not source.is_file():
        raise AdapterProblem("The checkpoint's file is no longer there; export another step.")
    shutil.rmtree(folder, ignore_errors=True)  # half-written files of an attempt that was killed
    target = folder / "adapter.safetensors"
    _write(work, params, source, target)
    size = target.stat().st_size
    work.log(f"Wrote {params['name']} ({wording.size(size)}), read it back and compared it.")
    return Outcome(State.SUCCEEDED, result={"file": home.relative(target), "name": params["name"], "bytes": size})


def _write(work: Work, params: dict[str, Any], source: Path, target: Path) -> None:
    folder = catalog.find(params["model"], models.folders(work.database)).path
    family = catalog.family_of(folder)
    held = adapter_file.read(source, family)
    adapter_file.check_worth(held.factors)
    match params["format"]:
        case "kohya":
            work.report_phase("writing the file", 0, 1)
            kohya.write(target, held.factors, held.metadata, family)
        case "merged":
            merged = merge.write(
                target,
                folder / "transformer",
                held.factors,
                held.metadata,
                strength=float(params["strength"]),
                on_tensor=_MergeReporter(work),
            )
            work.log(f"Merged {merged.layers} layers; {merged.kept:.1%} of the change is left after rounding.")
        case _:
            with files.atomic_file(target) as part:
                shutil.copyfile(source, part)
                if files.sha256_of(part) != files.sha256_of(source):
                    raise AdapterProblem("The copy differs from the checkpoint's file. Check the disk.")


class _MergeReporter:
    """Reports how many tensors are merged, and raises Stopped between two of them."""

    def __init__(self, work: Work) -> None:
        self._work, self._reported_at = work, 0.0

    def __call__(self, done: int, of: int) -> None:
        self._work.raise_if_stopped()
        if done == of or time.monotonic() - self._reported_at > REPORT_SECONDS:
            self._reported_at = time.monotonic()
            with self._work.transaction(phase="merging", step=done, steps=of) as session:
                store.append_event(session, self._work.claim, "phase", {"name": "merging", "done": done, "of": of})
