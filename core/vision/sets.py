"""What a set has too much of and what it lacks: near-duplicates, strangers, one background, one framing, no close-up.

Photos that only repeat another are counted once, so that a burst does not make a background the background of all.

Shapes   N photos   D histogram bins
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from core.dataset.crops import Box
from core.vision import judge, similarity
from core.vision.pictures import Floats
from core.vision.results import Analysis, Finding, Subject

SAME = 0.985  # likeness from which two photos of one size are one photo, saved twice
FEW, ENOUGH = 5, 8
SET_AT_LEAST = 5  # photos, for what is said about all of them
UNLIKE, UNLIKE_DEVIATIONS = 0.45, 4.0
PRINT_UNLIKE = 0.35
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
    numbers = list(photos)
    likeness_NN, surest, most = _subject_likeness(photos)
    np.fill_diagonal(likeness_NN, -1)
    nearest = np.sort(likeness_NN, axis=1)[:, -3:].mean(1)
    median = float(np.median(nearest))
    deviation = max(1.4826 * float(np.median(np.abs(nearest - median))), 0.03)
    for number, value in zip(numbers, nearest, strict=True):
        if value < most and value < median - UNLIKE_DEVIATIONS * deviation:
            words = "This may show something else than the other photos."
            yield Finding("unlike_the_rest", (number,), words, "look", surest)


def _subject_likeness(photos: Mapping[int, Analysis]) -> tuple[Floats, float, float]:
    """(N, N) likeness, how sure a finding from it can be, and below which value there may be one."""
    prints = [np.frombuffer(each.print, np.float32) for each in photos.values()]
    if all(len(each) and len(each) == len(prints[0]) for each in prints):
        unit = np.stack([each / max(float(np.linalg.norm(each)), 1e-6) for each in prints])
        return np.asarray(unit @ unit.T, np.float32), 0.75, PRINT_UNLIKE
    subject = np.stack([similarity.colours_array(each.colours)[0] for each in photos.values()])
    return np.asarray(subject @ subject.T, np.float32), 0.5, UNLIKE


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
