"""What earlier runs hand to the page of a new one: a run's settings, and what the base drew for its prompts."""

from __future__ import annotations

from typing import Any, TypedDict

from sqlmodel import col, select

from app.actions import models
from app.actions.run_views import picture_url
from app.database import Database
from app.errors import NotFound
from app.jobs import store
from app.tables import Job, Run, Sample
from app.wording import number
from core.config.resolve import OLD_DEFAULTS, examine
from core.config.train import knobs

BASES_AT_MOST = 200
PRESETS = ("goal", "time", "configuration")  # of a job's parameters


class EarlierRun(TypedDict):
    """A run to start again with other settings."""

    id: int
    name: str
    edits: dict[
        str, str
    ]  # what differs from today's defaults of its model, and what the user had set, as text by field
    unknown: dict[str, str]  # settings of another version, which have no field
    presets: dict[str, str]  # the names of its goal, time and configuration


class BaseSample(TypedDict):
    """A picture that the base drew at step 0 of an earlier run."""

    model: str
    prompt: str  # filled in
    seed: int
    url: str


def earlier_run(database: Database, project_id: int, run_id: int) -> EarlierRun | None:
    """None for a run that is gone or of another project: its link leads to the plain form."""
    with database.read() as session:
        run = session.get(Run, run_id)
        if run is None or run.project_id != project_id:
            return None
        config, name, params = run.config, run.name, store.get(session, run.job_id).params
    start = params.get("start_from")
    known = knobs()
    used: dict[str, Any] = {**OLD_DEFAULTS, **{knob: entry["value"] for knob, entry in config.items()}}
    plain = _plain(database, used)
    ours = {"rank", "alpha"} if start else set()  # of the adapter that it began with
    edits = {
        knob: number(used[knob])
        for knob in [
            *(each for each in config if each in known),
            *(each for each in OLD_DEFAULTS if each not in config),
        ]
        if knob not in ours
        and (
            knob in ("model", "steps")
            or config.get(knob, {}).get("source") == "user"
            or number(used[knob]) != number(plain[knob])
        )
    }
    return EarlierRun(
        id=run_id,
        name=name,
        edits=edits | ({"start_from": str(start["id"])} if start else {}),
        unknown={knob: number(used[knob]) for knob in used if knob not in known},
        presets={each: str(params[each]) for each in PRESETS if params.get(each)},
    )


def _plain(database: Database, used: dict[str, Any]) -> dict[str, Any]:
    """What a new run with this model and optimizer would have if nothing else was set."""
    try:
        defaults = dict(models.find(database, str(used.get("model"))).defaults)
    except NotFound:  # the model is no longer here
        defaults = {}
    config = examine({}, defaults).resolved.config
    chosen = {"optimizer": used.get("optimizer")}
    if used.get("rank") != config.rank:
        chosen["rank"] = used.get("rank")
    table = examine(chosen, defaults).resolved.as_json()
    return {knob: entry["value"] for knob, entry in table.items()}


def base_samples(database: Database, project_id: int) -> list[BaseSample]:
    """One picture for each model, prompt and seed, the newest; of runs that began with the base itself."""
    chosen = (
        select(Sample, Run, Job)
        .join(Run, col(Sample.run_id) == col(Run.id))
        .join(Job, col(Run.job_id) == col(Job.id))
        .where(Run.project_id == project_id, Sample.step == 0)
        .order_by(col(Sample.id).desc())
        .limit(BASES_AT_MOST)
    )
    found: dict[tuple[str, str, int], BaseSample] = {}
    with database.read() as session:
        for sample, run, job in session.exec(chosen):
            if not job.params.get("start_from"):
                model = str(run.config["model"]["value"])
                base = BaseSample(
                    model=model, prompt=sample.prompt, seed=sample.seed, url=picture_url(int(sample.id or 0))
                )
                found.setdefault((model, sample.prompt, sample.seed), base)
    return list(found.values())
