"""A home with a run in every state that its page can show, made in a second: rows and made-up pictures, no training.

    waiting  starting  running  stopped  failed  removed  done  no_samples  one_prompt  four_prompts  many_steps

Nobody executes these runs: serve the home with `create_app(home, with_jobs=False)` (`served` does).
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import uvicorn
from PIL import Image, ImageFilter
from sqlmodel import Session

from app.actions import photos, projects, run_setup
from app.database import Database
from app.home import Home
from app.jobs.states import State
from app.main import create_app
from app.tables import Adapter, Checkpoint, Event, Job, Run, Sample, Version, now
from core import files
from core.estimate.architecture import Architecture
from core.pocket import assets
from core.training.likeness import Drawn

SIDE_PX = 256
ODD_PHOTO = 3  # the id of the photo that stands out
PROMPTS = (
    "a photo of {trigger} {class_word}",
    "{trigger} {class_word} on the beach",
    "{trigger} {class_word} in the snow, seen from far away",
    "an oil painting of {trigger} {class_word}",
)
ERROR = {
    "code": "memory",
    "message": "Not enough memory for this run. Choose a smaller picture size, or fewer activations.",
}


@dataclass(frozen=True)
class Scene:
    """One run: how far it is, and what it has drawn and saved."""

    name: str
    state: State
    steps: int = 400
    step: int = 0
    prompts: int = 2
    every: int = 50  # steps between samples, between checkpoints and between scores
    phase: str = ""
    error: dict[str, str] | None = None
    scored: bool = True
    turns: bool = False  # the held-out score rises again: it memorises
    odd: bool = False  # one of its photos stands out
    knobs: dict[str, object] = field(default_factory=dict)


SCENES = (
    Scene("waiting", State.QUEUED),
    Scene("starting", State.RUNNING, phase="loading the model"),
    Scene("running", State.RUNNING, step=312, phase="training", odd=True),
    Scene("stopped", State.STOPPED, step=160),
    Scene("failed", State.FAILED, step=210, error=ERROR),
    Scene("removed", State.CANCELLED),
    Scene("done", State.SUCCEEDED, step=400, turns=True, odd=True),
    Scene("no_samples", State.SUCCEEDED, step=400, prompts=0, scored=False, knobs={"held_out": "none"}),
    Scene("one_prompt", State.RUNNING, step=230, prompts=1, phase="training"),
    Scene("four_prompts", State.SUCCEEDED, step=400, prompts=4),
    Scene("many_steps", State.SUCCEEDED, steps=20_000, step=20_000, every=200, turns=True),
)


def make(folder: Path, scenes: Sequence[Scene] = SCENES) -> dict[str, int]:
    """Fill the home; returns the id of each run by the scene's name."""
    database = Database(Home(folder))
    project = projects.create(database, "Pip", assets.EXAMPLE_TRIGGER, assets.EXAMPLE_CLASS_WORD).id
    for path in sorted(assets.EXAMPLES.glob("*.jpg")):
        upload = database.home.uploads / path.name
        shutil.copyfile(path, upload)
        photos.add(database, project, path.name, upload, files.sha256_of(upload), batch="states")
    found = {scene.name: _run(database, project, scene) for scene in scenes}
    database.close()
    return found


