"""Is the suggested checkpoint the best one?  python -m bench.choice PHOTOS... [--out DIR]

PHOTOS are folders of photos, one for each subject, or folders of such folders. Six runs of Pocket, two and more made to
overfit (few photos, a high rate, many steps), each with ten checkpoints. The studio's rule (core/training/choice.py)
suggests one of them from the scores and measures of the run; a judge that shares no feature, prompt or seed with it
(bench/picture_judge.py) scores all of them on pictures of its own, with error bars over seeds.

    overfit        the judge's score of the last checkpoint is below that of its best by more than twice the error bar
                   of their difference
    within one     the suggestion is the judge's best, or beside it

DIR gets choice.json, with all that the rule and the judge were given, and choice.jpg. `--again DIR/choice.json` applies
the rule as it is now to what was measured then; nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.device import backend

backend.prepare()

import numpy as np
from PIL import Image

from app import sheet
from bench.picture_judge import TRIGGER, Adapter, Judge, Subject, error, subjects_in
from core import files
from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.errors import TrainingProblem
from core.hub import catalog
from core.hub.analysis_models import DINOV2_SMALL, place_of
from core.models.base import Family
from core.models.load import load_family
from core.training.choice import Choice, HeldOutScore, choose
from core.training.diagnosis import Diagnosis
from core.training.events import Measured, Scored
from core.training.likeness import Drawn
from core.training.trainer import train


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: how many photos it trains on, and its knobs."""

    photos: int
    knobs: dict[str, Any]


PLANS = (
    Plan(3, {"steps": 300}),
    Plan(4, {"steps": 300, "learning_rate": 5e-4}),
    Plan(2, {"steps": 500, "learning_rate": 4e-3}),
    Plan(2, {"steps": 300}),
    Plan(3, {"steps": 300, "learning_rate": 1e-3}),
    Plan(2, {"steps": 600, "learning_rate": 4e-3}),
)
CHECKPOINTS, SEEDS, SAMPLER_STEPS = 10, 6, 14
KNOBS = {"judged_seeds": 4, "score_draws": 8, "sample_steps": 16}
WITHIN_AT_LEAST, CLOSE_AT_MOST, OVERFIT_AT_LEAST = 4, 2, 2  # of six runs
SHRUNK = {
    "steps": 2, "side_px": 64, "sample_steps": 2, "judged_seeds": 2, "score_draws": 1, "batch_size": 1,
    "find_subjects": False,
}  # fmt: skip


