"""Runs beside one another: the settings that differ, the curves, and the samples by prompt.

The runs may be of different projects, models and lengths. Two prompts are the same one where the settings of both runs
have the same words, with {trigger} and {class_word} for what each project calls its subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, select

from app.actions import models, progress, run_views
from app.actions.run_views import RunDetail
from app.database import Database
from app.errors import NotFound
from app.jobs.states import State
from app.tables import Project, Run
from app.wording import number, plural
from core.config.train import knobs
from core.errors import ConfigProblem, FieldProblem

RUNS_AT_LEAST, RUNS_AT_MOST = 2, 6
"""How many runs are compared: more lines and pictures than these cannot be told apart."""

CURVES = ("loss", "held_out")
NOT_THERE = "–"  # the value of a setting that a run of an older version has not


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One of the runs."""

    id: int
    name: str
    project_id: int
    project_name: str
    model: str  # its title
    state: State
    step: int
    steps: int
    photos: int
    suggested: int | None  # the checkpoint that the scores suggest; None where none can tell
    words: str  # the sentence about it
    starred: int | None
    checkpoints: list[int]
    curves: dict[str, list[tuple[int, float]]]  # of CURVES


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting of all the runs."""

    name: str
    label: str
    values: list[str]  # by run, as a page shows them
    differs: bool


@dataclass(frozen=True, slots=True)
class ComparedSample:
    """A picture that one of the runs drew."""

    run_id: int
    prompt_id: int  # its number among the prompts of that run
    step: int
    url: str
    seed: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt, and what each run drew for it."""

    text: str
    samples: list[ComparedSample]  # by step, then by run


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs beside one another."""

    runs: list[ComparedRun]  # in the order of the request
    settings: list[SettingRow]
    prompts: list[PromptRow]


def compare(database: Database, text: str, points: int | None = progress.POINTS_DEFAULT) -> Comparison:
    """Compare the runs whose ids `text` lists, "1,2"; each curve is thinned to `points`, and left out for None.

    Raises ConfigProblem for a list that cannot be compared, NotFound naming every run that is not there.
    """
    ids = read_ids(text)
    there = existing(database, ids)
    missing = [each for each in ids if each not in there]
    if missing:
        one = len(missing) == 1
        words = f"is no run {missing[0]}; it was" if one else f"are no runs {_list_of(missing)}; they were"
        raise NotFound(f"There {words} deleted, or never made.")
    with database.read() as session:
        details = [run_views.detail_of(session, session.get_one(Run, each)) for each in ids]
        curves = {
            each.id: progress.curves(session, each.job_id, CURVES, 0, points).series for each in details if points
        }
        projects = {each.id: each for each in session.exec(select(Project))}
        extra = [_extra_rows(each, projects.get(each.project_id)) for each in details]
    titles = {each.model: models.title(database, each.model) for each in details}
    return Comparison(
        runs=[_compared(each, titles[each.model], curves.get(each.id, {})) for each in details],
        settings=[*_rows(extra), *_knob_rows(details, titles)],
        prompts=_prompts(details),
    )


def read_ids(text: str) -> list[int]:
    """The ids of a list like "1,2". Raises ConfigProblem."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [part for part in parts if not (part.isdecimal() and part.isascii() and 0 < len(part) <= 18)]
    ids = list(dict.fromkeys(int(part) for part in parts if part not in wrong))
    if wrong:
        words = f"has {wrong[0][:40]!r}; it lists the numbers of runs, such as 1,2"
    elif not RUNS_AT_LEAST <= len(ids) <= RUNS_AT_MOST:
        words = f"lists {plural(len(ids), 'run')}; {RUNS_AT_LEAST} to {RUNS_AT_MOST} can be compared"
    else:
        return ids
    raise ConfigProblem(f"The list of runs {words}.", [FieldProblem("ids", words)])


def existing(database: Database, ids: Sequence[int]) -> list[int]:
    """Those of the ids that are runs, in their order."""
    with database.read() as session:
        found = set(session.exec(select(Run.id).where(col(Run.id).in_(ids))))
    return [each for each in ids if each in found]


