"""Does the leak meter order ways of protecting the class rightly?  python -m bench.leak PHOTOS... [--out DIR]

PHOTOS are folders of photos, one for each subject, or folders of such folders; the first three subjects count. Pocket
is trained on each, with three seeds, in three ways:

    none           no protection
    pictures       class pictures by the base, trained on too (prior preservation)
    preservation   differential output preservation, where this version has it

The meter is the run's own leak (core/training/likeness.py). The judge (bench/picture_judge.py) shares no feature,
prompt or seed with it: how far pictures of the bare class have gone from the base's of the same seed towards the
subject. For each two ways and each subject, both say which one leaks less, with the error bar of the difference over
the pictures of all seeds; where the judge's difference is above twice its error bar, the meter must order them alike.

DIR gets leak.json and leak.jpg.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

from core.device import backend

backend.prepare()

from PIL import Image

from app import sheet
from bench.picture_judge import TRIGGER, Adapter, Judge, Subject, error, subjects_in
from core import files
from core.config.resolve import resolve
from core.config.train import knobs as known_knobs
from core.errors import TrainingProblem
from core.hub import catalog
from core.hub.analysis_models import DINOV2_SMALL, place_of
from core.models.base import Family
from core.models.load import load_family
from core.training.events import Measured
from core.training.likeness import Drawn, figures
from core.training.trainer import train

WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "pictures": {"class_pictures": 16},
    "preservation": {"class_preservation": 1.0},
}
SUBJECTS, RUN_SEEDS, SEEDS, SAMPLER_STEPS = 3, 3, 6, 14
KNOBS: dict[str, Any] = {
    "steps": 150, "sample_steps": 16, "judged_seeds": 4, "held_out": "none", "score_every": 100_000,
}  # fmt: skip
SHRUNK = {
    "steps": 2, "side_px": 64, "sample_steps": 2, "judged_seeds": 2, "batch_size": 1, "find_subjects": False,
}  # fmt: skip


def follow(
    family: Family, subject: Subject, judge: Judge, knobs: dict[str, Any], way: str, seed: int, place: Path
) -> tuple[dict[str, Any], Image.Image]:
    """One run: the leak of each picture by the meter and by the judge, and one of the judge's pictures."""
    every = {"save_every": knobs["steps"], "sample_every": knobs["steps"], "seed": seed, "sample_seed": 42 + 50 * seed}
    own = WAYS[way] | ({"class_pictures": 2} if way == "pictures" and knobs["steps"] < 10 else {})
    config = resolve(knobs | every | own, family.defaults).config
    drawn: list[Drawn] = []
    words = {"trigger": TRIGGER, "class_word": subject.class_word}
    dinov2, cache = place_of(DINOV2_SMALL).complete, place.parent / "cache"
    try:
        for progress in train(family, subject.examples, config, place, **words, cache=cache, dinov2=dinov2):
            if isinstance(progress, Measured):
                drawn.append(progress.drawn)
    except TrainingProblem as problem:
        raise SystemExit(f"{subject.name}, {way}: {problem.message}") from None
    base, last = drawn[0], drawn[-1]
    leak = figures(last, base).leak
    gap = max(last.photos[1] - statistics.fmean(base.bare), 1e-3)
    with Adapter(family, place / "checkpoints" / str(config.steps) / "adapter.safetensors"):
        pictures = judge.pictures(subject.class_word)
    record = {
        "subject": subject.name,
        "way": way,
        "seed": seed,
        "leak": None if leak is None else leak.value,
        "likeness": statistics.fmean(last.likeness),
        "meter": [(now - before) / gap for now, before in zip(last.bare, base.bare, strict=True)],
        "judge": judge.moved(pictures),
    }
    return record, next(iter(pictures.values()))[0]


