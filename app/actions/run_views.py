"""How runs are shown: in lists, and in full on their own page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.actions import jobs, progress, time_left
from app.actions.lineage import Relative, children_of, parent_of
from app.jobs import store
from app.jobs.states import State, Stop
from app.tables import Checkpoint, Event, Project, Run, Sample, Version
from core.training.choice import Choice, choose
from core.training.diagnosis import Diagnosis, outliers, than_base
from core.training.likeness import Drawn


@dataclass(frozen=True, slots=True)
class SampleView:
    """A picture that was drawn."""

    id: int
    job_id: int
    run_id: int | None
    step: int | None
    prompt_id: int  # the column of the grid; of a class picture, its number
    prompt: str
    seed: int
    adapter_strength: float
    url: str
    width: int
    height: int
    recipe: dict[str, Any]
    created_at: datetime
    favourite: bool


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """A saved state; its adapter can be downloaded and drawn with."""

    id: int
    step: int
    bytes: int
    sha256: str
    adapter_url: str
    starred: bool  # the one of its run that the user chose
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PhotoScore:
    """The loss of one of the run's photos, against the base or the other photos."""

    photo_id: int
    name: str
    held_out: bool
    relative: float | None  # held out: to the untouched base; trained on: to the other photos; None: unknown yet
    outlier: bool  # its loss is far above the others'
    words: str  # "12% above the others"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One training, as lists show it."""

    id: int
    job_id: int
    project_id: int
    project_name: str
    name: str
    model: str
    state: State
    stop: Stop  # the user's request: none, stop or now
    phase: str
    step: int
    steps: int
    loss: float | None
    eta_seconds: float | None
    error: dict[str, Any] | None
    photos: int  # how many it trains on
    starred: int | None  # the step of the checkpoint with the star
    cover_url: str | None  # the sample picture of that step, else the newest
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail(RunView):
    """Everything the run page shows, but for the curves."""

    config: dict[str, Any]  # {knob: {"value", "source"}}
    started_from: str | None  # the adapter that it began with, by name
    parent: Relative | None  # the run that this is the adapter of
    children: list[Relative]  # the runs that began with an adapter of this one
    own_class_pictures: int  # the user's own, which it trains on beside those that are drawn
    items: list[dict[str, Any]]  # what it trains on: [{photo_id, sha256, extension, name, crop, caption}]
    versions: dict[str, str]
    hashes: dict[str, str]
    checkpoints: list[CheckpointView]  # the oldest first
    samples: list[SampleView]  # by step, then by prompt
    verdict: Diagnosis  # what the scores say so far
    photo_scores: list[PhotoScore]  # empty before the first score
    suggestion: Choice  # which checkpoint to draw with, as far as scores can say
    class_pictures: list[SampleView]  # drawn by the untouched base, to train on; by number
    deaths: int
    not_responding: bool
    can_stop: bool
    can_resume: bool
    last_event_id: int  # to open the event stream with ?after=


def list_view(session: Session, run: Run) -> RunView:
    job = store.get(session, run.job_id)
    project = session.get(Project, run.project_id)
    version = session.get(Version, run.version_id)
    starred = _starred(session, run.id)
    is_running = job.state is State.RUNNING
    return RunView(
        id=int(run.id or 0),
        job_id=run.job_id,
        project_id=run.project_id,
        project_name=project.name if project else "",
        name=run.name,
        model=run.config["model"]["value"],
        state=job.state,
        stop=job.stop,
        phase=job.phase,
        step=job.step,
        steps=job.steps,
        loss=progress.newest_loss(session, run.job_id),
        eta_seconds=time_left.of_run(session, run, job) if is_running else None,
        error=job.error,
        photos=len(version.items) if version else 0,
        starred=starred,
        cover_url=cover_of(session, int(run.id or 0)),
        created_at=run.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
    )


def cover_of(session: Session, run_id: int) -> str | None:
    """The address of the picture that stands for a run: the starred checkpoint's, else the newest."""
    starred = _starred(session, run_id)
    samples = select(Sample.id).where(Sample.run_id == run_id, col(Sample.step).is_not(None))
    if starred is not None:
        samples = samples.where(col(Sample.step) <= starred)
    newest_first = col(Sample.step).desc(), col(Sample.prompt_id)  # the first prompt is the plainest
    cover = session.exec(samples.order_by(*newest_first).limit(1)).first()
    return picture_url(cover) if cover is not None else None


def _starred(session: Session, run_id: int | None) -> int | None:
    """The step of the checkpoint with the star."""
    return session.exec(select(Checkpoint.step).where(Checkpoint.run_id == run_id, col(Checkpoint.pinned))).first()


