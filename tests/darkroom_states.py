"""A home whose darkroom has drawings in every state, made in seconds: rows and made-up pictures, no model is loaded.

Nobody executes these jobs: serve the home with `serving`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlmodel import select

from app.actions import pictures
from app.actions.picture_plan import plan
from app.actions.pictures import PictureRequest
from app.database import Database
from app.home import Home
from app.jobs.states import State
from app.tables import Adapter, Event, Grid, Job, Sample, now
from app.worker.samples import add_sample
from core.pocket import assets
from tests import run_states

DONE = next(scene for scene in run_states.SCENES if scene.name == "done")
PLACES = ("on the beach", "in the city", "in the snow", "in the jungle", "on a carpet", "at night")
SHAPES = ((256, 256), (320, 256), (256, 352))
FAILURE = {"code": "memory", "message": "There was not enough memory for this. Draw a smaller picture."}


def make(folder: Path, drawings: int = 6) -> None:
    """A run with checkpoints; then `drawings` that are done, one that failed, one that draws and one that waits."""
    run_states.make(folder, [DONE])
    database = Database(Home(folder))
    newest, older = adapters_of(database)[:2]
    for number in range(drawings):
        width, height = SHAPES[number % len(SHAPES)]
        draw(
            database,
            prompt=f"a photo of sks toy {PLACES[number % len(PLACES)]}",
            adapters=[{"id": newest, "strengths": [0.6, 1, 1.4][: 1 + number % 3]}],
            seed=3 + number,
            count=1 + number % 2,
            without=True,
            width=width,
            height=height,
        )
    both = [{"id": newest, "strength": 0.8}, {"id": older, "strength": 0.5}]
    draw(database, prompt="two of them at once", adapters=both, seed=9)
    draw(database, prompt="a teapot as the base draws it", seed=1)
    draw(database, prompt="a photo of sks toy in a storm", adapters=[{"id": newest}], state=State.FAILED, of=0, seed=2)
    going = {"adapters": [{"id": newest, "strengths": [0.8, 1.2]}], "without": True, "seed": 5}
    draw(database, prompt="a photo of sks toy at sea", state=State.RUNNING, of=1, **going)
    draw(database, prompt="a photo of sks toy on the moon", state=State.QUEUED, of=0, **going)
    database.close()


def many(folder: Path, count: int) -> None:
    """As many pictures as that, eight of each drawing."""
    run_states.make(folder, [DONE])
    database = Database(Home(folder))
    newest = adapters_of(database)[0]
    for number in range(count // 8):
        request = {"adapters": [{"id": newest, "strengths": [0.8, 1]}], "count": 4, "seed": 10 * number}
        draw(database, prompt=f"picture {number} of sks toy", shared_file=True, **request)
    database.close()


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """The studio over `home`, without its supervisor, on a port of its own; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with run_states.served(home, port) as address:
        yield address


def adapters_of(database: Database) -> list[int]:
    """Ids, the newest first."""
    with database.read() as session:
        return sorted((int(each or 0) for each in session.exec(select(Adapter.id))), reverse=True)


def draw(
    database: Database,
    *,
    state: State = State.SUCCEEDED,
    of: int | None = None,
    shared_file: bool = False,
    **given: Any,
) -> int:
    """A drawing in `state` with the first `of` of its pictures, all of them otherwise; returns its job's id."""
    job_id = pictures.draw(database, PictureRequest(**given))
    with database.write() as session:
        job = session.get_one(Job, job_id)
        planned = plan(job.params)[:of]
        job.state, job.attempt, job.step = state, 1 if state is not State.QUEUED else 0, len(planned)
        job.started_at = job.heartbeat_at = now() - timedelta(seconds=60)
        job.phase = "drawing" if state is State.RUNNING else ""
        job.error = FAILURE if state is State.FAILED else None
        session.add(job)
        for each in planned:
            recipe = recipe_of(job.params, each.seed, each.strengths)
            path = database.home.pictures / ("shared.png" if shared_file else f"{job_id}-{each.place}.png")
            if not path.is_file():
                _picture(path, job.params, recipe, max(each.strengths, default=0.0), job_id)
            at = now() - timedelta(seconds=50 - each.place)
            took = job.params["width"] * job.params["height"] / 256**2  # a second for a picture of Pocket
            for kind, payload, when in (("phase", {"name": "drawing", "done": each.place}, took), ("sample", {}, 0)):
                event = Event(job_id=job_id, attempt=1, kind=kind, payload=payload, at=at - timedelta(seconds=when))
                session.add(event)
                session.flush()
            row = Sample(
                job_id=job_id, prompt_id=each.place, prompt=job.params["prompt"], seed=each.seed, recipe=recipe
            )
            row.adapter_strength = next(iter(each.strengths), 0.0)
            row.file, row.width, row.height = database.home.relative(path), job.params["width"], job.params["height"]
            session.add(row)
    return job_id


def fill_grid(folder: Path, grid_id: int, numbers: Iterable[int]) -> None:
    """Draw these cells of a grid, as its job would, one after the other."""
    database = Database(Home(folder))
    for number in numbers:
        with database.write() as session:
            grid = session.get_one(Grid, grid_id)
            job = session.get_one(Job, grid.job_id)
            cell = grid.cells[number]
            path = database.home.pictures / f"{grid.job_id}-{number}.png"
            used = [each | {"strength": cell["strength"]} for each in job.params["adapters"][:1]]
            params = {**job.params, "adapters": used, "prompt": cell["prompt"]}
            recipe = recipe_of(params, cell["seed"], (cell["strength"],))
            _picture(path, params, recipe, cell["strength"] * (cell["checkpoint"] or 400) / 400, cell["seed"])
            row = Sample(job_id=grid.job_id, prompt_id=number, prompt=cell["prompt"], seed=cell["seed"], recipe=recipe)
            row.file, row.width, row.height = database.home.relative(path), job.params["width"], job.params["height"]
            session.add(Event(job_id=grid.job_id, kind="sample", payload=add_sample(session, row)))
    database.close()


def recipe_of(params: Mapping[str, Any], seed: int, strengths: tuple[float, ...]) -> dict[str, Any]:
    """As the worker writes it, with the hashes of no model."""
    used = [
        {"sha256": each["sha256"], "strength": strength}
        for each, strength in zip(params["adapters"], strengths, strict=True)
    ]
    kept = {name: params[name] for name in ("prompt", "steps", "guidance")}
    size = {"width_px": params["width"], "height_px": params["height"]}
    made = {"family": "flux1", "model": {}, "precision": "full", "device": "cpu", "dtype": "float32", "mlx": "0"}
    return {
        **kept,
        **size,
        **made,
        "seed": seed,
        "model_name": params["model"],
        "negative_prompt": "",
        "adapters": used,
    }


def _picture(path: Path, params: Mapping[str, Any], recipe: dict[str, Any], strength: float, number: int) -> None:
    """A photo of the example, moved towards another colour by the strength."""
    photos = sorted(assets.EXAMPLES.glob("*.jpg"))
    size = (params["width"], params["height"])
    with Image.open(photos[number % len(photos)]) as photo:
        image = photo.convert("RGB").resize(size)
    text = PngInfo()
    text.add_text("recipe", json.dumps(recipe))
    other = Image.new("RGB", size, (40, 90, 150))
    Image.blend(other, image, min(1.0, 0.35 + 0.65 * strength)).save(path, pnginfo=text, compress_level=1)
