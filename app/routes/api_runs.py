"""JSON: training runs, their curves, and their adapters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from app.actions import adapters, estimate, exports, run_setup, runs
from app.actions.adapters import AdapterView
from app.actions.run_presets import Chosen
from app.actions.run_views import RunDetail, RunView
from app.jobs.states import State
from app.routes.api_projects import JobStarted
from app.routes.files import answers_with, attachment, received
from app.routes.given import ID_AT_MOST, After, Db, Id, Limit, OneProblem, StrictRoute
from core.config.train import default_of, kind_of, knobs
from core.errors import FieldProblem

router = APIRouter(prefix="/api", tags=["runs"], route_class=StrictRoute)
Step = Annotated[int | None, Query(ge=0, le=ID_AT_MOST)]
ConfigBytes = Annotated[int, Query(ge=0, le=adapters.CONFIG_BYTES_AT_MOST)]


class StopBody(BaseModel):
    now: bool = False


class ResumeBody(BaseModel):
    steps: int | str | None = Field(default=None, description="How many steps the run should have in all.")
    activations: str | None = Field(default=None, description="Gradient checkpointing: as_fit, all or none.")


class NameBody(BaseModel):
    name: str


class ExportBody(BaseModel):
    run: int
    step: int | None = None
    format: str = Field(default="diffusers", description="diffusers, kohya or merged.")
    strength: float = Field(default=1.0, description="How much of the adapter a merged file holds.")


class StateNow(BaseModel):
    state: State


class ProblemsFound(BaseModel):
    problems: list[OneProblem]


class CurvesBody(BaseModel):
    series: dict[str, list[tuple[int, float]]]
    last_event_id: int


@router.get("/projects/{project_id}/runs")
def list_runs(db: Db, project_id: Id, after: After = 0, limit: Limit = 200) -> list[RunView]:
    return runs.list_runs(db, project_id, after, limit)


@router.post("/projects/{project_id}/runs", status_code=201)
def create_run(db: Db, project_id: Id, body: dict[str, Any] = Body()) -> RunDetail:  # noqa: B008
    """Every knob of core/config/train.py by its name, "name", and "start_from", an adapter's id to begin with.

    Knobs left out take the value of "configuration" (an id), else of the presets "goal" and "time", else the model's.
    """
    return run_setup.create(db, project_id, *_asked(body))


@router.post("/projects/{project_id}/runs/check")
def check_run(db: Db, project_id: Id, body: dict[str, Any] = Body()) -> ProblemsFound:  # noqa: B008
    """Every problem for which the same body would be refused as a run; changes nothing."""
    return _found(run_setup.check(db, project_id, *_asked(body)))


def _found(problems: Sequence[FieldProblem]) -> ProblemsFound:
    return ProblemsFound(problems=[OneProblem(field=each.field, message=each.message) for each in problems])


def _asked(body: dict[str, Any]) -> tuple[dict[str, Any], str, Any, Chosen]:
    """The knobs, the name, the adapter to start from, the presets and the configuration."""
    given = dict(body)
    chosen = Chosen(*(given.pop(field, None) for field in ("goal", "time", "configuration")))
    return given, str(given.pop("name", None) or ""), given.pop("start_from", None), chosen


@router.get("/projects/{project_id}/suggestion")
def suggestion(db: Db, project_id: Id, request: Request, model: str = "pocket") -> estimate.Suggestion:
    """How many steps suit this project's photos, and how long they take; any knob may be given as well."""
    given = {key: value for key, value in request.query_params.items() if key != "model" and value != ""}
    return run_setup.suggest(db, project_id, model, given)


@router.get("/knobs")
def list_knobs() -> list[dict[str, Any]]:
    """Every knob of a run, with what a form needs to show it."""
    return [
        {
            "name": name,
            "kind": kind_of(name),
            "default": default_of(name),
            "label": knob.label,
            "sentence": knob.sentence,
            "group": knob.group,
            "at_least": knob.at_least,
            "at_most": knob.at_most,
            "above": knob.above,
            "unit": knob.unit,
            "choices": list(knob.choices),
            "front": knob.front,
        }
        for name, knob in knobs().items()
    ]


@router.get("/runs")
def list_all_runs(db: Db, after: After = 0, limit: Limit = 200) -> list[RunView]:
    return runs.list_runs(db, None, after, limit)


@router.get("/runs/{run_id}")
def get_run(db: Db, run_id: Id) -> RunDetail:
    return runs.get_run(db, run_id)


