"""Made-up pictures in the cells of a grid, as its job would have drawn them."""

from __future__ import annotations

from collections.abc import Iterable

from PIL import Image, ImageEnhance, ImageFilter
from sqlmodel import select

from app.database import Database
from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Lane, State
from app.jobs.store import Claim
from app.tables import Grid, Sample
from app.worker.samples import add_sample
from core.pocket import assets

SIDE_PX = 256


def begin(database: Database) -> Claim:
    """The next job of the memory lane, which must be that of a grid, as a process would claim it."""
    claim = store.claim(database, Lane.MEMORY, ProcessName.own())
    assert claim is not None
    return claim


def draw(database: Database, claim: Claim, numbers: Iterable[int]) -> None:
    """Fill these cells: sharper for later checkpoints, more colourful for more strength."""
    photos = sorted(assets.EXAMPLES.glob("*.jpg"))
    with database.read() as session:
        grid = session.exec(select(Grid).where(Grid.job_id == claim.job_id)).one()
    prompts = list(dict.fromkeys(cell["prompt"] for cell in grid.cells))
    last = max(cell["checkpoint"] or 1 for cell in grid.cells)
    for number in numbers:
        cell = grid.cells[number]
        with Image.open(photos[prompts.index(cell["prompt"]) % len(photos)]) as photo:
            picture = photo.convert("RGB").resize((SIDE_PX, SIDE_PX))
        picture = picture.filter(ImageFilter.GaussianBlur(1 + 12 * (1 - (cell["checkpoint"] or 1) / last)))
        picture = ImageEnhance.Color(picture).enhance(cell["strength"])
        path = database.home.pictures / f"{claim.job_id}-{number}.png"
        picture.save(path, compress_level=1)
        row = Sample(job_id=claim.job_id, prompt_id=number, prompt=cell["prompt"], seed=cell["seed"])
        row.adapter_strength, row.file = cell["strength"], database.home.relative(path)
        row.width = row.height = SIDE_PX
        with store.transaction(database, claim, phase="drawing", step=number + 1) as session:
            store.append_event(session, claim, "sample", add_sample(session, row))


def finish(database: Database, claim: Claim, problems: dict[int, str]) -> None:
    """End the job; cells with a problem have a sentence."""
    with database.write() as session:
        grid = session.exec(select(Grid).where(Grid.job_id == claim.job_id)).one()
        grid.problems = {str(number): sentence for number, sentence in problems.items()}
        session.add(grid)
    store.end(database, claim, State.SUCCEEDED)
