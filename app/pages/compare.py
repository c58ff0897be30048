"""The page of runs beside one another.

static/js/compare/ draws the samples from the JSON in the page, and fetches the curves, since they may be long (GET
/api/runs/compare).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from app.actions import comparison
from app.actions.comparison import RUNS_AT_LEAST, RUNS_AT_MOST, ComparedRun, SettingRow
from app.database import Database
from app.pages.lines import newest_event
from app.pages.render import Page


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparePage(Page):
    """Two or more runs beside one another."""

    template = "compare.html"
    after: int  # the newest event that the page knows of
    ids: str  # "1,2"
    gone: int  # how many of the runs asked for are not there
    runs: tuple[RunCard, ...]
    settings: tuple[SettingRow, ...]
    differing: int  # how many of them
    prompts: int
    data: Mapping[str, Any]  # what the page's script draws
    more: tuple[RunsOfProject, ...]  # further runs to add; empty when there is no room


@dataclass(frozen=True, slots=True)
class RunCard:
    """One of the runs, and the address of the page without it."""

    run: ComparedRun
    label: str  # "Run 3", or "Miso: Run 3" where projects differ
    without: str  # empty where too few would be left


@dataclass(frozen=True, slots=True)
class RunsOfProject:
    """Runs to add, of one project."""

    project: str
    runs: tuple[tuple[int, str], ...]  # id, name


def compare_page(database: Database, text: str) -> ComparePage:
    """Leaves out runs that are gone, as long as two are there. Raises ConfigProblem, NotFound."""
    after = newest_event(database)
    asked = comparison.read_ids(text)
    there = comparison.existing(database, asked)
    ids = there if len(there) >= RUNS_AT_LEAST else asked
    found = comparison.compare(database, ",".join(str(each) for each in ids), points=None)
    several = len({each.project_id for each in found.runs}) > 1
    labels = {each.id: f"{each.project_name}: {each.name}" if several else each.name for each in found.runs}
    return ComparePage(
        after=after,
        ids=",".join(str(each) for each in ids),
        gone=len(asked) - len(ids),
        runs=tuple(RunCard(each, labels[each.id], _without(ids, each.id)) for each in found.runs),
        settings=tuple(found.settings),
        differing=sum(row.differs for row in found.settings),
        prompts=len(found.prompts),
        data={
            "runs": [_for_script(each, labels[each.id]) for each in found.runs],
            "prompts": [asdict(each) for each in found.prompts],
        },
        more=_more(database, ids) if len(ids) < RUNS_AT_MOST else (),
    )


def _for_script(run: ComparedRun, label: str) -> dict[str, Any]:
    fields = ("id", "step", "steps", "suggested", "starred", "checkpoints")
    return {"label": label} | {name: getattr(run, name) for name in fields}


def _without(ids: list[int], left_out: int) -> str:
    rest = [str(each) for each in ids if each != left_out]
    return f"/runs/compare?ids={','.join(rest)}" if len(rest) >= RUNS_AT_LEAST else ""


def _more(database: Database, ids: list[int]) -> tuple[RunsOfProject, ...]:
    rows = sorted(comparison.others(database, ids), key=lambda row: row[1].casefold())
    return tuple(
        RunsOfProject(project, tuple((number, name) for number, _, name in members))
        for project, members in groupby(rows, key=lambda row: row[1])
    )