@router.patch("/runs/{run_id}")
def rename_run(db: Db, run_id: Id, body: NameBody) -> RunDetail:
    return runs.rename(db, run_id, body.name)


@router.delete("/runs/{run_id}", status_code=204)
def delete_run(db: Db, run_id: Id) -> None:
    runs.delete(db, run_id)


@router.post("/runs/{run_id}/stop", status_code=202)
def stop_run(db: Db, run_id: Id, body: StopBody | None = None) -> StateNow:
    return StateNow(state=runs.stop(db, run_id, at_once=bool(body and body.now)))


@router.post("/runs/{run_id}/resume", status_code=202)
def resume_run(db: Db, run_id: Id, body: ResumeBody | None = None) -> StateNow:
    given = body or ResumeBody()
    return StateNow(state=runs.resume(db, run_id, steps=given.steps, activations=given.activations))


@router.post("/runs/{run_id}/resume/check")
def check_resume(db: Db, run_id: Id, body: ResumeBody) -> ProblemsFound:
    """Every problem with the numbers for which the same body would be refused; changes nothing."""
    return _found(runs.check_resume(db, run_id, body.steps, body.activations))


@router.post("/runs/{run_id}/save", status_code=202)
def save_run(db: Db, run_id: Id) -> StateNow:
    return StateNow(state=runs.save(db, run_id))


@router.post("/runs/{run_id}/sample", status_code=202)
def sample_run(db: Db, run_id: Id) -> StateNow:
    return StateNow(state=runs.sample(db, run_id))


@router.get("/runs/{run_id}/metrics", response_model=CurvesBody)
def run_metrics(
    db: Db,
    run_id: Id,
    names: str = Query("", description="Comma-separated; all when left out."),
    after: After = 0,
    points: Annotated[int, Query(ge=4, le=20_000)] = 1000,
) -> Response:
    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    curves = runs.metrics(db, run_id, wanted, after, points)
    # As text at once: checking tens of thousands of numbers against the model would take longer than reading them.
    body = json.dumps({"series": curves.series, "last_event_id": curves.last_event_id}, separators=(",", ":"))
    return Response(body, media_type="application/json")


@router.get("/runs/{run_id}/adapter", **answers_with("application/octet-stream"))
def run_adapter(db: Db, run_id: Id, step: Step = None) -> Response:
    file = runs.adapter_file(db, run_id, step)
    return attachment(file.path, file.name)


@router.get("/runs/{run_id}/log", **answers_with("text/plain"))
def run_log(db: Db, run_id: Id) -> Response:
    return Response(runs.log_text(db, run_id), media_type="text/plain; charset=utf-8")


@router.post("/exports", status_code=202)
def start_export(db: Db, body: ExportBody) -> JobStarted:
    return JobStarted(job_id=exports.export(db, body.run, body.step, body.format, body.strength))


@router.get("/exports/{job_id}/file", **answers_with("application/octet-stream"))
def exported_file(db: Db, job_id: Id) -> Response:
    file = exports.exported_file(db, job_id)
    return attachment(file.path, file.name)


@router.get("/adapters")
def list_adapters(db: Db, after: After = 0, limit: Limit = 500) -> list[AdapterView]:
    return adapters.list_adapters(db, after, limit)


@router.put("/adapters/{name:name}", status_code=201)
async def put_adapter(
    db: Db, name: str, request: Request, response: Response, model: str | None = None, config_bytes: ConfigBytes = 0
) -> AdapterView:
    """Raw bytes of a .safetensors LoRA that was made elsewhere, for `model`, or for one whose layers it fits.

    With `config_bytes` the last so many bytes of the body are the adapter_config.json that came with it.
    """
    async with received(request, db.home.uploads, adapters.BYTES_AT_MOST, name, config_bytes) as upload:
        found = (db, name, upload.path, upload.sha256, model, upload.tail)
        view, new = await run_in_threadpool(adapters.import_file, *found)
    response.status_code = 201 if new else 200
    return view


@router.get("/adapters/{adapter_id}/file", **answers_with("application/octet-stream"))
def adapter_file(db: Db, adapter_id: Id) -> Response:
    file = adapters.file_of(db, adapter_id)
    return attachment(file.path, file.name)


@router.patch("/adapters/{adapter_id}")
def rename_adapter(db: Db, adapter_id: Id, body: NameBody) -> AdapterView:
    return adapters.rename(db, adapter_id, body.name)


@router.delete("/adapters/{adapter_id}", status_code=204)
def delete_adapter(db: Db, adapter_id: Id) -> None:
    adapters.delete(db, adapter_id)
