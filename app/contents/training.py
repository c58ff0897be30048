"""The page of one run: what it has drawn, saved and said so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlmodel import col, select

from app import wording
from app.actions import models, projects, runs
from app.actions.run_views import RunDetail, SampleView
from app.contents.lines import newest_event
from app.database import Database
from app.jobs.states import State
from app.knob_fields import SOURCES, fields
from app.page_parts import (
    CheckpointLine,
    ClassPictures,
    Grid,
    GridCell,
    GridPrompt,
    GridRow,
    LogLine,
    RunNow,
    UsedKnob,
    VerdictNote,
)
from app.pages import RunPage
from app.tables import Event
from core.config.train import knobs
from core.dataset import split
from core.training.diagnosis import Kind

ROWS_TO_COME = 12  # empty rows of the sample grid that are laid out beforehand
LOG_LINES = 500
TONES: dict[Kind, str] = {"early": "", "learning": "", "flat": "", "memorising": "warn", "diverged": "bad"}


def run(database: Database, run_id: int) -> RunPage:
    """Raises NotFound."""
    after = newest_event(database)
    found = runs.get_run(database, run_id)
    config = {name: entry["value"] for name, entry in found.config.items()}
    subject = projects.get_project(database, found.project_id)
    return RunPage(
        after=after,
        project=subject,
        run=RunNow(
            id=found.id,
            job_id=found.job_id,
            name=found.name,
            model=models.title(database, found.model),
            state=found.state.value,
            state_words=wording.STATES[found.state],
            stop=found.stop.value,
            phase=_phase(found),
            step=found.step,
            steps=found.steps,
            error=wording.error(found.error),
            resumable=found.state is State.FAILED and bool(found.checkpoints),
            created_at=found.created_at.isoformat(),
            when=wording.ago(found.created_at),
        ),
        photo_words=wording.plural(found.photos, "photo"),
        verdict=VerdictNote(found.verdict.title, found.verdict.words, TONES[found.verdict.kind], found.verdict.bands),
        scored_words=_scored_words(found),
        photo_scores=tuple(found.photo_scores),
        grid=_grid(found, config, subject.trigger, subject.class_word),
        class_pictures=_class_pictures(found, config, subject.trigger, subject.class_word),
        checkpoints=tuple(CheckpointLine(each.step, wording.size(each.bytes)) for each in reversed(found.checkpoints)),
        first_words="as begun" if found.started_from else "untrained",
        first_checkpoint=min(int(config["save_every"]), found.steps),
        more_steps=max(100, round(found.steps / 2 / 50) * 50),
        activations=fields(config, ())["activations"],
        log=_log(database, found.job_id),
        settings=(*_used(found.config), *_begun(found)),
    )


def _phase(found: RunDetail) -> str:
    if found.state is State.QUEUED:
        return "Waiting for its turn"
    if found.not_responding:
        return "It has said nothing for a while; the computer may have slept"
    return found.phase


def _scored_words(found: RunDetail) -> str:
    """On which photos the run is scored."""
    choice = found.config.get("held_out", {}).get("value", "none")
    held = split.held_out(choice, [item["name"] for item in found.items])
    count = held if isinstance(held, int) else len(held)
    return (
        f"On {wording.plural(count, 'held-out photo')}." if count else "On a photo that it trains on; none is held out."
    )


def _grid(found: RunDetail, config: Mapping[str, Any], trigger: str, class_word: str) -> Grid:
    """Every sample there is by step and prompt, and the empty places of those to come."""
    drawn = {(sample.step or 0, sample.prompt_id): sample for sample in found.samples}
    prompts = {number: _filled(prompt, trigger, class_word) for number, prompt in enumerate(config["sample_prompts"])}
    prompts |= {sample.prompt_id: sample.prompt for sample in found.samples}
    steps = {step for step, _ in drawn}
    every = int(config["sample_every"])
    if every and found.state is not State.CANCELLED:
        to_come = [step for step in (*range(0, found.steps, every), found.steps) if step >= max(steps, default=0)]
        steps |= set(to_come[:ROWS_TO_COME])
    if not steps:
        return Grid((), ())
    rows = []
    for step in sorted(steps):
        cells = []
        for number, text in prompts.items():
            sample = drawn.get((step, number))
            cells.append(_cell(sample) if sample else GridCell(number, text))
        rows.append(GridRow(step, tuple(cells)))
    return Grid(tuple(GridPrompt(number, text) for number, text in prompts.items()), tuple(rows))


def _class_pictures(found: RunDetail, config: Mapping[str, Any], trigger: str, class_word: str) -> ClassPictures | None:
    """A run from before there were any trains on none."""
    if not config.get("class_pictures"):
        return None
    drawn = found.class_pictures
    prompt = drawn[0].prompt if drawn else _filled(config["class_prompt"], trigger, class_word)
    return ClassPictures(prompt, tuple(_cell(each) for each in drawn))


def _cell(sample: SampleView) -> GridCell:
    return GridCell(sample.prompt_id, sample.prompt, sample.url, sample.seed, sample.width, sample.height)


def _filled(prompt: str, trigger: str, class_word: str) -> str:
    return prompt.replace("{trigger}", trigger).replace("{class_word}", class_word)


def _log(database: Database, job_id: int) -> tuple[LogLine, ...]:
    tones = {"warning": "warning", "error": "error-line"}
    with database.read() as session:
        chosen = select(Event).where(Event.job_id == job_id, Event.kind == "log").order_by(col(Event.id).desc())
        rows = session.exec(chosen.limit(LOG_LINES)).all()[::-1]
    return tuple(
        LogLine(
            f"{row.at.astimezone():%H:%M:%S}", str(row.payload["text"]), tones.get(row.payload.get("level", ""), "")
        )
        for row in rows
    )


def _begun(found: RunDetail) -> list[UsedKnob]:
    return [UsedKnob("Begun with", found.started_from, SOURCES["user"])] if found.started_from else []


def _used(config: Mapping[str, Any]) -> list[UsedKnob]:
    known = knobs()
    return [
        UsedKnob(
            known[name].label if name in known else name,
            f"{wording.number(entry['value'])} {known[name].unit if name in known else ''}".strip(),
            SOURCES[entry["source"]],
        )
        for name, entry in config.items()
    ]