def report(records: Sequence[dict[str, Any]]) -> bool:
    """Print the table and the order of each two ways; whether the meter's is the judge's wherever that is sure."""
    ways = list(dict.fromkeys(each["way"] for each in records))
    counts = Counter((each["subject"], each["seed"]) for each in records)
    records = [each for each in records if counts[each["subject"], each["seed"]] == len(ways)]
    row = "{:<14}{:<14}{:>9}{:>7}{:>9}{:>7}{:>10}"
    print(row.format("subject", "protection", "meter", "bar", "judge", "bar", "likeness"))
    sure = right = 0
    lines = []
    for subject in dict.fromkeys(each["subject"] for each in records):
        of = {way: [each for each in records if each["subject"] == subject and each["way"] == way] for way in ways}
        values = {
            way: {name: [value for each in runs for value in each[name]] for name in ("meter", "judge")}
            for way, runs in of.items()
        }
        for way, found in values.items():
            likeness = statistics.fmean(each["likeness"] for each in of[way])
            cells = [f"{part(found[name]):.3f}" for name in ("meter", "judge") for part in (statistics.fmean, error)]
            print(row.format(subject[:13], way, *cells, f"{likeness:.3f}"))
        for one, other in combinations(ways, 2):
            meter, judge = (_difference(values[one][name], values[other][name]) for name in ("meter", "judge"))
            if abs(judge[0]) <= 2 * judge[1]:
                lines.append(
                    f"     {subject}: {one} and {other}: too close for the judge ({judge[0]:+.3f} ±{judge[1]:.3f})"
                )
                continue
            sure += 1
            agrees = meter[0] * judge[0] > 0
            right += agrees
            doubt = "" if abs(meter[0]) > 2 * meter[1] else ", the meter is not sure"
            less = other if judge[0] > 0 else one
            lines.append(
                f"{'ok' if agrees else 'NOT':<5}{subject}: {one} and {other}: {less} leaks less by the judge "
                f"({judge[0]:+.3f} ±{judge[1]:.3f}); meter {meter[0]:+.3f} ±{meter[1]:.3f}{doubt}"
            )
    print("\n" + "\n".join(lines))
    print(
        f"\n{'ok' if right == sure else 'NOT':<5}the meter's order is the judge's in {right} of {sure} sure pairs (all)"
    )
    return right == sure


def _difference(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """The mean difference, picture by picture, and its error bar."""
    apart = [a - b for a, b in zip(one, other, strict=True)]
    return statistics.fmean(apart), error(apart)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+", metavar="PHOTOS", help="folders of photos")
    parser.add_argument("--out", type=Path, default=Path("leak-out"))
    parser.add_argument("--side", type=int, default=256, help="picture size; Pocket's own is 256")
    parser.add_argument("--steps", type=int, default=KNOBS["steps"], help="of each run")
    parser.add_argument("--run-seeds", type=int, default=RUN_SEEDS, help="runs of each subject and protection")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="pictures of each of the judge's prompts")
    parser.add_argument("--minutes", type=float, help="begin no run after so many")
    parser.add_argument("--model", default="pocket", help="pocket, or the folder of another model")
    parser.add_argument("--shrink", action="store_true", help="a few small steps: to try the command, not to measure")
    options = parser.parse_args()
    knobs = KNOBS | (SHRUNK if options.shrink else {"side_px": options.side, "steps": options.steps})
    ways = [way for way, own in WAYS.items() if own.keys() <= known_knobs().keys()]
    for way in WAYS.keys() - ways:
        print(f"This version has no {', '.join(WAYS[way])}: {way!r} is left out.")
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    entry = catalog.find(options.model)
    family, records, rows = load_family(entry.folder), [], []
    with tempfile.TemporaryDirectory() as folder:
        config = resolve(knobs, entry.defaults).config
        subjects = subjects_in(options.photos, config, family.pixel_multiple, Path(folder) / "cache")[:SUBJECTS]
        for subject in subjects:
            steps = min(SAMPLER_STEPS, config.sample_steps)
            judge = Judge(family, config, subject, subject.examples, options.seeds, steps)
            rows.append(sheet.Row(f"{subject.name}: base", [each[0] for each in judge.base.values()]))
            shown: dict[str, list[Image.Image]] = {way: [] for way in ways}
            for seed, way in product(range(options.run_seeds), ways):
                if options.minutes and time.monotonic() - began > 60 * options.minutes:
                    print(f"{subject.name}, {way}, seed {seed}: not begun, the time is over")
                    continue
                started = time.monotonic()
                place = Path(folder) / f"{subject.name}-{way}-{seed}"
                record, picture = follow(family, subject, judge, knobs, way, seed, place)
                print(f"{subject.name}, {way}, seed {seed}: {time.monotonic() - started:.0f} s", flush=True)
                records.append(record)
                shown[way].append(picture)
                files.write_json(options.out / "leak.json", json.loads(json.dumps(records)))
            rows += [sheet.Row(f"{subject.name}: {way}", pictures) for way, pictures in shown.items()]
    columns = [f"seed {number}" for number in range(max(len(row.pictures) for row in rows))]
    page = sheet.sheet("The bare class, in the judge's first prompt", columns, rows, side_px=128)
    page.convert("RGB").save(options.out / "leak.jpg", quality=85)
    if not report(records) and not options.shrink:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