@contextlib.contextmanager
def served(folder: Path, port: int) -> Iterator[str]:
    """The studio over `folder`, in a thread and without its supervisor; yields its address."""
    config = uvicorn.Config(
        create_app(folder, with_jobs=False), port=port, log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def _run(database: Database, project: int, scene: Scene) -> int:
    prompts = PROMPTS[: scene.prompts]
    knobs = {
        "model": "pocket",
        "steps": scene.steps,
        "sample_prompts": list(prompts),
        "held_out": "1",
        "score_every": scene.every,
    }
    knobs |= {"sample_every": scene.every if prompts else 0, "save_every": scene.every * 2} | scene.knobs
    run_id = run_setup.create(database, project, knobs).id
    with database.write() as session:
        run = session.get_one(Run, run_id)
        job = session.get_one(Job, run.job_id)
        job.state, job.step, job.phase, job.error, job.attempt = scene.state, scene.step, scene.phase, scene.error, 1
        job.heartbeat_at = now()
        job.started_at = now() - timedelta(seconds=scene.step)
        session.add(job)
        _metrics(session, run, scene)
        for step in range(0, scene.step + 1, scene.every) if scene.step else ():
            for number, prompt in enumerate(prompts):
                _sample(session, database.home, run, scene, step, number, prompt)
            if step and step % (2 * scene.every) == 0:
                _checkpoint(session, database.home, run, step)
    return run_id


def _metrics(session: Session, run: Run, scene: Scene) -> None:
    noise = random.Random(scene.name)
    start = now() - timedelta(seconds=scene.step)
    for step in range(1, scene.step + 1):
        values = {
            "loss": 0.2 + 0.3 * math.exp(-3 * step / scene.steps) + noise.uniform(-0.12, 0.16),
            "lr": 2e-3 * min(1, step / 20) * (1 - 0.9 * step / scene.steps),
            "gradient_norm": noise.uniform(0.5, 2),
            "seconds": 1.0,
        }
        at = start + timedelta(seconds=step)
        session.add(Event(job_id=run.job_id, attempt=1, kind="metric", step=step, payload=values, at=at))
    if not scene.scored or not scene.step:
        return
    held_out = run_photo(session, run)
    for step in range(0, scene.step + 1, scene.every):
        share = step / scene.steps
        rise = max(0.0, share - 0.5) * 0.3 if scene.turns else 0.0
        value = 1.0 if not step else 0.84 + 0.16 * math.exp(-6 * share) + rise + noise.uniform(-0.004, 0.004)
        scores = {"held_out": value, "held_out_loss": value * 0.4, f"held_out_photo/{held_out}": value}
        scores |= {f"held_out/{band}": value * (1 + 0.03 * (band - 1.5)) if step else 1.0 for band in range(4)}
        scores |= {f"photo/{number}": 0.9 + 0.05 * number for number in range(1, 8) if number != held_out and step}
        scores |= {f"photo/{ODD_PHOTO}": 2.1} if scene.odd and step else {}
        session.add(Event(job_id=run.job_id, attempt=1, kind="metric", step=step, payload=scores))
    for step in range(0, scene.step + 1, scene.every):
        drawn = _drawn(step, step / scene.steps).to_json()
        session.add(Event(job_id=run.job_id, attempt=1, kind="measured", step=step, payload=drawn))
    session.add(
        Event(
            job_id=run.job_id,
            attempt=1,
            kind="log",
            payload={"level": "info", "text": f"{scene.steps} steps on 8 photos with pocket, rank 16, 256 px."},
        )
    )


def _drawn(step: int, share: float) -> Drawn:
    """Pictures that come to look like the subject, and from half of the run on like one another."""
    gain, late = 1 - math.exp(-6 * share), max(share - 0.5, 0.0)
    apart = (-0.02, -0.01, 0.01, 0.02)
    return Drawn(
        step,
        likeness=tuple(0.31 + 0.4 * gain + each for each in apart),
        bare=tuple(0.3 + (0.08 + each) * share for each in apart),
        distance=tuple(0.6 - 0.1 * gain - 0.8 * late + each * late for each in apart),
        photos=(0.78, 0.8, 0.42),
        held_out=True,
    )


def run_photo(session: Session, run: Run) -> int:
    """The id of the photo that is held out: the last of the set."""
    return int(session.get_one(Version, run.version_id).items[-1]["photo_id"])


def _sample(session: Session, home: Home, run: Run, scene: Scene, step: int, number: int, prompt: str) -> None:
    share = step / scene.steps
    source = sorted(assets.EXAMPLES.glob("*.jpg"))[number % 8]
    with Image.open(source) as photo:
        picture = (
            photo.convert("RGB").resize((SIDE_PX, SIDE_PX)).filter(ImageFilter.GaussianBlur(2 + 22 * (1 - share) ** 2))
        )
    path = home.run(int(run.id or 0)) / "samples" / f"{step}-{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, compress_level=1)
    text = prompt.replace("{trigger}", assets.EXAMPLE_TRIGGER).replace("{class_word}", assets.EXAMPLE_CLASS_WORD)
    row = Sample(job_id=run.job_id, run_id=run.id, step=step, prompt_id=number, prompt=text, seed=number)
    row.file, row.width, row.height = home.relative(path), SIDE_PX, SIDE_PX
    session.add(row)


def _checkpoint(session: Session, home: Home, run: Run, step: int) -> None:
    folder = home.run(int(run.id or 0)) / "checkpoints" / str(step)
    folder.mkdir(parents=True)
    adapter = folder / "adapter.safetensors"
    _write_adapter(adapter)
    row = Checkpoint(
        run_id=int(run.id or 0), step=step, folder=home.relative(folder), bytes=5_100_000, sha256=f"{step:064x}"
    )
    session.add(row)
    session.flush()
    relative = home.relative(adapter)
    session.add(
        Adapter(
            name=f"Pip, step {step}",
            model="pocket",
            run_id=run.id,
            checkpoint_id=row.id,
            file=relative,
            sha256=row.sha256,
            rank=16,
            trigger="sks",
        )
    )


def _write_adapter(path: Path) -> None:
    """A file that a run of Pocket can begin with, as far as its header says: every layer at rank 16, all zeros."""
    header: dict[str, object] = {}
    end = 0
    for layer, (size_in, size_out) in Architecture.of(assets.WEIGHTS).layers.sizes.items():
        for name, shape in (("lora_A", (16, size_in)), ("lora_B", (size_out, 16))):
            start, end = end, end + 2 * math.prod(shape)
            entry = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
            header[f"transformer.{layer}.{name}.weight"] = entry
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
