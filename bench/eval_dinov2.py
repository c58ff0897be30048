"""What DINOv2's features tell of photos:  `python -m bench.eval_dinov2 DIR MODEL`, with the model's folder.

DIR holds one folder of photos for each subject, as for `make eval-vision`. Printed:

    alike       cosine of each photo and near-duplicates made of it, and of different photos of one subject: whether a
                threshold could tell them apart better than the registered grey values, which decide today
    strangers   each photo of the other subjects put into a set: how often it is named as unlike the rest (9 of 10),
                and how many of a set's own photos are, without it (1 in 20)
    time        s a photo on this computer's CPU
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ["LIKENESS_DEVICE"] = "cpu"  # as reviews have it

import numpy as np

from bench import made_photos
from core.dataset import photos
from core.vision import pictures, review, similarity
from core.vision.analysers import best
from core.vision.base import Analyser
from core.vision.results import Analysis

SEED, BURST = 7, 3
WITHIN = (1, 10, 50, 90, 99)  # percentiles


def analysed(path: Path, analyser: Analyser) -> Analysis:
    return analyser.analyse(*pictures.read(path))


def burst_of(path: Path, analyser: Analyser, rng: np.random.Generator) -> list[Analysis]:
    """Near-duplicates made of a photo."""
    whole = photos.open_small_rgb(path, 2 * pictures.WORKING_SIDE_PX)
    made = [made_photos.near_duplicate(whole, rng) for _ in range(BURST)]
    return [analyser.analyse(pictures.shrunk(np.asarray(each), pictures.WORKING_SIDE_PX), each.size) for each in made]


def cosines(analyses: list[Analysis]) -> pictures.Floats:
    """(N, N)."""
    unit_ND = similarity.prints_array([each.print for each in analyses])
    if unit_ND is None:
        raise SystemExit("The analyser has no feature prints.")
    return np.asarray(unit_ND @ unit_ND.T, np.float32)


def named(analyses: list[Analysis]) -> set[int]:
    """Places of the photos that are called unlike the rest."""
    findings = review.review(dict(enumerate(analyses))).findings
    return {number for each in findings if each.kind == "unlike_the_rest" for number in each.photos}


def report(name: str, values: list[float]) -> None:
    shown = "  ".join(f"{share}%: {np.percentile(values, share):.3f}" for share in WITHIN)
    print(f"{name:<48} {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="one folder of photos for each subject")
    parser.add_argument("model", type=Path, metavar="MODEL", help="a folder with DINOv2's config.json and weights")
    options = parser.parse_args()
    analyser, rng = best(options.model), np.random.default_rng(SEED)
    paths = {each.name: photos.find(each) for each in sorted(options.folder.iterdir()) if each.is_dir()}
    analysed(next(iter(paths.values()))[0], analyser)  # reads the network
    started = time.perf_counter()
    sets = {name: [analysed(path, analyser) for path in of_one] for name, of_one in paths.items()}
    count = sum(map(len, sets.values()))
    print(f"analysis of {count} photos, s a photo {(time.perf_counter() - started) / count:.3f}")

    same = [float(value) for of_one in paths.values() for path in of_one
            for value in cosines([analysed(path, analyser), *burst_of(path, analyser, rng)])[0, 1:]]  # fmt: skip
    different = [float(value) for each in sets.values() for value in cosines(each)[np.triu_indices(len(each), 1)]]
    report(f"cosine of {len(same)} made near-duplicates", same)
    report(f"cosine of {len(different)} pairs of one subject", different)

    found = tried = 0
    for name, own in sets.items():
        for stranger in (each for other, analyses in sets.items() if other != name for each in analyses):
            tried += 1
            found += len(own) in named([*own, stranger])
    alarms = sum(len(named(own)) for own in sets.values())
    print(f"{tried} strangers among the photos of a set: named {found / max(tried, 1):.0%}")
    print(f"{count} photos of their own sets: named {alarms}")


if __name__ == "__main__":
    main()
