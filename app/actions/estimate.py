"""Before a run: how many steps suit the photos, how long they take, and whether memory and disk suffice."""

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
from app.wording import number, rough_duration
from core.config.optimizer_defaults import FOLLOWING, rate_advice
from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.dataset import split
from core.dataset.captions import dropout_advice, preservation_advice, trigger_advice
from core.device.hardware import this_computer
from core.errors import ModelProblem
from core.estimate.architecture import Architecture
from core.estimate.memory import Forecast, forecast
from core.estimate.requirements import PHOTOS
from core.hub.catalog import Entry, unassisted
from core.training.diagnosis import BANDS

STEPS_AT_MOST_TIMES = 3.0

# Rough, for a computer that has not trained yet: Pocket (18 M parameters, 256 px) on two CPU cores took 0.36 s a step.
ROUGH_SECONDS = 0.36
ROUGH_PARAMETERS = 17.8e6
ROUGH_SIDE_PX = 256
APPLE_GPU_TIMES = 8.0
START_SECONDS = 15.0  # process, model, encoding
FORWARD_SHARE = 0.3  # of a training step, for one evaluation of the network
PRESERVED_SHARE = 1.5  # of a step, for class preservation: a forward pass beside another example (bench)
SCORES_EARLY = 8  # of step 0, and around the first full interval (core/training/validation.py)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What the form of a new run shows beside the knobs."""

    steps: int
    seconds: float  # of the whole run, with samples, class pictures and scores
    seconds_per_step: float
    measured: bool  # on an earlier run on this computer; else a rough figure
    sentence: str
    fit: Forecast | None  # None for a model that is not here
    own: dict[str, str]  # the optimizer's own defaults by knob, as a form shows them; the user's values override them
    advice: str = ""  # on the learning rate, captions without the trigger, a vain dropout, a missing assistant


def suggest(
    database: Database,
    model: str,
    photos: int,
    knobs: Mapping[str, Any] | None = None,
    captions: Sequence[str] = (),
    trigger: str = "",
) -> Suggestion:
    """A number of steps for so many photos (the user's own, when `knobs` has one), and the time they will take.

    The photos' `captions` and `trigger` are for the advice.

    Raises NotFound for an unknown model, ConfigProblem for knobs out of range.
    """
    entry = models.find(database, model)
    given = {name: value for name, value in (knobs or {}).items() if name != "model"}
    config = resolve(given, entry.defaults).config
    steps = config.steps if "steps" in given else suggested_steps(config.steps, photos)
    with database.read() as session:
        measured = _measured(session, model, config)
    pace = measured if measured is not None else _rough(entry.parameters, config)
    best = resolve({}, entry.defaults).config
    seconds = _seconds(replace(config, steps=steps), pace, best)
    origin = "at the pace of your last run" if measured is not None else "a rough figure until the first run here"
    free = resolve({**given, **dict.fromkeys(FOLLOWING)}, entry.defaults).config
    rate = rate_advice(config.optimizer, config.learning_rate)
    dropout = dropout_advice(config.trigger_dropout, config.has_class_pictures, captions, trigger)
    preserved = preservation_advice(config.class_preservation, captions, trigger)
    advice = (rate, trigger_advice(captions, trigger), dropout, preserved, _assistant_advice(entry))
    return Suggestion(
        steps=steps,
        seconds=seconds,
        seconds_per_step=pace,
        measured=measured is not None,
        sentence=f"About {rough_duration(seconds)}, {origin}.",
        fit=fits(entry, replace(config, steps=steps), photos, database.home.root) if entry.usable else None,
        own={name: number(getattr(free, name)) for name in FOLLOWING},
        advice=" ".join(each for each in advice if each),
    )


def run_seconds(database: Database, config: TrainConfig) -> float:
    """Of a whole run, at the pace of the model's last one, else roughly. Raises NotFound for an unknown model."""
    entry = models.find(database, config.model)
    with database.read() as session:
        measured = _measured(session, config.model, config)
    pace = measured if measured is not None else _rough(entry.parameters, config)
    return _seconds(config, pace, resolve({}, entry.defaults).config)


def _assistant_advice(entry: Entry) -> str:
    """What a run on a distilled model without its training assistant costs; empty otherwise."""
    try:
        return unassisted(entry.folder) if entry.folder is not None and entry.usable else ""
    except ModelProblem as problem:  # its card names a missing file
        return problem.message