def others(database: Database, ids: Sequence[int]) -> list[tuple[int, str, str]]:
    """Further runs to compare with: (id, project, name), the newest first."""
    chosen = select(Run, Project).join(Project, col(Project.id) == Run.project_id).where(col(Run.id).not_in(ids))
    with database.read() as session:
        rows = session.exec(chosen.order_by(col(Run.id).desc()))
        return [(int(run.id or 0), project.name, run.name) for run, project in rows]


def _list_of(ids: Sequence[int]) -> str:
    return f"{', '.join(str(each) for each in ids[:-1])} and {ids[-1]}"


def _compared(detail: RunDetail, title: str, curves: Mapping[str, list[tuple[int, float]]]) -> ComparedRun:
    return ComparedRun(
        id=detail.id,
        name=detail.name,
        project_id=detail.project_id,
        project_name=detail.project_name,
        model=title,
        state=detail.state,
        step=detail.step,
        steps=detail.steps,
        photos=detail.photos,
        suggested=detail.suggestion.step,
        words=detail.suggestion.words,
        starred=detail.starred,
        checkpoints=[each.step for each in detail.checkpoints],
        curves={name: curves.get(name, []) for name in CURVES},
    )


def _extra_rows(detail: RunDetail, project: Project | None) -> dict[str, str]:
    """What makes a difference and is no knob, by label."""
    return {
        "Project": detail.project_name,
        "In prompts": f"{project.trigger} {project.class_word}" if project else NOT_THERE,
        "Photos": plural(detail.photos, "photo"),
        "Begun with": detail.started_from or "nothing",
        "Likeness": detail.versions.get("likeness", NOT_THERE),
    }


def _knob_rows(details: Sequence[RunDetail], titles: Mapping[str, str]) -> list[SettingRow]:
    known = knobs()
    names = list(dict.fromkeys([*known, *(name for each in details for name in each.config)]))
    found = []
    for name in names:
        if not any(name in each.config for each in details):
            continue
        unit = known[name].unit if name in known else ""
        texts = [_text(each.config[name]["value"], unit) if name in each.config else NOT_THERE for each in details]
        if name == "model":
            texts = [titles[each.model] for each in details]
        label = known[name].label if name in known else name
        found.append(SettingRow(name, label, texts, len(set(texts)) > 1))
    return found


def _rows(extra: Sequence[Mapping[str, str]]) -> list[SettingRow]:
    return [
        SettingRow("", label, [each[label] for each in extra], len({each[label] for each in extra}) > 1)
        for label in extra[0]
    ]


def _text(value: Any, unit: str) -> str:
    text = number(value) or "none"
    return f"{text} {unit}" if unit and text != "none" else text


def _prompts(details: Sequence[RunDetail]) -> list[PromptRow]:
    """The prompts in the order in which they first appear, with the samples of each."""
    texts: dict[tuple[str, int], set[str]] = {}  # by the words in the settings: what they were filled in as
    samples: dict[tuple[str, int], list[ComparedSample]] = {}
    for detail in details:
        templates = detail.config.get("sample_prompts", {}).get("value", ())
        for each in detail.samples:
            words = templates[each.prompt_id] if each.prompt_id < len(templates) else each.prompt
            key = (words, list(templates[: each.prompt_id]).count(words))  # a run may draw one prompt twice
            texts.setdefault(key, set()).add(each.prompt)
            picture = ComparedSample(
                detail.id, each.prompt_id, each.step or 0, each.url, each.seed, each.width, each.height
            )
            samples.setdefault(key, []).append(picture)
    place = {detail.id: number for number, detail in enumerate(details)}
    return [
        PromptRow(
            text=next(iter(texts[key])) if len(texts[key]) == 1 else key[0],
            samples=sorted(found, key=lambda each: (each.step, place[each.run_id])),
        )
        for key, found in samples.items()
    ]