def follow(family: Family, subject: Subject, plan: Plan, knobs: dict[str, Any], seeds: int, place: Path) -> Any:
    """Train, and let the judge score every checkpoint; returns the record of the run and its pictures by step."""
    total = len(subject.examples)
    trained = max(min(plan.photos, total - 1), 1)
    held = subject.examples[trained : trained + max((total - trained + 1) // 2, 1)]
    every = max(knobs["steps"] // CHECKPOINTS, 1)
    rhythm = {"save_every": every, "sample_every": every, "score_every": every}
    names = {"held_out": ", ".join(each.name for each in held)}
    config = resolve(plan.knobs | KNOBS | knobs | rhythm | names, family.defaults).config
    unseen = subject.examples[trained:]
    judge = Judge(family, config, subject, unseen, seeds, min(SAMPLER_STEPS, config.sample_steps))
    started = time.monotonic()
    record = _trained(family, subject, config, [*subject.examples[:trained], *held], place)
    record["seconds"] = time.monotonic() - started
    pictures, started = {}, time.monotonic()
    for step in sorted(int(each.name) for each in (place / "checkpoints").iterdir()):
        with Adapter(family, place / "checkpoints" / str(step) / "adapter.safetensors"):
            drawn = judge.pictures(f"{TRIGGER} {subject.class_word}")
        record["judged"][step] = judge.scores(drawn)
        pictures[step] = next(iter(drawn.values()))[0]
    record["judge_seconds"] = time.monotonic() - started
    words = {"subject": subject.name, "trained": trained, "held_out": len(held), "unseen": len(unseen)}
    return words | {"learning_rate": config.learning_rate} | record, pictures


def _trained(
    family: Family, subject: Subject, config: TrainConfig, examples: Sequence[Any], place: Path
) -> dict[str, Any]:
    found: dict[str, Any] = {"steps": config.steps, "scores": [], "drawn": [], "diagnosis": None, "judged": {}}
    words = {"trigger": TRIGGER, "class_word": subject.class_word}
    dinov2 = place_of(DINOV2_SMALL).complete
    try:
        for progress in train(
            family, examples, config, place, **words, cache=place.parent / "cache", dinov2=dinov2
        ):  # fmt: skip
            if isinstance(progress, Scored):
                found["scores"].append([progress.step, progress.relative, progress.held_out])
                found["diagnosis"] = asdict(progress.diagnosis)
            elif isinstance(progress, Measured):
                found["drawn"].append(progress.drawn.to_json())
    except TrainingProblem as problem:
        print(f"  ended: {problem.message}")
    return found


def suggestion(record: dict[str, Any]) -> Choice:
    """The studio's rule on what the run has reported."""
    scores = [
        HeldOutScore(step, relative, {int(photo): value for photo, value in photos.items()})
        for step, relative, photos in record["scores"]
    ]
    diagnosis = Diagnosis(**{**record["diagnosis"], "bands": tuple(record["diagnosis"]["bands"])})
    pictures = [Drawn.from_json(each) for each in record["drawn"]]
    return choose(scores, sorted(map(int, record["judged"])), diagnosis, so_far=False, pictures=pictures)


def verdict(record: dict[str, Any]) -> dict[str, Any]:
    """What the judge says of a run, and how the suggestion compares."""
    judged = {int(step): np.array(scores["score"]) for step, scores in record["judged"].items()}
    steps = sorted(judged)
    best = max(steps, key=lambda step: judged[step].mean())
    behind = judged[best] - judged[steps[-1]]
    chosen = suggestion(record)
    near = chosen.step in steps and abs(steps.index(int(chosen.step or 0)) - steps.index(best)) <= 1
    return {
        "best": best,
        "score": float(judged[best].mean()),
        "bar": error(list(judged[best])),
        "last": float(judged[steps[-1]].mean()),
        "overfit": bool(behind.mean() > 2 * error(list(behind)) > 0),
        "suggested": chosen.step,
        "within": bool(near),
        "close": chosen.close_call,
        "is_last": chosen.step == steps[-1],
        "words": chosen.words,
    }


def report(records: Sequence[dict[str, Any]]) -> bool:
    """Print the table and the bars; whether all hold."""
    row = "{:<14}{:>7}{:>8}{:>7}{:>7}{:>9}{:>7}{:>7}{:>9}{:>11}{:>8}{:>7}"
    print(row.format("subject", "photos", "rate", "steps", "best", "score", "bar", "last", "overfit", "suggested",
                     "within", "close"))  # fmt: skip
    found = []
    for record in records:
        one = verdict(record)
        found.append(one)
        words = ["yes" if one[name] else "no" for name in ("overfit", "within", "close")]
        print(row.format(record["subject"][:13], record["trained"], f"{record['learning_rate']:g}", record["steps"],
                         one["best"], f"{one['score']:.3f}", f"{one['bar']:.3f}", f"{one['last']:.3f}", words[0],
                         str(one["suggested"]), *words[1:]))  # fmt: skip
    for record, one in zip(records, found, strict=True):
        steps = sorted(map(int, record["judged"]))
        print(f"\n{record['subject']}: {one['words']}")
        for name in ("score", "identity", "prompt"):
            values = [(step, float(np.mean(record["judged"][_key(record, step)][name]))) for step in steps]
            print(f"  {name:<10}{' '.join(f'{step}:{value:.3f}' for step, value in values)}")
        for each in suggestion(record).measures:
            worth = "" if each.figures is None else f", worth {each.figures.worth:.3f}"
            print(f"  step {each.step}: {each.words}{worth}")
    return _bars(found)


def _key(record: dict[str, Any], step: int) -> Any:
    """JSON turns numbers into text."""
    return step if step in record["judged"] else str(step)


def _bars(found: Sequence[dict[str, Any]]) -> bool:
    overfit = [each for each in found if each["overfit"]]
    within, close = (sum(each[name] for each in found) for name in ("within", "close"))
    last = sum(each["is_last"] for each in overfit)
    print()
    held = [
        (len(overfit) >= OVERFIT_AT_LEAST, f"{len(overfit)} of {len(found)} runs overfit (2 or more)"),
        (within >= WITHIN_AT_LEAST, f"suggested within one checkpoint of the judge's best: {within} (4 of 6 or more)"),
        (close <= CLOSE_AT_MOST, f"too close to call: {close} (2 at most)"),
        (last == 0, f"the last checkpoint of an overfit run suggested: {last} (never)"),
    ]
    for holds, words in held:
        print(f"{'ok' if holds else 'NOT':<5}{words}")
    return all(holds for holds, _ in held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="*", metavar="PHOTOS", help="folders of photos")
    parser.add_argument("--out", type=Path, default=Path("choice-out"))
    parser.add_argument("--runs", type=int, nargs="*", default=list(range(len(PLANS))), help="only these, from 0")
    parser.add_argument("--side", type=int, default=256, help="picture size; Pocket's own is 256")
    parser.add_argument("--steps", type=int, help="of each run, in place of its own number")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="pictures of each of the judge's prompts")
    parser.add_argument("--again", type=Path, metavar="FILE", help="apply the rule to an earlier choice.json")
    parser.add_argument("--minutes", type=float, help="begin no run after so many")
    parser.add_argument("--model", default="pocket", help="pocket, or the folder of another model")
    parser.add_argument("--shrink", action="store_true", help="a few small steps: to try the command, not to measure")
    options = parser.parse_args()
    if options.again:
        report(json.loads(options.again.read_text(encoding="utf-8")))
        return
    if not options.photos:
        parser.error("name at least one folder of photos")
    knobs = SHRUNK if options.shrink else {"side_px": options.side}
    knobs |= {"steps": options.steps} if options.steps else {}
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    entry = catalog.find(options.model)
    family, records, rows = load_family(entry.folder), [], []
    with tempfile.TemporaryDirectory() as folder:
        config = resolve(knobs, entry.defaults).config
        subjects = subjects_in(options.photos, config, family.pixel_multiple, Path(folder) / "cache")
        for number in options.runs:
            plan, subject = PLANS[number], subjects[number % len(subjects)]
            print(f"run {number}: {subject.name}, {plan.knobs}", flush=True)
            own = {"steps": plan.knobs["steps"]} | knobs
            if options.minutes and time.monotonic() - began > 60 * options.minutes:
                print("  not begun: the time is over")
                break
            record, pictures = follow(family, subject, plan, own, options.seeds, Path(folder) / f"run-{number}")
            records.append(record)
            print(
                f"  {record['seconds']:.0f} s to train and measure, {record['judge_seconds']:.0f} s to judge",
                flush=True,
            )
            rows.append((f"{subject.name} {plan.knobs}", pictures))
            files.write_json(options.out / "choice.json", json.loads(json.dumps(records)))
    _write_sheet(rows, options.out / "choice.jpg")
    held = report(records)
    if not (held or options.shrink):
        raise SystemExit(1)


def _write_sheet(rows: Sequence[tuple[str, dict[int, Image.Image]]], file: Path) -> None:
    """A line for each run, a column for each checkpoint."""
    lines = [sheet.Row(title, list(pictures.values())) for title, pictures in rows]
    columns = [f"checkpoint {number + 1}" for number in range(max(len(pictures) for _, pictures in rows))]
    sheet.sheet("In the judge's first prompt", columns, lines, side_px=128).convert("RGB").save(file, quality=85)


if __name__ == "__main__":
    main()
