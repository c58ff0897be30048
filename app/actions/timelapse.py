"""The samples of a run as a film: an animated WebP or GIF, a frame for each step, the prompts side by side.

    frame   the pictures of one step in a grid, below them the step and how far the run was
    film    at most FRAMES frames, evenly chosen, the first and the last among them; the last stays longer

A frame's sides are at most SIDE_PX and the film is encoded frame by frame, so memory and time stay bounded however long
the run was. A film is made in a thread of the pool, one at a time, and stays in the run's folder until its samples
change.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from sqlmodel import Session, col, select

from app.actions import projects, runs
from app.database import Database
from app.errors import Conflict
from app.jobs import store
from app.tables import Sample
from core import files
from core.errors import ConfigProblem, FieldProblem

FORMATS = {"webp": "WEBP", "gif": "GIF"}
FRAMES, STEPS_AT_LEAST = 48, 2  # Pillow holds all frames of a WebP: at most 80 MB
SIDE_PX, ALONE_PX, BAR_PX, GAP_PX = 720, 512, 36, 4
FRAME_MS, LAST_MS = 350, 2400
GROUND, INK, DONE, REST = "#14181d", "#f2efe9", "#8cc1f2", "#39434e"

_turn = threading.Lock()


@dataclass(frozen=True, slots=True)
class Film:
    """An animated picture, and the name to save it under."""

    path: Path
    name: str  # <project>-<run>-timelapse.webp
    media_type: str


@dataclass(frozen=True, slots=True)
class FilmStep:
    """The pictures of one step."""

    step: int
    pictures: tuple[Path | None, ...]  # by prompt; None: not drawn, or its file is gone


def timelapse(database: Database, run_id: int, format_name: str) -> Film:
    """The film of a run's samples. Raises NotFound, Conflict for fewer than two steps, ConfigProblem for a format."""
    if format_name not in FORMATS:
        problem = FieldProblem("format", f"is {format_name!r}; it can be {' or '.join(FORMATS)}")
        raise ConfigProblem("There is no time-lapse of this format.", [problem])
    with database.read() as session:
        run = runs.find(session, run_id)
        total = store.get(session, run.job_id).steps
        name = f"{runs.file_word(projects.find(session, run.project_id).name)}-{runs.file_word(run.name)}-timelapse"
        steps, state = _steps(database, session, run_id)
    if len(steps) < STEPS_AT_LEAST:
        raise Conflict("A time-lapse needs the samples of two steps or more; this run has not drawn them yet.")
    folder = database.home.run(run_id)
    path = folder / f"timelapse-{state}.{format_name}"
    with _turn:
        if not path.is_file():
            for outdated in folder.glob(f"timelapse-*.{format_name}"):
                outdated.unlink(missing_ok=True)
            with files.atomic_file(path) as part:
                write(part, format_name, frames(chosen_steps(steps), total), len(chosen_steps(steps)))
    return Film(path, f"{name}.{format_name}", f"image/{format_name}")


def write(path: Path, format_name: str, pictures: Iterator[Image.Image], count: int) -> None:
    """Encode the frames, which are read one after the other."""
    durations = [FRAME_MS] * (count - 1) + [LAST_MS]
    how = {"save_all": True, "append_images": pictures, "duration": durations, "loop": 0}
    if format_name == "webp":
        how |= {"quality": 82, "method": 2, "minimize_size": False}
    next(pictures).save(path, FORMATS[format_name], **how)


def frames(steps: Sequence[FilmStep], total: int) -> Iterator[Image.Image]:
    """The frames of a film, all of one size."""
    columns, side = _grid(len(steps[0].pictures))
    rows = math.ceil(len(steps[0].pictures) / columns)
    size = (columns * (side + GAP_PX) - GAP_PX, rows * (side + GAP_PX) - GAP_PX + BAR_PX)
    last: dict[int, Image.Image] = {}  # by prompt: a picture stays until the next one of its prompt
    for each in steps:
        for number, path in enumerate(each.pictures):
            picture = _fitted(path, side) if path is not None else None
            if picture is not None:
                last[number] = picture
        yield _frame(each.step, total, last, columns, side, size)


def _frame(
    step: int, total: int, pictures: Mapping[int, Image.Image], columns: int, side: int, size: tuple[int, int]
) -> Image.Image:
    page = Image.new("RGB", size, GROUND)
    for number, picture in pictures.items():
        row, column = divmod(number, columns)
        page.paste(picture, (column * (side + GAP_PX), row * (side + GAP_PX)))
    pen = ImageDraw.Draw(page)
    top, width = size[1] - BAR_PX, size[0]
    pen.text((10, top + 7), f"step {step}", fill=INK, font=ImageFont.load_default(16))
    pen.rectangle((0, size[1] - 3, width, size[1]), fill=REST)
    pen.rectangle((0, size[1] - 3, round(width * min(step / max(total, 1), 1)), size[1]), fill=DONE)
    return page


def _grid(pictures: int) -> tuple[int, int]:
    """Columns, and the side of a picture: near a square, within SIDE_PX."""
    columns = math.ceil(math.sqrt(pictures))
    return columns, ALONE_PX if pictures == 1 else (SIDE_PX + GAP_PX) // columns - GAP_PX


def _fitted(path: Path, side: int) -> Image.Image | None:
    """The picture on a square of that side; None for a file that is damaged."""
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
    except OSError:
        return None
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    if small.width < side and small.height < side:  # smaller models draw smaller pictures
        share = side / max(small.size)
        small = small.resize((round(small.width * share), round(small.height * share)), Image.Resampling.BICUBIC)
    square = Image.new("RGB", (side, side), GROUND)
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return square


def _steps(database: Database, session: Session, run_id: int) -> tuple[list[FilmStep], str]:
    """The steps with samples in order, and a hash of which samples they are."""
    chosen = select(Sample).where(Sample.run_id == run_id, col(Sample.step).is_not(None))
    rows = session.exec(chosen.order_by(col(Sample.step), col(Sample.prompt_id), col(Sample.id))).all()
    prompts = sorted({row.prompt_id for row in rows})
    found: dict[int, dict[int, Path]] = {}
    for row in rows:
        path = database.home.file(row.file)
        if path.is_file():
            found.setdefault(row.step or 0, {})[row.prompt_id] = path
    state = hashlib.sha256(repr([(row.id, row.step) for row in rows]).encode()).hexdigest()[:16]
    steps = [FilmStep(step, tuple(each.get(prompt) for prompt in prompts)) for step, each in sorted(found.items())]
    return steps, state


def chosen_steps(steps: Sequence[FilmStep]) -> list[FilmStep]:
    """At most FRAMES of them, evenly, with the first and the last."""
    if len(steps) <= FRAMES:
        return list(steps)
    return [steps[round(number * (len(steps) - 1) / (FRAMES - 1))] for number in range(FRAMES)]
