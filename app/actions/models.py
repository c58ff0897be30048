"""The models a run can start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import Conflict, NotFound
from core import catalog
from core.errors import ModelProblem


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model of the catalog."""

    name: str
    title: str
    what_for: str
    licence: str
    on_disk: bool
    trouble: str | None  # why it cannot be used as it lies there
    parameters: int | None  # of the transformer
    defaults: Mapping[str, Any]  # knobs it sets; see core/config.py
    drawing: Mapping[str, Any]  # {"steps", "guidance", "side_px"}: how it is drawn with best


def list_models() -> list[ModelView]:
    """Every model in the catalog, with what is on this computer."""
    return [_view(entry) for entry in catalog.models().values()]


def get_model(name: str) -> ModelView:
    """Raises NotFound."""
    return _view(find(name))


def find(name: str) -> catalog.Entry:
    """Raises NotFound, with the names there are."""
    known = catalog.models()
    if name not in known:
        raise NotFound(f"There is no model called {name}; there is {', '.join(known)}.")
    return known[name]


def names() -> tuple[str, ...]:
    """Names of the models that are on this computer."""
    return tuple(name for name, entry in catalog.models().items() if entry.on_disk)


def download(name: str) -> int:
    """Fetch a model in a job; returns the job's id. Raises NotFound, Conflict when there is nothing to fetch."""
    entry = find(name)
    if entry.on_disk:
        raise Conflict(f"{entry.title} is on this computer already.")
    raise Conflict(f"{entry.title} cannot be downloaded from here yet.")


def _view(entry: catalog.Entry) -> ModelView:
    trouble, parameters = None, None
    try:
        parameters = entry.parameters
    except ModelProblem as problem:
        trouble = problem.message
    return ModelView(
        name=entry.name,
        title=entry.title,
        what_for=entry.what_for,
        licence=entry.licence,
        on_disk=entry.on_disk,
        trouble=trouble,
        parameters=parameters,
        defaults=dict(entry.defaults),
        drawing=dict(entry.drawing),
    )