def detail_of(session: Session, run: Run) -> RunDetail:
    view = list_view(session, run)
    job = store.get(session, run.job_id)
    version = session.get(Version, run.version_id)
    checkpoints = select(Checkpoint).where(Checkpoint.run_id == run.id).order_by(col(Checkpoint.step))
    drawn = select(Sample).where(Sample.run_id == run.id).order_by(col(Sample.step), col(Sample.prompt_id))
    rows = session.exec(drawn).all()
    grid = {(sample.step, sample.prompt_id): sample for sample in rows if sample.step is not None}
    scores = progress.scores(session, run.job_id)
    saved = [checkpoint_view(row) for row in session.exec(checkpoints)]
    return RunDetail(
        id=view.id,
        job_id=view.job_id,
        project_id=view.project_id,
        project_name=view.project_name,
        name=view.name,
        model=view.model,
        state=view.state,
        stop=view.stop,
        phase=view.phase,
        step=view.step,
        steps=view.steps,
        loss=view.loss,
        eta_seconds=view.eta_seconds,
        error=view.error,
        photos=view.photos,
        starred=view.starred,
        cover_url=view.cover_url,
        created_at=view.created_at,
        started_at=view.started_at,
        ended_at=view.ended_at,
        config=run.config,
        started_from=job.params.get("start_from", {}).get("name"),
        parent=parent_of(session, run),
        children=children_of(session, run),
        own_class_pictures=len(job.params.get("class_pictures", ())),
        items=version.items if version else [],
        versions=run.versions,
        hashes=run.hashes,
        checkpoints=saved,
        samples=[sample_view(sample) for sample in grid.values()],
        verdict=scores.diagnosis,
        photo_scores=photo_scores(version.items if version else [], scores),
        suggestion=_suggestion(scores, progress.drawn(session, run.job_id), saved, job.state),
        class_pictures=[sample_view(sample) for sample in rows if sample.step is None],
        deaths=job.deaths,
        not_responding=jobs.silent(job),
        can_stop=job.state in (State.QUEUED, State.RUNNING),
        can_resume=job.state in (State.FAILED, State.STOPPED, State.SUCCEEDED),
        last_event_id=session.exec(select(func.max(Event.id)).where(Event.job_id == run.job_id)).one() or 0,
    )


def _suggestion(
    scores: progress.Scores, pictures: Sequence[Drawn], saved: Sequence[CheckpointView], state: State
) -> Choice:
    steps, so_far = [each.step for each in saved], state in (State.QUEUED, State.RUNNING)
    return choose(scores.by_step, steps, scores.diagnosis, so_far=so_far, pictures=pictures)


def sample_view(row: Sample) -> SampleView:
    return SampleView(
        id=int(row.id or 0),
        job_id=row.job_id,
        run_id=row.run_id,
        step=row.step,
        prompt_id=row.prompt_id,
        prompt=row.prompt,
        seed=row.seed,
        adapter_strength=row.adapter_strength,
        url=picture_url(int(row.id or 0)),
        width=row.width,
        height=row.height,
        recipe=row.recipe,
        created_at=row.created_at,
        favourite=row.favourite,
    )


def photo_scores(items: Sequence[Mapping[str, Any]], scores: progress.Scores) -> list[PhotoScore]:
    """Every photo once any has a score: those trained on by falling loss, then those held out."""
    if not scores.learned and not scores.held_out:
        return []
    unusual = outliers(scores.learned)
    found = []
    for item in items:
        number = item["photo_id"]
        held_out = number in scores.held_out
        value = scores.held_out[number] if held_out else scores.learned.get(number)
        relative = value if value is not None and math.isfinite(value) else None
        found.append(
            PhotoScore(number, item["name"], held_out, relative, number in unusual, _photo_words(held_out, value))
        )
    return sorted(found, key=lambda each: (each.held_out, -(each.relative or 0.0)))


def _photo_words(held_out: bool, value: float | None) -> str:
    if value is None:
        return "no figure yet"
    if held_out:
        return f"held out: {than_base(value)}"
    percent = round(100 * abs(value - 1)) if math.isfinite(value) else 0
    return f"{percent}% {'above' if value > 1 else 'below'} the others" if percent else "as the others"


def checkpoint_view(row: Checkpoint) -> CheckpointView:
    url = f"/api/runs/{row.run_id}/adapter?step={row.step}"
    return CheckpointView(int(row.id or 0), row.step, row.bytes, row.sha256, url, row.pinned, row.created_at)


def picture_url(sample_id: int) -> str:
    return f"/api/pictures/{sample_id}/file"
