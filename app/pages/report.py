"""A run as one HTML file that needs nothing else: no script, no address, its pictures within it.

    what is in it    name, settings and versions; the chosen checkpoint and why; samples, curves and scores
    what is not      the photos and their names, unless the user asks for them

It opens by itself from a disk, is light or dark as the computer is, and prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from app import __version__, resources, wording
from app.actions import models, progress, projects, report, runs
from app.actions.report import Pictures
from app.actions.run_views import PhotoScore, RunDetail
from app.database import Database
from app.jobs.states import State
from app.pages.render import templates
from app.pages.report_chart import Chart, chart, smoothed
from app.tables import now
from core.config.train import knobs
from core.training.choice import Choice
from core.training.diagnosis import Diagnosis

STYLES = ("tokens.css", "report.css")


@dataclass(frozen=True, slots=True)
class ReportFile:
    """The file, and the name to save it under."""

    html: str
    name: str  # <project>-<run>-report.html

    @property
    def address_name(self) -> str:
        """The name as a header holds it."""
        return quote(self.name)


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and a value."""

    label: str
    value: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class SavedRow:
    """A checkpoint in the table."""

    step: int
    size: str
    words: str  # how good it is
    mark: str  # starred, best, or empty


@dataclass(frozen=True, slots=True)
class Report:
    """What templates/_report.html shows."""

    project: str
    run: str
    state: State
    step: int | None  # the checkpoint that is shown large
    made_at: datetime
    version: str
    facts: tuple[Fact, ...]
    choice: Choice
    starred: int | None
    pictures: Pictures
    charts: tuple[Chart, ...]
    diagnosis: Diagnosis
    checkpoints: tuple[SavedRow, ...]
    photo_scores: tuple[PhotoScore, ...]  # empty without the photos: they name them
    settings: tuple[Fact, ...]
    origin: tuple[Fact, ...]  # versions, device and hashes


def report_file(database: Database, run_id: int, *, with_photos: bool) -> ReportFile:
    """Raises NotFound."""
    detail = runs.get_run(database, run_id)
    project = projects.get_project(database, detail.project_id)
    shown = _shown_step(detail)
    pictures = report.pictures_of(database, detail, shown, with_photos=with_photos)
    curves = runs.metrics(database, run_id, ("loss", "held_out"), points=progress.POINTS_AT_MOST).series
    found = Report(
        project=project.name,
        run=detail.name,
        state=detail.state,
        step=shown,
        made_at=now(),
        version=__version__,
        facts=_facts(detail, models.title(database, detail.model), f"{project.trigger} {project.class_word}"),
        choice=detail.suggestion,
        starred=detail.starred,
        pictures=pictures,
        charts=_charts(detail, curves, shown),
        diagnosis=detail.verdict,
        checkpoints=_checkpoints(detail),
        photo_scores=tuple(detail.photo_scores) if with_photos else (),
        settings=_settings(detail, with_photos=with_photos),
        origin=_origin(detail),
    )
    html = templates().get_template("_report.html").render(report=found, styles=_styles())
    return ReportFile(html, f"{runs.file_word(project.name)}-{runs.file_word(detail.name)}-report.html")


def _styles() -> str:
    return "\n".join((resources.folder("static") / "css" / name).read_text("utf-8") for name in STYLES)


def _shown_step(detail: RunDetail) -> int | None:
    """The checkpoint that one would draw with: the starred one, the suggested one, or the newest."""
    newest = detail.checkpoints[-1].step if detail.checkpoints else None
    return next((each for each in (detail.starred, detail.suggestion.step, newest) if each is not None), None)


def _facts(detail: RunDetail, model: str, in_prompts: str) -> tuple[Fact, ...]:
    took = ""
    if detail.started_at and detail.ended_at and detail.ended_at > detail.started_at:
        took = wording.duration((detail.ended_at - detail.started_at).total_seconds())
    found = [
        Fact("Model", model),
        Fact("In prompts", in_prompts),
        Fact("Steps", f"{detail.step:,} of {detail.steps:,}"),
        Fact("Photos", str(detail.photos)),
        Fact("Begun", f"{detail.created_at.day} {detail.created_at:%B %Y}"),
        Fact("From start to end", took),
        Fact("Loss at the end", f"{detail.loss:.4f}" if detail.loss is not None else ""),
        Fact("Begun with", detail.started_from or ""),
    ]
    return tuple(fact for fact in found if fact.value)


def _charts(detail: RunDetail, curves: dict[str, list[tuple[int, float]]], shown: int | None) -> tuple[Chart, ...]:
    losses, scores = curves.get("loss", []), curves.get("held_out", [])
    smooth = smoothed(losses)
    saved = [each.step for each in detail.checkpoints]
    first, last = (smooth[0][1], smooth[-1][1]) if smooth else (0.0, 0.0)
    loss_words = f"Smoothed, it goes from {first:.4f} to {last:.4f}." if smooth else ""
    score_words = f"{scores[-1][1]:.0%} of the base’s loss at step {scores[-1][0]}." if scores else ""
    found = (
        chart("Loss", loss_words, [("raw", losses), ("smooth", smooth)], detail.steps, saved, shown),
        chart(
            "Loss on photos that it never saw, in percent of the base’s",
            score_words, [("score", scores)], detail.steps, saved, shown, percent=True,
        ),
    )  # fmt: skip
    return tuple(each for each in found if each is not None)


def _checkpoints(detail: RunDetail) -> tuple[SavedRow, ...]:
    words = {each.step: each.words for each in detail.suggestion.measures}

    def mark(step: int) -> str:
        return "starred" if step == detail.starred else "best" if step == detail.suggestion.step else ""

    return tuple(
        SavedRow(each.step, wording.size(each.bytes), words.get(each.step, ""), mark(each.step))
        for each in detail.checkpoints
    )


def _settings(detail: RunDetail, *, with_photos: bool) -> tuple[Fact, ...]:
    known = knobs()
    names = [str(item["name"]) for item in detail.items]
    found = []
    for name, entry in detail.config.items():
        value = wording.number(entry["value"]) or "none"
        unit = known[name].unit if name in known and value != "none" else ""
        if not with_photos:
            value = _without_names(value, names)
        label = known[name].label if name in known else name
        found.append(Fact(label, f"{value} {unit}".strip(), wording.SOURCES.get(entry["source"], "")))
    return tuple(found)


def _without_names(value: str, names: Sequence[str]) -> str:
    """A setting may list photos, as the one that holds some out does: how many, in place of their names."""
    parts = [part.strip() for part in value.split(",")]
    named = sum(part in names for part in parts)
    return wording.plural(named, "photo") if named else value


def _origin(detail: RunDetail) -> tuple[Fact, ...]:
    versions = [Fact(name, value) for name, value in detail.versions.items()]
    return (*versions, *(Fact(f"hash of {name}", value) for name, value in detail.hashes.items()))
