"""What is worth knowing of each photo of a set: blurred, dark, bright, small, a screenshot, no or several subjects.

Each rule is a threshold on one measure and a ramp around it, which gives how sure it is: 0.5 at the threshold, 1 where
nobody would doubt. Below UNSURE a finding is shown as unsure and its action is to look.

    blurred    edges wider than BLUR_PX, and than BLUR_TIMES the set's median: a set shot at dusk is not all blurred
    dark       the subject's median L* and the photo's 98th percentile are low; a black dog on a lawn is not dark
    bright     much of the subject is white, and the photo's 10th percentile is high
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

from core.vision.results import UNSURE, Action, Analysis, Finding, Kind, Subject

BLUR_PX, BLUR_TIMES, BLUR_RAMP = 2.0, 1.9, 0.5
DARK, DARK_RAMP = 44.0, 20.0  # L*: the mean of the subject's median and the photo's 98th percentile
BRIGHT, BRIGHT_RAMP = 0.4, 0.4
BRIGHT_DARKEST = 55.0  # L*
SMALL_PX, TINY_PX = 512, 256
SCREENSHOT = 0.5
OTHER_SHARE = 0.4  # of the subject's box: a piece of this size may be a second subject
NO_SUBJECT = 0.12


def of_photos(photos: Mapping[int, Analysis], subjects: Mapping[int, Subject | None]) -> Iterator[Finding]:
    """Findings about single photos."""
    if not photos:
        return
    median = statistics.median(each.blur for each in photos.values())
    for number, photo in photos.items():
        yield from _of_quality(number, photo, median)
        yield from _of_subject(number, photo, subjects.get(number, photo.subject))


def badness(photo: Analysis, median_blur: float) -> float:
    """0 for a sharp, well exposed photo, 1 and more for one to set aside; chooses the better one of two."""
    return max(_blurred(photo, median_blur), _dark(photo), _bright(photo)) + (0.3 if _side(photo) < SMALL_PX else 0.0)


def _of_quality(number: int, photo: Analysis, median_blur: float) -> Iterator[Finding]:
    sure = _blurred(photo, median_blur)
    if sure >= 0.5:
        yield _finding("blurred", number, "The subject is blurred.", "The subject may be blurred.", sure)
    sure = _dark(photo)
    if sure >= 0.5:
        yield _finding("dark", number, "The photo is too dark.", "The photo may be too dark.", sure)
    sure = _bright(photo)
    if sure >= 0.5:
        yield _finding("bright", number, "Much of the subject is plain white.", "It may be overexposed.", sure)
    if _side(photo) < SMALL_PX:
        words = f"The photo is small: {photo.width} x {photo.height} px; enlarged, it looks soft."
        yield Finding("small", (number,), words, "look", 0.95 if _side(photo) < TINY_PX else 0.75)
    if photo.screenshot >= SCREENSHOT:
        sure = 0.5 + 0.5 * (photo.screenshot - SCREENSHOT) / (1 - SCREENSHOT)
        yield _finding("screenshot", number, "This is a screenshot.", "This may be a screenshot.", sure)


def _of_subject(number: int, photo: Analysis, subject: Subject | None) -> Iterator[Finding]:
    if photo.faces is not None and len(photo.faces) > 1:
        words = f"There are {len(photo.faces)} faces; crop to one, or cover the others."
        yield Finding("several_subjects", (number,), words, "crop", 0.85)
    elif subject is not None:
        own = _area(subject)
        count = 1 + sum((b.right - b.left) * (b.bottom - b.top) >= OTHER_SHARE * own for b in photo.others)
        if count > 1:
            words = f"There may be {count} subjects; crop to one, or cover the others."
            yield Finding("several_subjects", (number,), words, "crop", 0.45)
    if subject is None or subject.sure < NO_SUBJECT:
        sure = 0.7 if subject is None else 0.5
        yield Finding("no_subject", (number,), "Nothing stands out as the subject; draw a box around it.", "look", sure)


def _finding(kind: Kind, number: int, words: str, unsure_words: str, sure: float) -> Finding:
    action: Action = "set_aside" if sure >= UNSURE else "look"
    return Finding(kind, (number,), words if sure >= UNSURE else unsure_words, action, sure)


def _blurred(photo: Analysis, median: float) -> float:
    return _ramp(photo.blur / max(BLUR_PX, BLUR_TIMES * median), 1.0, BLUR_RAMP)


def _dark(photo: Analysis) -> float:
    subject, _, brightest = photo.lightness
    return _ramp(-(subject + brightest) / 2, -DARK, DARK_RAMP)


def _bright(photo: Analysis) -> float:
    _, darkest, _ = photo.lightness
    return _ramp(photo.clipped, BRIGHT, BRIGHT_RAMP) if darkest >= BRIGHT_DARKEST else 0.0


def _ramp(value: float, threshold: float, width: float) -> float:
    """0.5 at the threshold, 1 from `width` above it, 0 from `width` below it."""
    return min(max(0.5 + (value - threshold) / (2 * width), 0.0), 1.0)


def _side(photo: Analysis) -> int:
    return min(photo.width, photo.height)


def _area(subject: Subject) -> float:
    return (subject.box.right - subject.box.left) * (subject.box.bottom - subject.box.top)
