"""What the trainer yields, as rows and events of the run's job.

    Phase -> phase      Stepped, Scored -> metric      Sampled      -> Sample row + sample event
    Note  -> log        Resumed         -> rewind      ClassPicture -> Sample row + class_picture event
                                                       Saved        -> Checkpoint and Adapter rows + checkpoint event

The trainer writes a file before it yields its event, so a row never names a file that is not complete.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import delete
from sqlmodel import Session, col, select

from app.actions import checkpoint_files
from app.jobs import store
from app.tables import Adapter, Checkpoint, Project, Run, Sample
from app.worker.samples import add_sample
from app.worker.work import Work
from core import files, safetensors_file
from core.training import checkpoint
from core.training.events import ClassPicture, Finished, Note, Phase, Progress, Resumed, Sampled, Saved, Scored, Stepped


class Reporter:
    """Writes the progress of one run to the database."""

    def __init__(self, work: Work, run: Run, project: Project, model: str, photo_ids: Sequence[int]) -> None:
        self._work, self._project, self._model = work, project, model
        self._photo_ids = photo_ids  # by the index that the trainer gives to a photo
        self._run_id = int(run.id or 0)
        self._phase = ""

    def report(self, progress: Progress) -> None:
        """Write one piece of progress. Raises ClaimLost, DiskProblem."""
        match progress:
            case Phase():
                self._phase = progress.name
                self._work.report_phase(progress.name, progress.done, progress.of)
            case Note():
                self._work.log(progress.text, progress.level)
            case Resumed():
                self._rewind(progress.step)
            case Stepped():
                self._step(progress)
            case Scored():
                self._score(progress)
            case Sampled():
                self._sample(progress)
            case ClassPicture():
                self._class_picture(progress)
            case Saved():
                self._checkpoint(progress.step, progress.bytes, progress.sha256)
            case Finished():
                pass  # the outcome of the job reports it

    def _rewind(self, step: int) -> None:
        """Delete samples and checkpoints after `step`; metric events stay, readers drop them at the rewind event."""
        if self._work.claim.attempt == 1:
            return
        with self._work.transaction(step=step) as session:
            session.exec(delete(Sample).where(col(Sample.run_id) == self._run_id, col(Sample.step) > step))
            later = (col(Checkpoint.run_id) == self._run_id, col(Checkpoint.step) > step)  # damaged ones
            session.exec(delete(Checkpoint).where(*later))  # their adapters' rows are deleted with them
            store.append_event(session, self._work.claim, "rewind", {"to_step": step}, step)
        self._adopt_checkpoints()
        self._work.log(f"Goes on from step {step}." if step else "Begins again: there is no checkpoint yet.")

    def _step(self, progress: Stepped) -> None:
        if not progress.counted:
            self._work.log(f"Step {progress.step}: the loss was not a number; the step changed nothing.", "warning")
        values = {
            "loss": progress.loss,
            "subject_loss": progress.subject_loss,
            "lr": progress.learning_rate,
            "gradient_norm": progress.gradient_norm,
            "seconds": progress.seconds,
            "peak_memory_bytes": progress.peak_memory_bytes,
        }
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        with self._work.transaction(step=progress.step, phase="training") as session:
            store.append_event(session, self._work.claim, "metric", finite, progress.step)
            if self._phase != "training":
                self._phase = "training"
                phase = {"name": "training", "done": 0, "of": 0}
                store.append_event(session, self._work.claim, "phase", phase, progress.step)

    def _score(self, progress: Scored) -> None:
        """Scores by band of noise and by photo, photos named by their ids.

        A value that is not finite becomes null, which the diagnosis reads as infinite: without it, the run would not
        look diverged.
        """
        name = "held_out" if progress.held_out else "trained"
        values = {name: progress.relative} | {f"{name}/{band}": value for band, value in enumerate(progress.bands)}
        values |= {f"held_out_photo/{self._photo_ids[index]}": value for index, value in progress.held_out.items()}
        values |= {f"photo/{self._photo_ids[index]}": value for index, value in progress.learned.items()}
        values[f"{name}_loss"] = progress.loss
        values_or_null = {key: value if math.isfinite(value) else None for key, value in values.items()}
        with self._work.transaction() as session:
            store.append_event(session, self._work.claim, "metric", values_or_null, progress.step)

    def _sample(self, progress: Sampled) -> None:
        """Replaces a sample of the same step and prompt, which an earlier attempt may have drawn."""
        same = (Sample.run_id == self._run_id, Sample.step == progress.step, Sample.prompt_id == progress.prompt_id)
        row = self._sample_row(progress, progress.step, progress.prompt_id, progress.adapter_strength)
        with self._work.transaction() as session:
            for earlier in session.exec(select(Sample).where(*same)):
                session.delete(earlier)
            store.append_event(session, self._work.claim, "sample", add_sample(session, row), progress.step)

    def _class_picture(self, progress: ClassPicture) -> None:
        """Adds a class picture once: a resumed run yields again those that it had.

        The picture is saved for the next attempt, so it resets the count of deaths, as a checkpoint does.
        """
        same = (Sample.run_id == self._run_id, col(Sample.step).is_(None), Sample.prompt_id == progress.number)
        with self._work.database.read() as session:
            if session.exec(select(Sample.id).where(*same)).first() is not None:
                return
        row = self._sample_row(progress, None, progress.number, 0.0)
        with self._work.transaction(deaths=0) as session:
            store.append_event(session, self._work.claim, "class_picture", add_sample(session, row))

    def _sample_row(
        self, progress: Sampled | ClassPicture, step: int | None, prompt_id: int, strength: float
    ) -> Sample:
        return Sample(
            job_id=self._work.claim.job_id,
            run_id=self._run_id,
            step=step,
            prompt_id=prompt_id,
            prompt=progress.prompt,
            seed=progress.seed,
            adapter_strength=strength,
            recipe=progress.recipe,
            file=self._work.home.relative(progress.file),
            width=progress.width,
            height=progress.height,
        )

    def _checkpoint(self, step: int, size: int, sha256: str) -> None:
        """Adds the rows of a checkpoint, and resets the count of deaths."""
        with self._work.transaction(deaths=0) as session:
            self._checkpoint_rows(session, step, size, sha256)
            folder = self._work.home.run(self._run_id) / "checkpoints" / str(step)
            adapter_bytes = (folder / checkpoint.ADAPTER).stat().st_size
            payload = {"step": step, "bytes": size, "adapter_bytes": adapter_bytes, "sha256": sha256}
            store.append_event(session, self._work.claim, "checkpoint", payload, step)
            thinned, folders = checkpoint_files.thin_as_set(session, self._work.home, self._run_id)
        self._work.log(f"Saved step {step} ({size / 2**20:.1f} MB).")
        if thinned:
            checkpoint_files.delete_for_good(folders)
            steps = ", ".join(str(each) for each in thinned)
            self._work.log(f"Deleted the checkpoint of step {steps}: the settings keep only some of them.")

    def _adopt_checkpoints(self) -> None:
        """Adds rows for checkpoints that are complete on disk, but whose process died before it wrote their rows."""
        with self._work.database.read() as session:
            known = set(session.exec(select(Checkpoint.step).where(Checkpoint.run_id == self._run_id)))
        folder = self._work.home.run(self._run_id)
        for step in checkpoint.steps_saved(folder):
            if step not in known:
                saved = folder / "checkpoints" / str(step)
                size = sum(each.stat().st_size for each in saved.iterdir())
                self._checkpoint(step, size, files.sha256_of(saved / checkpoint.ADAPTER))

    def _checkpoint_rows(self, session: Session, step: int, size: int, sha256: str) -> None:
        folder = self._work.home.relative(self._work.home.run(self._run_id) / "checkpoints" / str(step))
        same = select(Checkpoint).where(Checkpoint.run_id == self._run_id, Checkpoint.step == step)
        row = session.exec(same).one_or_none() or Checkpoint(
            run_id=self._run_id, step=step, folder=folder, bytes=0, sha256=""
        )
        row.bytes, row.sha256 = size, sha256
        session.add(row)
        session.flush()
        file = f"{folder}/adapter.safetensors"
        adapter = session.exec(select(Adapter).where(Adapter.checkpoint_id == row.id)).one_or_none() or Adapter(
            name=f"{self._project.name}, step {step}",
            model=self._model,
            run_id=self._run_id,
            checkpoint_id=row.id,
            file=file,
            sha256=sha256,
            rank=_highest_rank(self._work.home.file(file)),
            trigger=self._project.trigger,
        )
        adapter.sha256 = sha256
        session.add(adapter)


def _highest_rank(adapter: Path) -> int:
    """Over the layers of an adapter file; the knob `ranks` gives single layers a rank of their own."""
    tensors = safetensors_file.read_header(adapter).tensors
    return max(each.shape[0] for name, each in tensors.items() if name.endswith(".lora_A.weight"))
