"""JSON: what the page of a new run offers: presets with their costs, named configurations, and its pickers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from app.actions import configurations, layers, run_presets, sizes
from app.actions.base_samples import BaseSample, base_samples
from app.actions.configurations import ConfigurationView
from app.actions.layers import LayersView
from app.actions.run_presets import PresetsView
from app.actions.sizes import SizeView
from app.errors import TooLarge
from app.routes.files import answers_with
from app.routes.given import After, Db, Id, Limit, StrictRoute

router = APIRouter(prefix="/api", tags=["new run"], route_class=StrictRoute)


class ConfigurationBody(BaseModel):
    name: str
    settings: dict[str, Any] = Field(description="Values of knobs of core/config/train.py, by name.")


class ConfigurationChange(BaseModel):
    name: str | None = None
    settings: dict[str, Any] | None = Field(default=None, description="In the place of those that it has.")


@router.get("/configurations")
def list_configurations(db: Db, after: After = 0, limit: Limit = 200) -> list[ConfigurationView]:
    return configurations.list_configurations(db, after, limit)


@router.post("/configurations", status_code=201)
def create_configuration(db: Db, body: ConfigurationBody) -> ConfigurationView:
    """Save settings under a name."""
    return configurations.create(db, body.name, body.settings)


@router.put("/configurations/{filename:name}", status_code=201)
async def put_configuration(db: Db, filename: str, request: Request, response: Response) -> ConfigurationView:
    """The raw bytes of a file of settings, JSON or (with a name that ends with .toml) TOML.

    The same settings under the same name again: 200, the same id. Other settings under a used name: a free name.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > configurations.BYTES_AT_MOST:
            raise TooLarge(f"{filename} has more than {configurations.BYTES_AT_MOST // 2**20} MB: no settings have.")
    view, new = await run_in_threadpool(configurations.add_file, db, filename, bytes(content))
    response.status_code = 201 if new else 200
    return view


@router.get("/configurations/{configuration_id}")
def get_configuration(db: Db, configuration_id: Id) -> ConfigurationView:
    return configurations.get(db, configuration_id)


@router.patch("/configurations/{configuration_id}")
def change_configuration(db: Db, configuration_id: Id, body: ConfigurationChange) -> ConfigurationView:
    return configurations.change(db, configuration_id, body.name, body.settings)


@router.delete("/configurations/{configuration_id}", status_code=204)
def delete_configuration(db: Db, configuration_id: Id) -> None:
    configurations.delete(db, configuration_id)


@router.get("/configurations/{configuration_id}/file", **answers_with("application/octet-stream"))
def configuration_file(
    db: Db, configuration_id: Id, file_format: str = Query("json", alias="format", description="json or toml.")
) -> Response:
    """The settings as a file that `likeness train --config` and `PUT /api/configurations/{filename}` read."""
    file = configurations.export(db, configuration_id, file_format)
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name)}"}
    return Response(file.text, media_type="application/octet-stream", headers=headers)


@router.get("/projects/{project_id}/presets")
def presets(
    db: Db, project_id: Id, request: Request, model: str = "pocket", goal: str = "", time: str = ""
) -> PresetsView:
    """Presets by goal and by time, each with what it sets on this model and what a run with it costs here.

    `goal` and `time` are those chosen, which the costs of the others go with; knobs may be given as well, and override.
    """
    given = {k: v for k, v in request.query_params.items() if k not in ("model", "goal", "time") and v != ""}
    return run_presets.presets_view(db, project_id, model, goal, time, given)


@router.get("/projects/{project_id}/bases")
def bases(db: Db, project_id: Id) -> list[BaseSample]:
    """What the base itself drew so far, the newest of each model, prompt and seed: step 0 of runs, and pictures."""
    return base_samples(db, project_id)


@router.get("/projects/{project_id}/sizes")
def photo_sizes(
    db: Db, project_id: Id, model: str = "pocket", side_px: str = "", more_sides_px: str = "", shapes: str = ""
) -> list[SizeView]:
    """For each picture size of a run, the sizes that its photos are trained at, and how many photos fall in each."""
    given = {"side_px": side_px, "more_sides_px": more_sides_px, "shapes": shapes}
    return sizes.sizes(db, project_id, model, {name: value for name, value in given.items() if value})


@router.get("/models/{name}/layers")
def model_layers(db: Db, name: str, targets: str = "all_linear") -> LayersView:
    """The blocks of a model, its presets of layers, and which of them the knob `targets` chooses."""
    return layers.layers(db, name, targets)