def _seconds(config: TrainConfig, pace: float, best: TrainConfig) -> float:
    """Of a whole run at `pace` seconds a step; `best` is how the model draws best, as class pictures are drawn."""
    forward = pace * FORWARD_SHARE / _examples(config)  # of one picture
    rounds = config.steps // config.sample_every + 1 if config.sample_every else 0
    judged = config.judged_prompts * (2 * config.judged_seeds - 1) * config.judged_steps
    samples = rounds * (len(config.sample_prompts) * config.sample_steps + judged) * _evaluations(config)
    class_pictures = config.class_pictures * best.sample_steps * _evaluations(best)
    scores = (SCORES_EARLY + config.steps // config.score_every) * _scored(config.held_out)
    forwards = samples + class_pictures + scores * len(BANDS) * config.score_draws
    return START_SECONDS + config.steps * pace + forwards * forward


def picture_seconds(database: Database, model: str, config: TrainConfig) -> float | None:
    """Of one sample, at the pace of the model's newest run here; None without one."""
    with database.read() as session:
        pace = _measured(session, model, config)
    if pace is None:
        return None
    return pace * FORWARD_SHARE / _examples(config) * config.sample_steps * _evaluations(config)


def _evaluations(config: TrainConfig) -> int:
    """Of the network for each sampler step: two with guidance."""
    return 2 if config.sample_guidance > 1 else 1


def fits(entry: Entry, config: TrainConfig, photos: int, home: Path) -> Forecast | None:
    """The run's memory and disk against this computer's; None for a model whose files say too little."""
    if entry.folder is None:
        return None
    try:
        architecture = Architecture.of(entry.folder)
    except (ModelProblem, KeyError):
        return None
    return forecast(architecture, config, this_computer(home), max(photos, 1))


def suggested_steps(base: int, photos: int) -> int:
    """Steps grow with the square root of the number of photos, rounded up to the next fifty."""
    times = min(max(math.sqrt(photos / PHOTOS), 1.0), STEPS_AT_MOST_TIMES)
    return base if times == 1.0 else int(math.ceil(base * times / 50) * 50)


def _measured(session: Session, model: str, config: TrainConfig) -> float | None:
    """Seconds a step of the model's newest run with a known pace, scaled to this picture size and batch."""
    for run in session.exec(select(Run).order_by(col(Run.id).desc()).limit(20)):
        used: dict[str, Any] = {name: entry["value"] for name, entry in run.config.items()}
        if used["model"] != model:
            continue
        job = session.get(Job, run.job_id)
        attempts = select(Event.attempt).where(Event.job_id == run.job_id, Event.kind == "metric")
        attempt = session.exec(attempts.order_by(col(Event.id).desc()).limit(1)).first()
        pace = progress.seconds_per_step(session, run.job_id, attempt) if job and attempt is not None else None
        if pace is not None:
            parts = _parts(bool(used.get("class_pictures") or used.get("class_folder")), used.get("class_preservation"))
            examples = int(used["batch_size"] * used["accumulate"]) * parts
            then = _pixels(used["side_px"], *used.get("more_sides_px", ())) * examples
            return pace * _pixels(*config.sides_px) * _examples(config) / then
    return None


def _examples(config: TrainConfig) -> float:
    """How many examples a step trains on, by what they cost."""
    return _parts(config.has_class_pictures, config.class_preservation) * config.batch_size * config.accumulate


def _parts(class_pictures: bool, class_preservation: float | None) -> float:
    """The cost of a batch against that of its photos."""
    return 1 + class_pictures + (PRESERVED_SHARE if class_preservation else 0)


def _scored(choice: str) -> int:
    """How many photos are scored: those held out, or one that is trained on."""
    if choice.lower() in ("auto", "none"):
        return 1
    if choice.isdecimal():
        return max(int(choice), 1) if len(choice) <= split.DIGITS_AT_MOST else 1
    return choice.count(",") + 1


def _pixels(*sides_px: int) -> float:
    """Pixels of a training picture, the mean over the sizes of a run."""
    sides = set(sides_px)
    return sum(side**2 for side in sides) / len(sides)


def _rough(parameters: int, config: TrainConfig) -> float:
    work = (parameters / ROUGH_PARAMETERS) * _pixels(*config.sides_px) / ROUGH_SIDE_PX**2
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return ROUGH_SECONDS * work * _examples(config) / (APPLE_GPU_TIMES if apple else 1.0)
