"""A training run as a job: the engine's progress becomes rows and events, the user's requests are sent back to it.

    Phase -> phase      Stepped, Scored -> metric      Sampled      -> Sample row + sample event
    Note  -> log        Resumed         -> rewind      ClassPicture -> Sample row + class_picture event
                                                       Saved        -> Checkpoint and Adapter rows + checkpoint event

Files are written by the engine before it speaks of them; the row that names a file comes after it.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from sqlalchemy import delete
from sqlmodel import Session, col, select

from app.actions import models
from app.actions.run_views import picture_url
from app.jobs import store
from app.jobs.states import State, Stop
from app.resources import JOIN, ROOT
from app.settings import hosts_of, value_of
from app.tables import Adapter, Checkpoint, Project, Run, Sample, Version
from app.worker.outcome import Outcome
from app.worker.work import Work
from core import files, safetensors_file
from core.config.resolve import Resolved
from core.dataset.crops import Box
from core.dataset.examples import Example
from core.device import backend
from core.hub import catalog


def train_run(work: Work) -> Outcome:
    """Train from the last checkpoint, or the start, until the last step or until the user or the studio stops it."""
    backend.prepare()  # before MLX is imported for the first time
    from core.distributed.launch import launched
    from core.models.load import load_family
    from core.training.events import Finished, Request
    from core.training.trainer import train

    with work.database.read() as session:
        run = session.exec(select(Run).where(Run.job_id == work.claim.job_id)).one()
        project = session.get_one(Project, run.project_id)
        version = session.get_one(Version, run.version_id)
        hosts_file = value_of(session, "hosts_file")
    config = Resolved.from_json(run.config).config
    folder = work.home.run(int(run.id or 0))

    work.phase("loading the model", 0, 1)
    folder_of_model = catalog.find(config.model, models.folders(work.database)).folder
    family = load_family(folder_of_model, quantize=config.base_bits)
    record_origin(work, run, dict(family.hashes))
    examples = [example_of(work, item) for item in version.items]
    start = work.job.params.get("start_from")
    teller = Teller(work, run, project, config.model, [item["photo_id"] for item in version.items])
    photos = "1 photo" if len(examples) == 1 else f"{len(examples)} photos"
    work.log(f"{config.steps} steps on {photos} with {config.model}, rank {config.rank}, {config.side_px} px.")
    if config.machines > 1:
        work.phase("starting the other machines", 0, 1)
    hosts = hosts_of(hosts_file) if config.machines > 1 else None
    with launched(hosts, config.machines, JOIN, ROOT) as group:
        if config.machines > 1:
            work.log(f"Each step is shared by {group.size} of {config.machines} machines.")
        going = train(
            family,
            examples,
            config,
            folder,
            trigger=project.trigger,
            class_word=project.class_word,
            cache=work.home.cache,
            resume=True,
            start_from=work.home.file(start["file"]) if start else None,
            title=project.name,
            group=group,
        )
        request: Request | None = None
        try:
            while True:
                progress = going.send(request)
                if isinstance(progress, Finished):
                    work.log(_last_line(progress))
                    return _outcome(work, progress)
                teller.tell(progress)
                request = _request(work, Request)
        finally:
            going.close()


class Teller:
    """Writes down what a run reports."""

    def __init__(self, work: Work, run: Run, project: Project, model: str, photo_ids: Sequence[int]) -> None:
        self.work, self.project, self.model = work, project, model
        self.photo_ids = photo_ids  # the engine knows a photo by its place
        self.run_id = int(run.id or 0)
        self.phase = ""

    def tell(self, progress: Any) -> None:
        """One piece of progress into the database. Raises LostJob, DiskProblem."""
        from core.training import events as said

        match progress:
            case said.Phase():
                self.phase = progress.name
                self.work.phase(progress.name, progress.done, progress.of)
            case said.Note():
                self.work.log(progress.text, progress.level)
            case said.Resumed():
                self.rewind(progress.step)
            case said.Stepped():
                self.step(progress)
            case said.Scored():
                self.score(progress)
            case said.Sampled():
                self.sample(progress)
            case said.ClassPicture():
                self.class_picture(progress)
            case said.Saved():
                self.checkpoint(progress.step, progress.bytes, progress.sha256)

    def rewind(self, step: int) -> None:
        """What came after `step` in an earlier attempt is void."""
        if self.work.claim.attempt == 1:
            return
        with self.work.telling(step=step) as session:
            later = (col(Sample.run_id) == self.run_id, col(Sample.step) > step)
            session.execute(delete(Sample).where(*later))
            damaged = (col(Checkpoint.run_id) == self.run_id, col(Checkpoint.step) > step)
            session.execute(delete(Checkpoint).where(*damaged))  # their adapters go with them
            store.tell(session, self.work.claim, "rewind", {"to_step": step}, step)
        self.adopt_checkpoints()
        self.work.log(f"Goes on from step {step}." if step else "Begins again: there is no checkpoint yet.")

    def step(self, progress: Any) -> None:
        if not progress.counted:
            self.work.log(f"Step {progress.step}: the loss was not a number; the step changed nothing.", "warning")
        values = {
            "loss": progress.loss,
            "subject_loss": progress.subject_loss,
            "lr": progress.learning_rate,
            "gradient_norm": progress.gradient_norm,
            "seconds": progress.seconds,
            "peak_memory_bytes": progress.peak_memory_bytes,
        }
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        with self.work.telling(step=progress.step, phase="training") as session:
            store.tell(session, self.work.claim, "metric", finite, progress.step)
            if self.phase != "training":
                self.phase = "training"
                store.tell(session, self.work.claim, "phase", {"name": "training", "done": 0, "of": 0}, progress.step)

    def score(self, progress: Any) -> None:
        """How the run does by band and by photo; null is no number. Photos go by their ids outside the engine."""
        name = "held_out" if progress.held_out else "trained"
        values = {name: progress.relative} | {f"{name}/{band}": value for band, value in enumerate(progress.bands)}
        values |= {f"held_out_photo/{self.photo_ids[place]}": value for place, value in progress.held_out.items()}
        values |= {f"photo/{self.photo_ids[place]}": value for place, value in progress.learned.items()}
        values[f"{name}_loss"] = progress.loss
        finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
        with self.work.telling() as session:
            store.tell(session, self.work.claim, "metric", finite, progress.step)

    def sample(self, progress: Any) -> None:
        with self.work.telling() as session:
            same = (Sample.run_id == self.run_id, Sample.step == progress.step, Sample.prompt_id == progress.prompt_id)
            for old in session.exec(select(Sample).where(*same)):
                session.delete(old)
            payload = self._picture_row(session, progress, progress.step, progress.prompt_id, progress.adapter_strength)
            store.tell(session, self.work.claim, "sample", payload, progress.step)

    def class_picture(self, progress: Any) -> None:
        """One of the class pictures, once: a run that goes on finds again those that it had.

        What is drawn is kept, so getting this far clears the count of deaths, as a checkpoint does.
        """
        same = (Sample.run_id == self.run_id, col(Sample.step).is_(None), Sample.prompt_id == progress.number)
        with self.work.database.read() as session:
            known = session.exec(select(Sample.id).where(*same)).first()
        if known is None:
            with self.work.telling(deaths=0) as session:
                payload = self._picture_row(session, progress, None, progress.number, 0.0)
                store.tell(session, self.work.claim, "class_picture", payload)

    def _picture_row(
        self, session: Session, progress: Any, step: int | None, prompt_id: int, strength: float
    ) -> dict[str, Any]:
        """The row of a picture that the engine has written; returns what its event says."""
        row = Sample(
            job_id=self.work.claim.job_id,
            run_id=self.run_id,
            step=step,
            prompt_id=prompt_id,
            prompt=progress.prompt,
            seed=progress.seed,
            adapter_strength=strength,
            recipe=progress.recipe,
            file=self.work.home.relative(progress.file),
            width=progress.width,
            height=progress.height,
        )
        session.add(row)
        session.flush()
        return {
            "id": row.id,
            "prompt_id": row.prompt_id,
            "prompt": row.prompt,
            "seed": row.seed,
            "adapter_strength": row.adapter_strength,
            "url": picture_url(int(row.id or 0)),
            "width": row.width,
            "height": row.height,
        }

    def checkpoint(self, step: int, size: int, sha256: str) -> None:
        """A checkpoint's rows; getting this far also clears the count of deaths."""
        with self.work.telling(deaths=0) as session:
            self._checkpoint_rows(session, step, size, sha256)
            payload = {"step": step, "bytes": size, "sha256": sha256}
            store.tell(session, self.work.claim, "checkpoint", payload, step)
        self.work.log(f"Saved step {step} ({size / 2**20:.1f} MB).")

    def adopt_checkpoints(self) -> None:
        """Rows for checkpoints that were complete on disk when the process died, just before it could say so."""
        from core.training import checkpoint

        with self.work.database.read() as session:
            known = set(session.exec(select(Checkpoint.step).where(Checkpoint.run_id == self.run_id)))
        folder = self.work.home.run(self.run_id)
        for step in checkpoint.steps_saved(folder):
            if step not in known:
                files_of_step = list((folder / "checkpoints" / str(step)).iterdir())
                adapter = folder / "checkpoints" / str(step) / checkpoint.ADAPTER
                self.checkpoint(step, sum(each.stat().st_size for each in files_of_step), files.sha256_of(adapter))

    def _checkpoint_rows(self, session: Session, step: int, size: int, sha256: str) -> None:
        folder = self.work.home.relative(self.work.home.run(self.run_id) / "checkpoints" / str(step))
        same = select(Checkpoint).where(Checkpoint.run_id == self.run_id, Checkpoint.step == step)
        row = session.exec(same).one_or_none() or Checkpoint(
            run_id=self.run_id, step=step, folder=folder, bytes=0, sha256=""
        )
        row.bytes, row.sha256 = size, sha256
        session.add(row)
        session.flush()
        file = f"{folder}/adapter.safetensors"
        adapter = session.exec(select(Adapter).where(Adapter.checkpoint_id == row.id)).one_or_none() or Adapter(
            name=f"{self.project.name}, step {step}",
            model=self.model,
            run_id=self.run_id,
            checkpoint_id=row.id,
            file=file,
            sha256=sha256,
            rank=_highest_rank(self.work.home.file(file)),
            trigger=self.project.trigger,
        )
        adapter.sha256 = sha256
        session.add(adapter)


