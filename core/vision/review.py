"""A set of photos judged: every finding, one sentence about the set, and the photos to pick of many.

    review   {number: Analysis}, {number: Subject}   ->   Review
    pick     the n best: each next one is the farthest from those picked, times how good it is (farthest-point sampling)

Photos are apart by colours, grey values and framing; by feature prints and framing where the analyser has prints.
Prints are scaled so that they spread over the set as far as the values that they replace: the balance with framing
stays.

Shapes   N photos   D features
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence

import cv2
import numpy as np

from core.vision import judge, sets, similarity
from core.vision.pictures import Floats
from core.vision.results import Analysis, Counts, Finding, Kind, Review, Subject, Verdict

WEIGHTS = {"subject": 0.5, "behind": 0.7, "look": 0.6, "framing": 0.8}
TITLES: dict[Kind, tuple[str, str]] = {  # for one photo and for several
    "duplicate": ("1 is there twice", "{} are there twice"),
    "near_duplicate": ("1 is too like another", "{} are too alike"),
    "blurred": ("1 is blurred", "{} are blurred"),
    "dark": ("1 is too dark", "{} are too dark"),
    "bright": ("1 is overexposed", "{} are overexposed"),
    "small": ("1 is small", "{} are small"),
    "screenshot": ("1 is a screenshot", "{} are screenshots"),
    "several_subjects": ("1 may show several subjects", "{} may show several subjects"),
    "no_subject": ("1 without a clear subject", "{} without a clear subject"),
    "unlike_the_rest": ("1 is unlike the rest", "{} are unlike the rest"),
}
OF_THE_SET: dict[Kind, str] = {
    "few_photos": "few photos",
    "same_background": "all on the same background",
    "same_framing": "all framed alike",
    "no_close_up": "no close-up",
    "no_whole": "none shows the whole subject",
}


def review(
    photos: Mapping[int, Analysis],
    subjects: Mapping[int, Subject | None] | None = None,
    aside: Collection[int] = (),
) -> Review:
    """Judge the photos of a set, but for those that the user set `aside`, which are only counted.

    `subjects` are the set's own (subject.reconcile, or drawn by the user); a photo without one has its analysis's.
    """
    subjects = subjects or {}
    judged = {number: each for number, each in photos.items() if number not in aside}
    repeated = sets.near_duplicates(judged)
    findings = [*repeated, *judge.of_photos(judged, subjects)]
    out = {number for each in findings if not each.unsure for number in each.aside}
    rest = {number: each for number, each in judged.items() if number not in out}
    findings += sets.of_the_set(rest, subjects)
    counts = Counts(len(photos), len(rest), len(photos) - len(judged))
    return Review(_verdict(counts, findings), counts, tuple(findings))


def pick(photos: Mapping[int, Analysis], count: int, subjects: Mapping[int, Subject | None] | None = None) -> list[int]:
    """The numbers of the `count` photos that are the most diverse and the sharpest, the best first."""
    numbers = list(photos)
    if not numbers or count < 1:
        return []
    feature_ND = _features(photos, subjects or {})
    median = statistics.median(each.blur for each in photos.values())
    good_N = np.array([1 / (1 + 2 * judge.badness(each, median)) for each in photos.values()])
    chosen = [int(good_N.argmax())]
    distance_N = np.linalg.norm(feature_ND - feature_ND[chosen[0]], axis=1)
    while len(chosen) < min(count, len(numbers)):
        score_N = distance_N * good_N
        score_N[chosen] = -1
        chosen.append(int(score_N.argmax()))
        distance_N = np.minimum(distance_N, np.linalg.norm(feature_ND - feature_ND[chosen[-1]], axis=1))
    return [numbers[i] for i in chosen]


def _features(photos: Mapping[int, Analysis], subjects: Mapping[int, Subject | None]) -> Floats:
    """(N, D): the distance of two rows is how different the photos are."""
    shown_ND = np.stack([_shown(each) for each in photos.values()])
    prints_ND = similarity.prints_array([each.print for each in photos.values()])
    if prints_ND is not None:
        shown_ND = prints_ND * (_spread(shown_ND) / max(_spread(prints_ND), 1e-6))
    framing_N3 = np.stack([_framing(subjects.get(number, each.subject)) for number, each in photos.items()])
    return np.concatenate([shown_ND, WEIGHTS["framing"] * framing_N3], axis=1)


def _shown(photo: Analysis) -> Floats:
    """The colours of the subject and of what is behind it, and the grey values, each with its weight."""
    colours = similarity.colours_array(photo.colours)
    grey = np.frombuffer(photo.look, np.uint8).reshape(similarity.SIDE, similarity.SIDE)
    small = cv2.resize(grey, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small = (small - small.mean()) / max(float(np.linalg.norm(small - small.mean())), 1.0)
    parts = {"subject": colours[0], "behind": colours[1], "look": small}
    return np.concatenate([WEIGHTS[name] * part for name, part in parts.items()])


def _framing(subject: Subject | None) -> Floats:
    """Where the subject is, and its size."""
    if subject is None:
        return np.zeros(3, np.float32)
    box = subject.box
    side = max(box.right - box.left, box.bottom - box.top)
    return np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2, np.log(side) / 2], np.float32)


def _spread(values_ND: Floats) -> float:
    """The root mean square distance from the mean."""
    return float(np.sqrt(((values_ND - values_ND.mean(0)) ** 2).sum(1).mean()))


def _verdict(counts: Counts, findings: Sequence[Finding]) -> Verdict:
    parts = ["1 good photo" if counts.good == 1 else f"{counts.good} good photos"]
    for kind, (one, several) in TITLES.items():
        found = [each for each in findings if each.kind == kind and not each.unsure]
        many = {number for each in found for number in (each.aside or each.photos)}
        if many:
            parts.append(one if len(many) == 1 else several.format(len(many)))
    kinds = {each.kind for each in findings if not each.unsure}
    parts += [words for kind, words in OF_THE_SET.items() if kind in kinds]
    words = " ".join(each.words for each in findings if each.of_the_set and not each.unsure)
    unsure = sum(each.unsure for each in findings)
    if unsure:
        words += (
            f"{' ' if words else ''}{unsure} {'finding is' if unsure == 1 else 'findings are'} unsure; have a look."
        )
    return Verdict("; ".join(parts), words or "Nothing stands against training on them.")
