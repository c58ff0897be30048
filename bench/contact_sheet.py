"""A contact sheet drawn by its job, with Pocket: python -m bench.contact_sheet

loads      how often the model was loaded                                                     1
again      the last picture drawn once more in a fresh process: the same bits                 yes
swap       what another checkpoint costs beside drawing: the median picture after a swap, less the median without one
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from core.device import backend

backend.prepare()

from PIL import Image
from sqlmodel import col, select

from app.actions import grids, pictures
from app.actions.pictures import PictureRequest
from app.database import Database
from app.home import Home
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Lane
from app.tables import Grid, Sample
from app.worker import sheets
from app.worker.work import Shutdown, Work
from core.errors import ModelProblem
from core.hub import catalog
from core.safetensors_file import read_header, weight_files
from tests.app.checkpoint_scene import add_checkpoint, add_run

ROOT = Path(__file__).resolve().parents[1]
MODEL = "pocket"
PROMPTS = ("a photo of sks toy", "sks toy on the beach")
STRENGTHS = (0.7, 1.0)
RANK = 16


class _Running(Shutdown):
    """The job runs in this process, whose signals are its own."""

    def __init__(self) -> None:
        self._requested = threading.Event()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20, help="sampler steps of a picture")
    parser.add_argument("--side", type=int, default=256, help="of a picture, px")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        database = Database(Home(Path(place) / "home"))
        _, run = add_run(database, MODEL)
        steps = [100 * (number + 1) for number in range(arguments.checkpoints)]
        for step in steps:
            add_checkpoint(database, run, step, MODEL, _shapes(), RANK)
        axes: dict[str, Any] = {"checkpoint": steps, "prompt": list(PROMPTS), "strength": list(STRENGTHS)}
        size = {"steps": arguments.steps, "width": arguments.side, "height": arguments.side}
        grid = grids.create(database, grids.GridRequest(axes=axes, run_id=run, seed=1, **size))
        start = time.monotonic()
        with _loads_counted() as loads:
            _work(database)
        seconds = time.monotonic() - start
        _report(database, grid, seconds, len(loads))
        print(f"again      {'the same bits' if _same_again(database, grid, size) else 'OTHER BITS'}")
        database.close()


def _shapes() -> dict[str, tuple[int, int]]:
    """The attention's layers of Pocket."""
    stored = weight_files(catalog.find(MODEL).path / "transformer", "diffusion_pytorch_model")
    tensors = {name: info.shape for path in stored for name, info in read_header(path, ModelProblem).tensors.items()}
    layers = {name.removesuffix(".weight"): shape for name, shape in tensors.items() if ".attn.to_" in name}
    return {name: (shape[0], shape[1]) for name, shape in layers.items() if len(shape) == 2 and "bias" not in name}


@contextmanager
def _loads_counted() -> Iterator[list[Path]]:
    loads: list[Path] = []
    load = sheets.load_family

    def counted(path: Path, **how: Any) -> Any:
        loads.append(path)
        return load(path, **how)

    sheets.load_family = counted
    try:
        yield loads
    finally:
        sheets.load_family = load


def _work(database: Database) -> None:
    claim = store.claim(database, Lane.MEMORY, ProcessName.own())
    assert claim is not None
    with Work(database, claim, _Running()) as work:
        outcome = sheets.draw_grid(work)
    store.end(database, claim, outcome.state, result=outcome.result)


def _report(database: Database, grid: Grid, seconds: float, loads: int) -> None:
    with database.read() as session:
        rows = session.exec(select(Sample).where(Sample.job_id == grid.job_id).order_by(col(Sample.id))).all()
    gaps = [(later.created_at - earlier.created_at).total_seconds() for earlier, later in pairwise(rows)]
    cells = [grid.cells[row.prompt_id] for row in rows]
    swapped = [later["adapter"] != earlier["adapter"] for earlier, later in pairwise(cells)]
    plain = statistics.median(gap for gap, swap in zip(gaps, swapped, strict=True) if not swap)
    after = statistics.median(gap for gap, swap in zip(gaps, swapped, strict=True) if swap)
    print(f"sheet      {len(rows)} pictures in {seconds:.1f} s, {plain:.2f} s a picture")
    print(f"loads      {loads}")
    print(f"swap       {1000 * (after - plain):+.0f} ms")


def _same_again(database: Database, grid: Grid, size: dict[str, int]) -> bool:
    cell = grid.cells[-1]
    adapters = [{"id": cell["adapter"], "strength": cell["strength"]}]
    request = PictureRequest(model=MODEL, prompt=cell["prompt"], seed=cell["seed"], adapters=adapters, **size)
    job = pictures.draw(database, request)
    command = [sys.executable, "-m", "app.worker", "--home", str(database.home.root), "--lane", "memory"]
    subprocess.run(command, cwd=ROOT, check=True)
    with database.read() as session:
        again = session.exec(select(Sample).where(Sample.job_id == job)).one()
        last = Sample.prompt_id == len(grid.cells) - 1
        first = session.exec(select(Sample).where(Sample.job_id == grid.job_id, last)).one()
    with Image.open(database.home.file(again.file)) as one, Image.open(database.home.file(first.file)) as other:
        return one.tobytes() == other.tobytes()


if __name__ == "__main__":
    main()
