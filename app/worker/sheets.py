"""The pictures of a grid as a job: the model is loaded once, its adapters are swapped, and a waiting run goes first.

    left      cells without a picture and without a problem, those of one adapter after another
    a cell    its adapter on the transformer, where the one before had another; its strength; one picture
    between   a training that waits in the lane gets the lane: this job waits behind it, and goes on where it was

A cell whose adapter is gone, or whose picture is not finite, gets a sentence; the others are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import select

from app.actions import grid_views, models
from app.jobs import lane_queue, store
from app.jobs.states import Lane, State
from app.tables import Grid, Sample
from app.worker.drawing import attach_adapters, copied, draw_one, drawn_without_adapters
from app.worker.outcome import Outcome
from app.worker.samples import add_sample
from app.worker.work import Work
from core.adapters.adapted import OnLayer
from core.adapters.lora import Attached
from core.config.choices import BITS
from core.errors import AdapterProblem, PictureProblem
from core.hub import catalog
from core.models.base import Conditioning, Family
from core.models.load import load_family

Cell = dict[str, Any]


def draw_grid(work: Work) -> Outcome:
    """Draw the pictures that are left; those that are done stay however the job ends.

    Raises Stopped, the problems of the model, and AdapterProblem if no picture at all could be drawn.
    """
    params = work.job.params
    grid, done, left = _state(work)
    drawing: _Drawing | None = None
    for count, number in enumerate(left, start=done):
        if (position := _behind_runs(work)) is not None:
            work.log(f"A run goes first; {len(grid.cells) - count} pictures are left to draw.")
            return Outcome(State.QUEUED, position=position)
        drawing = drawing or _Drawing(work, params, [grid.cells[each]["prompt"] for each in left])
        work.report_phase("drawing", count, len(grid.cells))
        try:
            row = drawing.picture(grid.cells[number], number)
        except (AdapterProblem, PictureProblem) as problem:
            _give_up(work, grid, number, problem.message, count + 1)
            continue
        with work.transaction(step=count + 1) as session:
            store.append_event(session, work.claim, "sample", add_sample(session, row))
    work.report_phase("drawing", len(grid.cells), len(grid.cells))
    _raise_without_picture(work, grid)
    return Outcome(State.SUCCEEDED)


class _Drawing:
    """The model and its encoded prompts, with the adapters of one cell at a time on it."""

    def __init__(self, work: Work, params: Mapping[str, Any], prompts: Sequence[str]) -> None:
        work.report_phase("loading the model", 0, 1)
        self._work, self._params = work, params
        bits = BITS[params["base_precision"]]
        self._family: Family = load_family(
            catalog.find(params["model"], models.folders(work.database)).path, quantize=bits
        )
        texts = list(dict.fromkeys([*prompts, ""]))
        encoded = self._family.encode_each(texts)  # once, and before the transformer is in memory
        self._texts: dict[str, Conditioning] = dict(zip(texts, encoded, strict=True))
        self._files = {each["id"]: each for each in params["adapters"]}
        self._attached: list[Attached[OnLayer]] = []
        self._ids: list[int] = []  # of the adapters that are attached

    def picture(self, cell: Cell, number: int) -> Sample:
        """The picture of a cell, with its file. Raises Stopped, AdapterProblem, PictureProblem."""
        own = [{"id": cell["adapter"], "strength": cell["strength"]}] if cell["adapter"] is not None else []
        used = [{**self._files[each["id"]], "strength": each["strength"]} for each in (*own, *self._params["fixed"])]
        strengths = [float(each["strength"]) for each in used]
        params = {**self._params, "prompt": cell["prompt"], "adapters": used}
        self._attach(used)
        earlier = None if any(strengths) else drawn_without_adapters(self._work, self._family, params, cell["seed"])
        row = copied(self._work, earlier, params, strengths, number) if earlier is not None else None
        texts = [self._texts[cell["prompt"]], self._texts[""]]
        return row or draw_one(self._work, self._family, params, texts, strengths, number, cell["seed"])

    def _attach(self, used: Sequence[dict[str, Any]]) -> None:
        """Have these adapters on the transformer, in this order, which decides how their sum is rounded."""
        ids = [each["id"] for each in used]
        if ids != self._ids:
            for attached in reversed(self._attached):
                attached.detach()
            self._attached, self._ids = [], []
            for each in used:
                if not self._work.home.file(each["file"]).is_file():
                    raise AdapterProblem(f"{each['name']} was deleted before this picture was drawn.")
            self._attached, self._ids = attach_adapters(self._work, self._family, used), ids
        for adapter, each in zip(self._attached, used, strict=True):
            adapter.strength = each["strength"]


def _state(work: Work) -> tuple[Grid, int, list[int]]:
    """The grid, how many of its cells are done, and the numbers of the others in the order in which they are drawn."""
    with work.database.read() as session:
        grid = session.exec(select(Grid).where(Grid.job_id == work.claim.job_id)).one()
        done = {*grid_views.samples_of(session, grid), *(int(number) for number in grid.problems)}
    adapters = list(dict.fromkeys(cell["adapter"] for cell in grid.cells))
    left = [number for number in range(len(grid.cells)) if number not in done]
    return grid, len(done), sorted(left, key=lambda number: adapters.index(grid.cells[number]["adapter"]))


def _behind_runs(work: Work) -> float | None:
    with work.database.read() as session:
        return lane_queue.behind_runs(session, Lane.MEMORY)


def _give_up(work: Work, grid: Grid, number: int, sentence: str, step: int) -> None:
    work.log(f"Picture {number + 1}: {sentence}", "warning")
    with work.transaction(step=step) as session:
        row = session.get_one(Grid, grid.id)
        row.problems = row.problems | {str(number): sentence}
        session.add(row)


def _raise_without_picture(work: Work, grid: Grid) -> None:
    with work.database.read() as session:
        row = session.get_one(Grid, grid.id)
        if not grid_views.samples_of(session, row):
            raise AdapterProblem(f"No picture of this grid could be drawn. {next(iter(row.problems.values()), '')}")
