"""How alike photos are: near-duplicates and bursts, and what a set has in common.

    look      a square of SIDE x SIDE grey values. Two photos are compared after registration: the affine warp that
              brings one onto the other (Evangelidis and Psarakis 2008, ECC), which a burst's few per cent of shift,
              zoom and turn need; then the correlation, which no change of brightness or contrast moves, of the whole
              and of its parts. A head that turned or an arm that rose shows in the parts.
    colours   histograms over Lab of the subject and of what surrounds it, as square roots, so that a product of two is
              their Bhattacharyya coefficient: 1 the same, 0 nothing in common
    print     what a network sees, where the analyser has one; a product of two is their cosine

Shapes   S side of a look   N photos   D histogram bins, or features of a print
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from core.vision.pictures import Floats, Mask, Pixels

SIDE = 64
COARSE_SIDE = 12  # of the small look that chooses which pairs are registered
COARSE_AT_LEAST = 0.55  # its correlation
PARTS = 4  # a side
ALIKE = 0.90  # the score from which two photos are near-duplicates
EVERYWHERE = np.full((SIDE, SIDE), 255, np.uint8)  # the part of a look that registration uses
BINS = (6, 8, 8)  # L*, a*, b*
RANGES = ((0.0, 100.0), (-80.0, 80.0), (-80.0, 80.0))


def look_of(photo_HW3: Pixels) -> bytes:
    """SIDE x SIDE grey values, the photo squeezed into a square."""
    small = cv2.resize(photo_HW3, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).tobytes()


def colours_of(lab_HW3: Floats, subject_HW: Mask | None) -> bytes:
    """Histograms of the subject and of the background as uint8, D each; of the whole twice without a subject."""
    whole = np.ones(lab_HW3.shape[:2], np.bool_)
    inside = whole if subject_HW is None else subject_HW
    outside = whole if subject_HW is None or subject_HW.all() else ~subject_HW
    return b"".join(_histogram(lab_HW3[each]) for each in (inside, outside))


def colours_array(colours: bytes) -> Floats:
    """(2, D): square roots of the subject's and the background's histogram, each of length 1."""
    values = np.frombuffer(colours, np.uint8).reshape(2, -1).astype(np.float32)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6), np.float32)


def prints_array(prints: Sequence[bytes]) -> Floats | None:
    """(N, D) feature prints, each of length 1; None unless every photo has one, of the same kind."""
    if not prints or not prints[0] or len({len(each) for each in prints}) > 1:
        return None
    values = np.stack([np.frombuffer(each, np.float32) for each in prints])
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6), np.float32)


def likeness(one: bytes, other: bytes) -> float:
    """0..1 for two looks: the correlation once they are registered, of the whole or of a poor part if that is lower."""
    fixed, moving = _grey(one), _grey(other)
    warp = np.eye(2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
    try:
        _, found = cv2.findTransformECC(fixed, moving, warp, cv2.MOTION_AFFINE, criteria, EVERYWHERE, 3)
    except cv2.error:  # it did not converge: nothing to register
        return 0.0
    warp = np.asarray(found, np.float32)
    if np.abs(warp - np.eye(2, 3)).max(initial=0, where=[[True, True, False]] * 2) > 0.25:
        return 0.0  # no burst is zoomed or turned by so much
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = np.asarray(cv2.warpAffine(moving, warp, (SIDE, SIDE), flags=flags), np.float32)
    seen = cv2.warpAffine(np.ones_like(moving), warp, (SIDE, SIDE), flags=flags) > 0.99
    if seen.mean() < 0.6:
        return 0.0
    return _worst_correlation(fixed, moved, seen)


def pairs(looks: Sequence[bytes]) -> list[tuple[int, int, float]]:
    """Pairs of near-duplicates (i < j) and their likeness, from ALIKE on."""
    if len(looks) < 2:
        return []
    coarse = np.stack([_coarse(each) for each in looks])
    found = []
    for i in range(len(looks) - 1):
        for j in np.flatnonzero(coarse[i + 1 :] @ coarse[i] >= COARSE_AT_LEAST) + i + 1:
            score = likeness(looks[i], looks[int(j)])
            if score >= ALIKE:
                found.append((i, int(j), score))
    return found


def groups(count: int, linked: Sequence[tuple[int, int, float]]) -> list[tuple[list[int], float]]:
    """Connected groups of two or more of `count` photos, each with the lowest likeness that holds it together."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    weakest: dict[int, float] = {}
    for i, j, score in sorted(linked, key=lambda each: -each[2]):
        a, b = root(i), root(j)
        if a != b:
            parent[b] = a
            weakest[a] = min(score, weakest.get(a, 1.0), weakest.pop(b, 1.0))
    members: dict[int, list[int]] = {}
    for i in range(count):
        members.setdefault(root(i), []).append(i)
    return [(held, weakest[key]) for key, held in members.items() if len(held) > 1]


def _grey(look: bytes) -> Floats:
    return np.frombuffer(look, np.uint8).reshape(SIDE, SIDE).astype(np.float32)


def _coarse(look: bytes) -> Floats:
    """A unit vector whose product with another's is the correlation of the two small pictures."""
    small = cv2.resize(_grey(look), (COARSE_SIDE, COARSE_SIDE), interpolation=cv2.INTER_AREA).ravel()
    small = small - small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-3), np.float32)


def _histogram(lab_N3: Floats) -> bytes:
    """Square roots of the shares of D bins, scaled so that the largest is 255."""
    counts, _ = np.histogramdd(lab_N3, bins=BINS, range=RANGES)
    roots = np.sqrt(counts.ravel())
    values = np.asarray((roots / max(float(roots.max()), 1e-6) * 255).round(), np.uint8)
    return values.tobytes()


def _worst_correlation(fixed_SS: Floats, moved_SS: Floats, seen_SS: Mask) -> float:
    """The correlation over what both show, lowered by the parts: the deviation left in each part, against the whole."""
    a, b = fixed_SS[seen_SS], moved_SS[seen_SS]
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) / len(a)))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norm < 1e-3:
        return 0.0
    whole = float(a @ b) / norm
    gain = float(a @ b) / float(b @ b)
    rest = np.zeros_like(fixed_SS)
    rest[seen_SS] = a - gain * b
    step = SIDE // PARTS
    squared = (rest**2).reshape(PARTS, step, PARTS, step).sum((1, 3))
    weight = seen_SS.reshape(PARTS, step, PARTS, step).sum((1, 3))
    worst = float(np.sqrt((squared / np.maximum(weight, step)).max())) / max(spread, 1e-3)
    return max(min(whole, 1 - 0.5 * worst**2), 0.0)
