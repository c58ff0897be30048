"""Train on without a photo: it is set aside, and a new run begins from a checkpoint of this one.

    photos    those of the set as it is now, without the ones that are set aside here: a new version of the set
    start     the adapter of a checkpoint: the starred one, else the suggested one, else the newest
    knobs     those that the user set for the earlier run
    held out  the same photos by name: any other one has been trained on, so that no score on it says anything

Setting aside is a step that can be undone in the dataset, whatever becomes of the new run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlmodel import select

from app.actions import run_setup, runs
from app.actions.photo_views import active
from app.actions.run_views import RunDetail
from app.database import Database
from app.errors import Conflict
from app.jobs.states import State
from app.tables import Adapter, Checkpoint
from app.wording import plural
from core.config.train import knobs
from core.errors import ConfigProblem, FieldProblem

OF_THE_ADAPTER = {"rank", "alpha"}  # a run that begins with an adapter has those of its file


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen, in a sentence, or why it cannot."""

    words: str
    problems: list[FieldProblem]
    step: int | None  # of the checkpoint
    adapter_id: int | None
    aside: list[int]  # ids of the photos to set aside
    held_out: str  # the knob of the new run
    running: bool  # the earlier run has not ended


def plan(database: Database, run_id: int, photo_ids: Sequence[int], step: int | None = None) -> Plan:
    """Changes nothing. Raises NotFound for the run."""
    detail = runs.get_run(database, run_id)
    names = {item["photo_id"]: item["name"] for item in detail.items}
    unseen = {each.photo_id: each.name for each in detail.photo_scores if each.held_out}
    wanted = list(dict.fromkeys(photo_ids))
    problems = _photo_problems(wanted, names, unseen)
    with database.read() as session:
        now = {int(row.id or 0): row.name for row in session.exec(active(detail.project_id))}
    left = {number: name for number, name in now.items() if number not in wanted}
    if not problems and not left.keys() - unseen.keys():
        gone = _listed([names[each] for each in wanted])
        words = f"Without {gone} no photo is left to train on. Add others to the set first, or take some back."
        problems.append(FieldProblem("photo_ids", words))
    chosen, adapter_id, more = _start(database, detail, step)
    still = [name for number, name in unseen.items() if number in left]
    without = _listed([names[each] for each in wanted if each in names])
    words = (
        f"Sets {without} aside, which you can undo, and begins a new run from step {chosen} of {detail.name} on the "
        f"other {plural(len(left), 'photo')} of the set as it is now."
    )
    return Plan(
        words=words,
        problems=[*problems, *more],
        step=chosen,
        adapter_id=adapter_id,
        aside=[each for each in wanted if each in now],
        held_out=_by_name(still),
        running=detail.state in (State.QUEUED, State.RUNNING),
    )


def train_on_without(
    database: Database, run_id: int, photo_ids: Sequence[int], step: int | None = None, *, stop: bool = False
) -> RunDetail:
    """Set the photos aside and queue the new run, both or neither; with `stop`, stop the earlier one if it has not
    ended. Without it the new run waits in the queue.

    Raises NotFound, ConfigProblem that names everything that is wrong.
    """
    planned = plan(database, run_id, photo_ids, step)
    if planned.problems:
        raise ConfigProblem("This run cannot go on without these photos.", planned.problems)
    detail = runs.get_run(database, run_id)
    names = {item["photo_id"]: item["name"] for item in detail.items}
    created = run_setup.create(
        database,
        detail.project_id,
        _knobs_of(detail) | {"held_out": planned.held_out},
        start_from=planned.adapter_id,
        aside=planned.aside,
        without=[names[each] for each in dict.fromkeys(photo_ids)],
    )
    if stop and planned.running:
        with suppress(Conflict):  # it ended meanwhile
            runs.stop(database, run_id)
    return created


def _photo_problems(wanted: Sequence[int], names: dict[int, str], unseen: dict[int, str]) -> list[FieldProblem]:
    if not wanted:
        return [FieldProblem("photo_ids", "Name the photos to train on without.")]
    problems = [
        FieldProblem("photo_ids", f"This run has no photo {number}.") for number in wanted if number not in names
    ]
    for number in wanted:
        if number in unseen:
            only = " It is the only one: without it, no photo would be left that the adapter has never seen."
            words = f"{unseen[number]} is held out: the run is scored on it and does not train on it."
            words += only if len(unseen) == 1 else " Set it aside in the dataset if you do not want it scored."
            problems.append(FieldProblem("photo_ids", words))
    return problems


def _start(
    database: Database, detail: RunDetail, step: int | None
) -> tuple[int | None, int | None, list[FieldProblem]]:
    """(step, id of the adapter, problems) of the checkpoint to begin from."""
    saved = [each.step for each in detail.checkpoints]
    if not saved:
        waits = detail.state in (State.QUEUED, State.RUNNING)
        then = "Press “Save now”, or wait for its first one." if waits else "Train again instead."
        return None, None, [FieldProblem("step", f"{detail.name} has no checkpoint to begin from. {then}")]
    suggested = detail.suggestion.step if detail.suggestion.step in saved else None
    chosen = step if step is not None else (detail.starred or suggested or saved[-1])
    if chosen not in saved:
        there = ", ".join(map(str, saved))
        return None, None, [FieldProblem("step", f"There is no checkpoint of step {chosen}; there is {there}.")]
    with database.read() as session:
        of_step = select(Adapter.id).join(Checkpoint).where(Checkpoint.run_id == detail.id, Checkpoint.step == chosen)
        adapter_id = session.exec(of_step).first()
    file = runs.adapter_bytes(database, detail.id, chosen)
    if adapter_id is None or file is None:
        words = f"The adapter of step {chosen} is no longer there; choose another checkpoint."
        return None, None, [FieldProblem("step", words)]
    return chosen, adapter_id, []


def _knobs_of(detail: RunDetail) -> dict[str, Any]:
    """The settings that the user made for a run, and its model and steps."""
    return {
        name: entry["value"]
        for name, entry in detail.config.items()
        if name in knobs() and name not in OF_THE_ADAPTER and (entry["source"] == "user" or name in ("model", "steps"))
    }


def _by_name(names: Sequence[str]) -> str:
    """The knob `held_out` that holds out these photos; one with a comma in its name can only be alone."""
    if len(names) == 1:
        return names[0]
    return ", ".join(name for name in names if "," not in name) or "none"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