def example_of(work: Work, item: dict[str, Any]) -> Example:
    """One frozen photo as the engine wants it."""
    box = Box(**item["crop"]) if item["crop"] else None
    photo = work.home.photo(item["sha256"], item["extension"])
    return Example(photo, item["sha256"], item["caption"], box, item["name"])


def record_origin(work: Work, run: Run, hashes: dict[str, str]) -> None:
    """What this run is made with: kept in its row, so that it can be made again."""
    described = {name: str(value) for name, value in backend.describe().items()}
    likeness = metadata.version("likeness") if _installed() else "checkout"
    with work.telling() as session:
        row = session.get_one(Run, run.id)
        row.hashes = hashes
        row.versions = {"likeness": likeness, "python": platform.python_version(), **described}
        session.add(row)


def _request(work: Work, request: Any) -> Any:
    found = request.NONE
    if work.should_stop:
        found |= request.STOP
    if work.requests.save or work.requests.sample:
        taken = work.take_requests()  # which may be more than was heard of when it beat
        found |= (request.SAVE if taken.save else request.NONE) | (request.SAMPLE if taken.sample else request.NONE)
    return found


def _outcome(work: Work, finished: Any) -> Outcome:
    result = {
        "steps": finished.step,
        "final_loss": finished.final_loss,
        "held_out_loss": finished.held_out_loss,
        "seconds": finished.seconds,
        "peak_memory_bytes": finished.peak_memory_bytes,
    }
    if not finished.stopped:
        return Outcome(State.SUCCEEDED, result=result)
    by_user = work.requests.stop is not Stop.NONE
    return Outcome(State.STOPPED if by_user else State.QUEUED, result=result)


def _highest_rank(adapter: Path) -> int:
    """Of the layers of a file that training wrote; the knob `ranks` gives some of them their own."""
    tensors = safetensors_file.read_header(adapter).tensors
    return max(each.shape[0] for name, each in tensors.items() if name.endswith(".lora_A.weight"))


def _last_line(finished: Any) -> str:
    loss = "" if finished.final_loss is None else f", mean loss of the last steps {finished.final_loss:.4f}"
    peak = finished.peak_memory_bytes / 2**30
    done = "Stopped" if finished.stopped else "Done"
    return f"{done} at step {finished.step} after {finished.seconds:.0f} s{loss}, at most {peak:.1f} GB of memory."


def _installed() -> bool:
    try:
        metadata.version("likeness")
    except metadata.PackageNotFoundError:
        return False
    return True
