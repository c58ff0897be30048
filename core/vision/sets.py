"""What a set has too much of and what it lacks: near-duplicates, strangers, one background, one framing, no close-up.

Photos that only repeat another are counted once, so that a burst does not make a background the background of all.

Shapes   N photos   D histogram bins, or features of a print
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from core.dataset.crops import Box
from core.vision import dinov2, judge, similarity
from core.vision.pictures import Floats, Mask
from core.vision.results import Analysis, Finding, Subject

SAME = 0.985  # likeness from which two photos of one size are one photo, saved twice
FEW, ENOUGH = 5, 8
SET_AT_LEAST = 5  # photos, for what is said about all of them
UNLIKE, UNLIKE_DEVIATIONS = 0.45, 4.0
PRINT_UNLIKE = 0.35  # of Apple's prints
FARTHER, FARTHER_DEVIATIONS = 1.5, 4.0  # of DINOv2's, for which no likeness is known to mean another subject
NEAREST = 3  # others, whose mean counts
BACKGROUND_ALIKE, BACKGROUND_SHARE = 0.78, 0.8
FRAMING_PLACE, FRAMING_SIZE = 0.05, 0.18  # deviations: of the centre, and of the logarithm of the longer side
CLOSE_SHARE = 0.4  # of the photo's area, or two opposite edges touched
EDGE = 0.012


def near_duplicates(photos: Mapping[int, Analysis]) -> list[Finding]:
    """One finding for each group; the sharpest photo stays."""
    numbers = list(photos)
    if not numbers:
        return []
    median = statistics.median(each.blur for each in photos.values())
    found = []
    for held, lowest in similarity.groups(len(numbers), similarity.pairs([each.look for each in photos.values()])):
        members = tuple(numbers[i] for i in held)
        keep = min(members, key=lambda n: (round(judge.badness(photos[n], median), 1), photos[n].blur, n))
        sure = 0.6 + 0.4 * (lowest - similarity.ALIKE) / (1 - similarity.ALIKE)
        sizes = {(photos[n].width, photos[n].height) for n in members}
        if lowest >= SAME and len(sizes) == 1:
            words = f"{len(members)} files are the same photo; one is enough."
            found.append(Finding("duplicate", members, words, "set_aside", sure, keep))
        else:
            words = f"{len(members)} photos are nearly the same; keep the sharpest."
            found.append(Finding("near_duplicate", members, words, "set_aside", sure, keep))
    return found


def of_the_set(photos: Mapping[int, Analysis], subjects: Mapping[int, Subject | None]) -> Iterator[Finding]:
    """Findings about all photos; those that are set aside or only repeat another are left out by the caller."""
    everything = tuple(photos)
    if len(photos) < ENOUGH:
        few = len(photos) < FEW
        words = f"{'Only ' if few else ''}{_photos(len(photos))}; with {ENOUGH} to 20 the model learns better."
        yield Finding("few_photos", everything, words, "look", 1.0 if few else 0.75)
    if len(photos) < SET_AT_LEAST:
        return
    yield from _unlike_the_rest(photos)
    background = _same_background(photos)
    if background >= 0.5:
        yield Finding("same_background", everything, "The background is the same in nearly all photos; it will be "
                      "learned with the subject.", "look", background)  # fmt: skip
    boxes = [found.box for n, each in photos.items() if (found := subjects.get(n, each.subject)) is not None]
    if len(boxes) >= SET_AT_LEAST:
        yield from _of_framing(everything, boxes)


def _of_framing(everything: tuple[int, ...], boxes: Sequence[Box]) -> Iterator[Finding]:
    places = np.array([[(b.left + b.right) / 2, (b.top + b.bottom) / 2] for b in boxes])
    sizes = np.log([max(b.right - b.left, b.bottom - b.top) for b in boxes])
    if places.std(0).max() < FRAMING_PLACE and sizes.std() < FRAMING_SIZE:
        yield Finding("same_framing", everything, "The subject has the same place and size in all photos.", "crop", 0.7)
    if not any(_is_close(each) for each in boxes):
        words = "No photo shows the subject close up; a tight crop of a sharp photo helps."
        yield Finding("no_close_up", everything, words, "crop", 0.7)
    if all(_touches(each) for each in boxes):
        yield Finding("no_whole", everything, "No photo shows the whole subject.", "look", 0.65)


def _unlike_the_rest(photos: Mapping[int, Analysis]) -> Iterator[Finding]:
    """A photo whose nearest others are far, by feature prints where the analyser has them, else by colours alone."""
    prints_ND = similarity.prints_array([each.print for each in photos.values()])
    if prints_ND is None:
        subject_ND = np.stack([similarity.colours_array(each.colours)[0] for each in photos.values()])
        far_N, sure = _below(subject_ND @ subject_ND.T, UNLIKE), 0.5
    elif all(dinov2.MARK in each.analyser for each in photos.values()):
        far_N, sure = _farther(1 - prints_ND @ prints_ND.T), 0.5
    else:
        far_N, sure = _below(prints_ND @ prints_ND.T, PRINT_UNLIKE), 0.75
    for number, far in zip(photos, far_N, strict=True):
        if far:
            words = "This may show something else than the other photos."
            yield Finding("unlike_the_rest", (number,), words, "look", sure)


def _below(likeness_NN: Floats, most: float) -> Mask:
    """(N,) where the likeness to the nearest others is below `most`, and far below what is usual in the set."""
    np.fill_diagonal(likeness_NN, -1)
    nearest_N = np.sort(likeness_NN, axis=1)[:, -NEAREST:].mean(1)
    median = float(np.median(nearest_N))
    deviation = max(1.4826 * float(np.median(np.abs(nearest_N - median))), 0.03)
    return np.asarray((nearest_N < most) & (nearest_N < median - UNLIKE_DEVIATIONS * deviation), np.bool_)


def _farther(distance_NN: Floats) -> Mask:
    """(N,) where the nearest others are far by the set's own measure: times and deviations of its median distance."""
    np.fill_diagonal(distance_NN, np.inf)
    nearest_N = np.log(np.maximum(np.sort(distance_NN, axis=1)[:, :NEAREST].mean(1), 1e-6))
    above_N = nearest_N - np.median(nearest_N)
    deviation = 1.4826 * float(np.median(np.abs(above_N)))
    return np.asarray(above_N > max(np.log(FARTHER), FARTHER_DEVIATIONS * deviation), np.bool_)


def _same_background(photos: Mapping[int, Analysis]) -> float:
    """How sure it is that nearly all photos share one background, 0 to 1."""
    behind = np.stack([similarity.colours_array(each.colours)[1] for each in photos.values()])
    likeness = behind @ behind.T
    count = len(likeness)
    alike = ((likeness >= BACKGROUND_ALIKE).sum(1) - 1) / (count - 1)
    share = float((alike >= 0.6).mean())
    return 0.0 if share < BACKGROUND_SHARE else 0.5 + 0.4 * (share - BACKGROUND_SHARE) / (1 - BACKGROUND_SHARE)


def _is_close(box: Box) -> bool:
    across = box.left <= EDGE and box.right >= 1 - EDGE
    down = box.top <= EDGE and box.bottom >= 1 - EDGE
    return across or down or (box.right - box.left) * (box.bottom - box.top) >= CLOSE_SHARE


def _touches(box: Box) -> bool:
    return min(box.left, box.top, 1 - box.right, 1 - box.bottom) <= EDGE


def _photos(count: int) -> str:
    return "1 photo" if count == 1 else f"{count} photos"
