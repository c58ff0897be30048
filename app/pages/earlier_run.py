"""The settings of an earlier run, for the page of a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from app.actions import configurations, models
from app.database import Database
from app.errors import NotFound
from app.jobs import store
from app.pages.lines import ALL
from app.tables import Run
from app.wording import number
from core.config.presets import GOALS, THOROUGH_FROM_PX, TIMES, time_changes
from core.config.resolve import OLD_DEFAULTS, examine
from core.config.train import knobs

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


def earlier_run(database: Database, project_id: int, run_id: int) -> EarlierRun | None:
    """None for a run that is gone or of another project: its link leads to the plain form."""
    with database.read() as session:
        run = session.get(Run, run_id)
        if run is None or run.project_id != project_id:
            return None
        config, name, params = run.config, run.name, store.get(session, run.job_id).params
    start = params.get("start_from")
    presets = {each: str(params[each]) for each in PRESETS if params.get(each)}
    known, set_today = knobs(), _set_by(database, presets)
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
            or knob in set_today
            or number(used[knob]) != number(plain[knob])
        )
    }
    return EarlierRun(
        id=run_id,
        name=name,
        edits=edits | ({"start_from": str(start["id"])} if start else {}),
        unknown={knob: number(used[knob]) for knob in used if knob not in known},
        presets=presets,
    )


def _set_by(database: Database, presets: Mapping[str, str]) -> set[str]:
    """The knobs that these presets and this configuration may set today: to other values than they did then."""
    found: set[str] = set()
    if "goal" in presets or "time" in presets:
        found |= {change.knob for goal in GOALS.values() for change in (*goal.all_changes(""), *goal.changes)}
        found |= {change.knob for time in TIMES for change in time_changes(time, {"side_px": THOROUGH_FROM_PX}, 1)}
    if "configuration" in presets:
        rows = configurations.list_configurations(database, limit=ALL)
        found |= {knob for each in rows if each.name == presets["configuration"] for knob in each.settings}
    return found


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
