"""The shape in which a project's photos will probably be trained: as in its newest run, else as the first model's."""

from __future__ import annotations

from sqlmodel import col, select

from app.actions import models
from app.database import Database
from app.tables import Run
from core.config.train import TrainConfig


def config_of(database: Database, project_id: int) -> TrainConfig:
    """The defaults, but for the knobs that choose buckets."""
    with database.read() as session:
        run = session.exec(
            select(Run).where(Run.project_id == project_id).order_by(col(Run.id).desc()).limit(1)
        ).first()
    if run is not None:
        used = {name: entry["value"] for name, entry in run.config.items()}
    else:
        first = next((each for each in models.entries(database) if each.usable and each.trains), None)
        used = dict(first.defaults) if first is not None else {}
    plain = TrainConfig()
    shapes = used.get("shapes", plain.shapes)
    return TrainConfig(
        shapes="square" if shapes == "square" else "as_photographed", side_px=int(used.get("side_px", plain.side_px))
    )
