"""Does the analysis see what a person sees?  `make eval-vision PHOTOS=DIR`: one folder of photos for each subject.

DIR may hold `boxes.json`, a list of {"photo": "folder/name.jpg", "boxes": [[left, top, right, bottom], ...]} in
fractions, drawn by a person; of several boxes the best counts. Printed, each with its bar:

    subjects      mean IoU of the found boxes at least 0.80, at least 0.5 for 92%; the default crop holds at
                  least 95% of the box in 95% of the photos
    bursts        98 of 100 near-duplicates made of the photos are found, as one group each
    alike         at most 2 of 100 pairs of different photos of a subject are called near-duplicates. Pairs that a
                  person calls alike are left out: `alike.json` in DIR lists them,
                  [["folder/one.jpg", "folder/other.jpg"], ...]
    faults        9 of 10 photos made blurred or dark are found; of the photos as they are at most 1 in 20
                  is called so
    screenshots   9 of 10 screens drawn by the command are found; of the photos at most 1 in 20 is called so
    time          at most 0.15 s a photo on two cores, reading and the set's joint estimate included
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two photos at a time instead; before the first numpy

import cv2
import numpy as np
from PIL import Image

from bench import made_photos
from core.dataset import buckets, crops, photos
from core.dataset.crops import Box
from core.dataset.subject_crops import subject_crop
from core.vision import pictures, review, similarity, subject
from core.vision.opencv import OpenCVAnalyser
from core.vision.results import Analysis, Subject

SEED, BURST, SIDE_PX, CORES, SCREENS = 7, 5, 512, 2, 20
MADE_SIDE_PX = 1024  # of the photos that others are made from
ANALYSER = OpenCVAnalyser()


@dataclass(frozen=True, slots=True)
class Set:
    """The photos of a subject, analysed together."""

    paths: list[Path]
    analyses: dict[int, Analysis]
    subjects: dict[int, Subject | None]

    def name(self, number: int) -> str:
        return f"{self.paths[number].parent.name}/{self.paths[number].name}"


def read_boxes(folder: Path) -> dict[str, list[Box]]:
    """The boxes that a person drew, by "folder/name.jpg"; empty without boxes.json."""
    if not (folder / "boxes.json").is_file():
        return {}
    rows = json.loads((folder / "boxes.json").read_text(encoding="utf-8"))
    return {row["photo"]: [Box(*box) for box in row["boxes"]] for row in rows}


def analysed(picture: Image.Image) -> Analysis:
    """Of a made photo, as `pictures.read` would give it."""
    small = picture.copy()
    small.thumbnail((pictures.WORKING_SIDE_PX,) * 2, Image.Resampling.LANCZOS)
    return ANALYSER.analyse(np.asarray(small.convert("RGB")), picture.size)


def analysed_set(paths: list[Path]) -> Set:
    """As the studio does it: each photo by itself, on two threads, then all together."""

    def read(path: Path) -> tuple[pictures.Pixels, Analysis]:
        pixels, size = pictures.read(path)
        return pictures.shrunk(pixels, pictures.SMALL_SIDE_PX), ANALYSER.analyse(pixels, size)

    with ThreadPoolExecutor(CORES) as pool:
        found = list(pool.map(read, paths))
    analyses = {number: each for number, (_, each) in enumerate(found)}
    subjects = subject.reconcile(analyses, lambda number: found[number][0])
    return Set(paths, analyses, subjects)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    shared = intersection(one, other)
    return shared / (area(one) + area(other) - shared)


def intersection(one: Box, other: Box) -> float:
    wide = min(one.right, other.right) - max(one.left, other.left)
    high = min(one.bottom, other.bottom) - max(one.top, other.top)
    return max(wide, 0.0) * max(high, 0.0)


def area(box: Box) -> float:
    return (box.right - box.left) * (box.bottom - box.top)


def default_crop(analysis: Analysis, found: Subject | None) -> Box:
    """As a run of 512 px takes the photo."""
    size = analysis.width, analysis.height
    bucket = buckets.closest(buckets.of_side(SIDE_PX), *size)
    if found is None:
        left, top, right, bottom = crops.pixel_box(*size, (bucket.width, bucket.height))
        return Box(left / size[0], top / size[1], right / size[0], bottom / size[1])
    return subject_crop(found.box, size, bucket.width / bucket.height)


def report(name: str, value: str, passed: bool) -> bool:
    print(f"{'ok  ' if passed else 'FAIL'} {name:<58} {value}")
    return passed


def judge_subjects(sets: list[Set], drawn: Mapping[str, list[Box]]) -> Iterator[bool]:
    overlaps, kept = [], []
    for each in sets:
        for number, analysis in each.analyses.items():
            boxes = drawn.get(each.name(number))
            if not boxes:
                continue
            found = each.subjects[number]
            best = max(overlap(found.box, box) for box in boxes) if found else 0.0
            crop = default_crop(analysis, found)
            held = max(intersection(crop, box) / area(box) for box in boxes)
            overlaps.append(best)
            kept.append(held)
            if best < 0.5 or held < 0.95:
                print(f"     {each.name(number)}: IoU {best:.2f}, the crop holds {held:.2f} of the box")
    if not overlaps:
        return
    mean, half = float(np.mean(overlaps)), float(np.mean(np.array(overlaps) >= 0.5))
    share = float(np.mean(np.array(kept) >= 0.95))
    yield report(f"subject boxes of {len(overlaps)} photos: mean IoU (0.80)", f"{mean:.3f}", mean >= 0.80)
    yield report("subject boxes: IoU at least 0.5 (92%)", f"{half:.0%}", half >= 0.92)
    yield report("default crop holds 95% of the box (95%)", f"{share:.0%}", share >= 0.95)


def judge_bursts(sets: list[Set], alike: set[frozenset[str]]) -> Iterator[bool]:
    """Every photo and BURST made of it, grouped with all others of its subject."""
    rng = np.random.default_rng(SEED)
    made = found = pairs = wrong = 0
    for each in sets:
        looks = [analysis.look for analysis in each.analyses.values()]
        names = [each.name(number) for number in each.analyses]
        allowed = {name: {other for pair in alike if name in pair for other in pair} | {name} for name in names}
        originals = list(range(len(names)))
        for number, path in enumerate(each.paths):
            for _ in range(BURST):
                looks.append(similarity.look_of(pictures.shrunk(np.asarray(made_photos.near_duplicate(
                    photos.open_small_rgb(path, MADE_SIDE_PX), rng)), pictures.WORKING_SIDE_PX)))  # fmt: skip
                originals.append(number)
        linked = similarity.pairs(looks)
        for held, _ in similarity.groups(len(looks), linked):
            owners = {names[originals[i]] for i in held}
            own = max(owners, key=lambda name: sum(names[originals[i]] == name for i in held))
            whole = next((i for i in held if i < len(names) and names[i] == own), None)
            if whole is not None and owners <= allowed[own]:
                found += sum(i >= len(names) for i in held)
        made += BURST * len(names)
        for i in range(len(names)):
            for j in range(i + 1, len(names)):
                if frozenset((names[i], names[j])) not in alike:
                    pairs += 1
                    if any(pair[:2] == (i, j) for pair in linked):
                        wrong += 1
                        print(f"     called alike: {names[i]} and {names[j]}")
    yield report(
        f"{made} near-duplicates made: found, one group each (98%)", f"{found / made:.1%}", found >= 0.98 * made
    )
    yield report(
        f"{pairs} pairs of different photos: called alike (2%)", f"{wrong / max(pairs, 1):.1%}", wrong <= 0.02 * pairs
    )


def judge_faults(sets: list[Set]) -> Iterator[bool]:
    """Each photo made blurred, then dark, among the others of its set as they are."""
    rng = np.random.default_rng(SEED)
    found = {"blurred": 0, "dark": 0}
    count = sum(len(each.paths) for each in sets)
    for each in sets:
        for number, path in enumerate(each.paths):
            for kind, make in (("blurred", made_photos.blurred), ("dark", made_photos.dark)):
                bad = analysed(make(photos.open_small_rgb(path, MADE_SIDE_PX), rng))
                judged = review.review({**each.analyses, number: bad})
                hit = any(f.kind == kind and number in f.photos and not f.unsure for f in judged.findings)
                found[kind] += hit
                if not hit:
                    print(f"     not found {kind}: {each.name(number)}")
    for kind, hits in found.items():
        yield report(f"{count} photos made {kind}: found (90%)", f"{hits / count:.0%}", hits >= 0.9 * count)
    for kinds in ({"blurred"}, {"dark", "bright"}, {"screenshot"}):
        called = []
        for each in sets:
            judged = review.review(each.analyses, each.subjects)
            called += [each.name(n) for f in judged.findings if f.kind in kinds and not f.unsure for n in f.photos]
        words = " or ".join(sorted(kinds))
        yield report(f"photos as they are: called {words} (1 in 20)", f"{len(called)} of {count} {' '.join(called)}",
                     len(called) <= count / 20)  # fmt: skip


def judge_screenshots(sets: list[Set]) -> Iterator[bool]:
    rng = np.random.default_rng(SEED)
    inside = [photos.open_small_rgb(each.paths[0], MADE_SIDE_PX) for each in sets]
    hits = 0
    for number in range(SCREENS):
        screen = analysed(made_photos.screenshot(rng, inside[number % len(inside)]))
        hits += any(f.kind == "screenshot" and not f.unsure for f in review.review({0: screen}).findings)
    yield report(f"{SCREENS} screens drawn: found (90%)", f"{hits / SCREENS:.0%}", hits >= 0.9 * SCREENS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="one folder of photos for each subject")
    folder = parser.parse_args().folder
    cv2.setNumThreads(1)
    drawn, alike = read_boxes(folder), set()
    if (folder / "alike.json").is_file():
        alike = {frozenset(pair) for pair in json.loads((folder / "alike.json").read_text(encoding="utf-8"))}
    started, worked = time.perf_counter(), time.process_time()
    sets = [analysed_set(photos.find(each)) for each in sorted(folder.iterdir()) if each.is_dir()]
    count = sum(len(each.paths) for each in sets)
    seconds = (time.perf_counter() - started) / max(count, 1)
    worked = (time.process_time() - worked) / max(count, 1)
    passed = [
        report(
            f"analysis of {count} photos, s a photo (0.15)", f"{seconds:.3f}, processor {worked:.3f}", seconds <= 0.15
        )
    ]
    for judge in (judge_subjects(sets, drawn), judge_bursts(sets, alike), judge_faults(sets), judge_screenshots(sets)):
        passed += judge
    for each in sets:
        verdict = review.review(each.analyses, each.subjects).verdict
        print(f"     {each.paths[0].parent.name}: {verdict.title}. {verdict.words}")
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
