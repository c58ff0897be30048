"""Before a run: how many steps suit so many photos, how long they take, which rate, and whether memory suffices."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from app.actions import models, progress
from app.database import Database
from app.tables import Event, Job, Run
from app.wording import number
from core.config.optimizer_defaults import FOLLOWING, rate_advice
from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.dataset.captions import dropout_advice
from core.device.hardware import this_computer
from core.errors import ModelProblem
from core.estimate.architecture import Architecture
from core.estimate.memory import Forecast, forecast
from core.estimate.requirements import PHOTOS
from core.hub.catalog import Entry
from core.training.diagnosis import BANDS

STEPS_AT_MOST_TIMES = 3.0

# Rough, for a computer that has not trained yet: Pocket (18 M parameters, 256 px) on two CPU cores took 0.36 s a step.
ROUGH_SECONDS = 0.36
ROUGH_PARAMETERS = 17.8e6
ROUGH_SIDE_PX = 256
APPLE_GPU_TIMES = 8.0
START_SECONDS = 15.0  # process, model, encoding
FORWARD_SHARE = 0.3  # of a training step, for one evaluation of the network
SCORES_EARLY = 8  # of step 0, and around the first full interval (core/training/validation.py)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What the new-run page offers."""

    steps: int
    seconds: float  # for the whole run, samples, class pictures and scores included; machines work side by side
    seconds_per_step: float
    measured: bool  # from an earlier run on this computer, else a rough figure
    sentence: str
    fit: Forecast | None  # memory and disk against this computer's; None for a model that is not here
    own: dict[str, str]  # what the optimizer brings along, by knob and as a form shows it, where the user sets nothing
    advice: str = ""  # about a learning rate that does not suit the optimizer, or a dropout that does nothing


def suggest(
    database: Database,
    model: str,
    photos: int,
    knobs: Mapping[str, Any] | None = None,
    told: Sequence[str] = (),
    trigger: str = "",
) -> Suggestion:
    """A number of steps for so many photos (the user's own, when `knobs` has one), and the time it will take.

    `told` are the photos' captions, as far as something is to be said about them.

    Raises NotFound for an unknown model, ConfigProblem for knobs out of range.
    """
    entry = models.find(database, model)
    given = {name: value for name, value in (knobs or {}).items() if name != "model"}
    config = resolve(given, entry.defaults).config
    if "steps" not in given:
        steps = suggested_steps(config.steps, photos)
    else:
        steps = config.steps
    with database.read() as session:
        measured = _measured(session, model, config)
    pace = measured if measured is not None else _rough(entry.parameters, config)
    rounds = steps // config.sample_every + 1 if config.sample_every else 0
    twice = 2 if config.sample_guidance > 1 else 1
    forward = pace * FORWARD_SHARE / _examples(config)  # of one picture
    samples = rounds * len(config.sample_prompts) * config.sample_steps * twice * forward
    best = resolve({}, entry.defaults).config  # class pictures are drawn as the model is drawn with best
    class_pictures = config.class_pictures * best.sample_steps * (2 if best.sample_guidance > 1 else 1) * forward
    scores = (SCORES_EARLY + steps // config.score_every) * _scored(config.held_out)
    scores *= len(BANDS) * config.score_draws * forward
    seconds = START_SECONDS + class_pictures + steps * pace + samples + scores
    origin = "at the pace of your last run" if measured is not None else "a rough figure until the first run here"
    words = f"About {spoken(seconds)}, {origin}."
    fit = fits(entry, replace(config, steps=steps), photos, database.home.root) if entry.usable else None
    free = resolve({**given, **dict.fromkeys(FOLLOWING)}, entry.defaults).config
    own = {name: number(getattr(free, name)) for name in FOLLOWING}
    rate = rate_advice(config.optimizer, config.learning_rate)
    dropout = dropout_advice(config.trigger_dropout, config.class_pictures, told, trigger)
    advice = f"{rate} {dropout}".strip()
    return Suggestion(steps, seconds, pace, measured is not None, words, fit, own, advice)


def fits(entry: Entry, config: TrainConfig, photos: int, home: Path) -> Forecast | None:
    """What the run needs against what this computer has; None for a model whose files say too little."""
    try:
        architecture = Architecture.of(entry.folder)
    except (ModelProblem, KeyError):
        return None
    return forecast(architecture, config, this_computer(home), max(photos, 1))


def suggested_steps(base: int, photos: int) -> int:
    """More photos want more steps, but not in proportion: the square root, to the next fifty."""
    times = min(max(math.sqrt(photos / PHOTOS), 1.0), STEPS_AT_MOST_TIMES)
    return base if times == 1.0 else int(math.ceil(base * times / 50) * 50)


def spoken(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 90:
        return f"{max(round(seconds / 10) * 10, 10)} seconds"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"


def _measured(session: Session, model: str, config: TrainConfig) -> float | None:
    """Seconds a step of the newest run of this model, scaled to this picture size and batch."""
    for run in session.exec(select(Run).order_by(col(Run.id).desc()).limit(20)):
        used = {name: entry["value"] for name, entry in run.config.items()}
        if used["model"] != model:
            continue
        job = session.get(Job, run.job_id)
        attempts = select(Event.attempt).where(Event.job_id == run.job_id, Event.kind == "metric")
        attempt = session.exec(attempts.order_by(col(Event.id).desc()).limit(1)).first()
        pace = progress.seconds_per_step(session, run.job_id, attempt) if job and attempt is not None else None
        if pace is not None:
            then = _pixels(used["side_px"], *used.get("more_sides_px", ())) * used["batch_size"] * used["accumulate"]
            then *= 2 if used.get("class_pictures") else 1
            return pace * _pixels(*config.sides_px) * _examples(config) / then
    return None


def _examples(config: TrainConfig) -> int:
    """How many a step trains on."""
    return config.examples_at_once * config.accumulate


def _scored(choice: str) -> int:
    """How many photos are scored: those held out, or one that is trained on."""
    if choice.lower() in ("auto", "none"):
        return 1
    return max(int(choice), 1) if choice.isdecimal() else choice.count(",") + 1


def _pixels(*sides_px: int) -> float:
    """Of a training picture, the mean over the sizes that a run has."""
    sides = set(sides_px)
    return sum(side**2 for side in sides) / len(sides)


def _rough(parameters: int, config: TrainConfig) -> float:
    work = (parameters / ROUGH_PARAMETERS) * _pixels(*config.sides_px) / ROUGH_SIDE_PX**2
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return ROUGH_SECONDS * work * _examples(config) / (APPLE_GPU_TIMES if apple else 1.0)
