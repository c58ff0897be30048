"""The contact sheet of a run's page: what it draws unless the user chooses otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.actions import models
from app.actions.run_views import RunDetail
from app.database import Database
from core.config.resolve import resolve
from core.errors import ConfigProblem

CHECKPOINTS = 6  # chosen at first, evenly
STRENGTHS = (0.7, 1.0)


@dataclass(frozen=True, slots=True)
class SheetData:
    """What the sheet's script begins with."""

    prompts: tuple[str, ...]  # the run's sample prompts, filled in
    strengths: tuple[float, ...]
    checkpoints: int  # how many are chosen at first
    request: dict[str, Any]  # the rest of the body of POST /api/grids: as the run draws its samples


def sheet_data(database: Database, detail: RunDetail, prompts: Sequence[str], subject: str) -> SheetData:
    """`prompts` as the run draws them; without any, a plain one of the `subject`."""
    values = {name: entry["value"] for name, entry in detail.config.items()}
    try:
        config = resolve(values, {}, {"model": (detail.model,)}).config
    except ConfigProblem:  # a run of an earlier version
        config = resolve({}, {}).config
    request: dict[str, Any] = {
        "project_id": detail.project_id,
        "run_id": detail.id,
        "model": models.draws_with(database, detail.model),
        "seed": config.sample_seed,
        "width": config.side_px,
        "height": config.side_px,
    }
    if request["model"] == detail.model:  # a distilled one draws with numbers of its own
        request |= {"steps": config.sample_steps, "guidance": config.sample_guidance}
    return SheetData(tuple(prompts) or (f"a photo of {subject}",), STRENGTHS, CHECKPOINTS, request)
