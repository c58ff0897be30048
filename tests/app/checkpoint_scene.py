"""A run whose checkpoints are there and can be drawn with, on a tiny model; nothing was trained."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from starlette.testclient import TestClient

from app.database import Database
from app.jobs import store
from app.jobs.states import Kind
from app.main import create_app
from app.tables import Adapter, Checkpoint, Project, Run, Version
from app.worker.work import Shutdown
from core.config.resolve import resolve
from tests.tiny import make_model_folder

LAYERS = ("transformer_blocks.0.attn.to_q", "single_transformer_blocks.1.proj_out")
PROMPT = "a photo of sks can on the beach"
SMALL = {"prompt": PROMPT, "seed": 7, "width": 64, "height": 64, "steps": 2}


@dataclass
class Scene:
    """A home with a tiny model, a project, and a run that has saved three checkpoints; nothing was trained."""

    client: TestClient
    database: Database
    project: int
    run: int

    def ask(self, axes: dict[str, Any], **more: Any) -> Any:
        return self.client.post("/api/grids", json={"axes": axes, "run_id": self.run} | SMALL | more)

    def grid(self, axes: dict[str, Any], **more: Any) -> int:
        answer = self.ask(axes, **more)
        assert answer.status_code == 202, answer.text
        return int(answer.json()["grid_id"])

    def shown(self, grid: int) -> dict[str, Any]:
        return dict(self.client.get(f"/api/grids/{grid}").json())

    def content(self, drawn: dict[str, Any]) -> bytes:
        return self.client.get(drawn["url"]).content


class NoShutdown(Shutdown):
    """The job runs in the process of the test, whose signals are its own."""

    def __init__(self) -> None:
        self._requested = threading.Event()


def add_checkpoint(database: Database, run: int, step: int) -> None:
    """A checkpoint whose adapter has random factors."""
    folder = database.home.run(run) / "checkpoints" / str(step)
    folder.mkdir(parents=True)
    shapes = {LAYERS[0]: (64, 64), LAYERS[1]: (64, 320)}
    tensors, keys = {}, iter(mx.random.split(mx.random.key(step), 4))
    for layer, (size_out, size_in) in shapes.items():
        for which, shape in (("A", (2, size_in)), ("B", (size_out, 2))):
            values = 0.3 * mx.random.normal(shape, key=next(keys))
            tensors[f"transformer.{layer}.lora_{which}.weight"] = values.astype(mx.bfloat16)
    path = folder / "adapter.safetensors"
    mx.save_safetensors(str(path), tensors)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with database.write() as session:
        row = Checkpoint(run_id=run, step=step, folder=database.home.relative(folder), bytes=9_000, sha256=sha256)
        session.add(row)
        session.flush()
        adapter = Adapter(
            name=f"My can, step {step}", model="tiny", file=database.home.relative(path), sha256=sha256, rank=2
        )
        adapter.run_id, adapter.checkpoint_id, adapter.trigger = run, row.id, "sks"
        session.add(adapter)


def add_run(database: Database) -> tuple[int, int]:
    config = resolve({"model": "tiny"}, {}, {"model": ("tiny",)}).as_json()
    with database.write() as session:
        project = Project(name="My can", trigger="sks", class_word="can")
        session.add(project)
        session.flush()
        version = Version(project_id=int(project.id or 0), items=[])
        job = store.stop(session, int(store.enqueue(session, Kind.TRAIN, {}, project_id=project.id).id or 0))
        session.add(version)
        session.flush()
        run = Run(job_id=int(job.id or 0), project_id=int(project.id or 0), version_id=int(version.id or 0))
        run.name, run.config = "Run 1", config
        session.add(run)
        session.flush()
        return int(project.id or 0), int(run.id or 0)


@contextmanager
def made(home: Path, *, with_model: bool = True) -> Iterator[Scene]:
    """The scene in a folder that is empty."""
    if with_model:
        make_model_folder(home / "models" / "tiny", heads=4)
    application = create_app(home, with_jobs=False)
    with TestClient(application, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        database = application.state.database
        project, run = add_run(database)
        for step in (2, 4, 6):
            add_checkpoint(database, run, step)
        yield Scene(client, database, project, run)
