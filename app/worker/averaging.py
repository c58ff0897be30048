"""The mean of several checkpoints as a job: written into the run's folder, read back, and listed as an adapter."""

from __future__ import annotations

from datetime import UTC, datetime

from app.actions import models
from app.actions.averages import KEY
from app.jobs.states import State
from app.tables import Adapter
from app.worker.outcome import Outcome
from app.worker.work import Work
from core import files
from core.adapters import average, diffusers
from core.adapters import file as adapter_file
from core.errors import AdapterProblem
from core.hub import catalog


def average_checkpoints(work: Work) -> Outcome:
    """Write the mean of the checkpoints that the job names. Raises AdapterProblem when one of them is gone."""
    params, home = work.job.params, work.home
    steps = params[KEY]
    family = catalog.family_of(catalog.find(params["model"], models.folders(work.database)).path)
    held = []
    for step, name in zip(steps, params["files"], strict=True):
        work.raise_if_stopped()
        if not home.file(name).is_file():
            raise AdapterProblem(f"The checkpoint of step {step} is no longer there; choose others.")
        held.append(adapter_file.read(home.file(name), family, f"step {step}"))
    work.report_phase("computing the mean", 0, 1)
    factors = average.mean([each.factors for each in held])
    rank = max(a_RI.shape[0] for a_RI, _ in factors.values())
    about = {
        "modelspec.title": params["name"],
        "modelspec.description": f"Mean of the checkpoints {', '.join(str(step) for step in steps)} of a run",
        "modelspec.date": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "ss_output_name": params["name"],
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
    }
    target = home.run(params["run"]) / "averages" / str(work.claim.job_id) / "adapter.safetensors"
    diffusers.write(target, factors, held[-1].metadata | about)
    row = Adapter(
        name=params["name"],
        model=params["model"],
        run_id=params["run"],
        file=home.relative(target),
        sha256=files.sha256_of(target),
        rank=rank,
        trigger=params["trigger"],
    )
    with work.transaction(step=1, steps=1) as session:
        session.add(row)
        session.flush()
    work.log(f"Wrote the mean of {len(steps)} checkpoints, of rank {rank} at most, read it back and compared it.")
    return Outcome(State.SUCCEEDED, result={"adapter": row.id, "name": params["name"]})
