"""Where the subject of a photo is: a mask at some 200 px, its box, and how sure that is.

    region values s (saliency, or the set's joint estimate)   ->   GrabCut (Rother et al. 2004) from several thresholds of s
    the cuts' mean with s   ->   above a half   ->   the largest pieces   ->   box

Shapes   H W rows and columns   R regions
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from core.dataset.crops import Box
from core.vision import commonality, saliency, similarity
from core.vision.pictures import SMALL_SIDE_PX, Floats, Mask, Pixels, box_of, decode_mask, encode_mask, shrunk
from core.vision.regions import Regions, regions_of
from core.vision.results import Analysis, Subject

CUTS = (0.35, 0.55)  # values of s from which a pixel starts as probably of the subject
SURE_SUBJECT, SURE_BACKGROUND = 0.9, 0.06  # of s: GrabCut may not change these
ROUNDS = 3  # of GrabCut
TRUSTED = 0.9  # a subject of the photo alone that is surer than this stays; only Apple's Vision is
PIECE_SHARE = 0.15  # of the largest piece's weight: smaller pieces are dropped


@dataclass(frozen=True, slots=True)
class Found:
    """The mask, and further pieces that might be subjects of their own."""

    mask_HW: Mask
    box: Box
    others: tuple[Box, ...]
    sure: float

    def subject(self) -> Subject:
        return Subject(self.box, encode_mask(self.mask_HW), self.sure)


def find(photo_HW3: Pixels) -> Found | None:
    """The subject of one photo, of any size; None where nothing stands out."""
    small_HW3 = shrunk(photo_HW3, SMALL_SIDE_PX)
    regions = regions_of(small_HW3)
    return cut(small_HW3, regions, saliency.salient(regions))


def reconcile(
    photos: Mapping[int, Analysis],
    picture: Callable[[int], Pixels],
    known: Mapping[int, Subject] | None = None,
    only: Sequence[int] | None = None,
) -> dict[int, Subject | None]:
    """The subjects of a set, found together; those in `known`, which somebody drew, stay and teach the others.

    `picture(number)` is the photo at SMALL_SIDE_PX or larger, upright. With `only`, the others just take part.
    """
    sure = {number: each.subject for number, each in photos.items() if each.subject and each.subject.sure > TRUSTED}
    known = sure | dict(known or {})
    numbers = list(photos)
    mates = _mates(photos, numbers)
    wanted = set(numbers if only is None else only) - set(known)
    needed = sorted({i for i, number in enumerate(numbers) if number in wanted} | {
        j for i, number in enumerate(numbers) if number in wanted for j in mates[i]})  # fmt: skip
    place = {i: at for at, i in enumerate(needed)}
    small = [shrunk(picture(numbers[i]), SMALL_SIDE_PX) for i in needed]
    regions = [regions_of(each) for each in small]
    drawn = {
        at: each.mean(decode_mask(known[numbers[i]].mask, (small[at].shape[1], small[at].shape[0])).astype(np.float32))
        for at, (i, each) in enumerate(zip(needed, regions, strict=True))
        if numbers[i] in known
    }
    values = commonality.joint(regions, [[place[j] for j in mates[i] if j in place] for i in needed], drawn)
    found: dict[int, Subject | None] = {}
    for at, i in enumerate(needed):
        if numbers[i] in wanted:
            result = cut(small[at], regions[at], values[at])
            found[numbers[i]] = None if result is None else result.subject()
    return found | dict(known)


def cut(photo_HW3: Pixels, regions: Regions, subject_R: Floats) -> Found | None:
    """The mask from region values; of one photo of SMALL_SIDE_PX or less."""
    likely_HW = regions.spread(subject_R)
    masks = [mask for level in CUTS if (mask := _grabcut(photo_HW3, likely_HW, level)) is not None]
    if not masks:
        return None
    mean_HW = (np.mean(masks, axis=0) * 2 + likely_HW) / 3
    pieces = _pieces(mean_HW > 0.5, mean_HW)
    if not pieces:
        return None
    mask = np.logical_or.reduce(pieces)
    box = box_of(mask)
    if box is None:
        return None
    others = tuple(each for piece in pieces[1:] if (each := box_of(piece)) is not None)
    return Found(mask, box, others, _sureness(masks, likely_HW, mask))


def with_subject(analysis: Analysis, subject: Subject | None) -> Analysis:
    """The analysis with another subject, as the set's estimate or a person has it."""
    return replace(analysis, subject=subject)


def _mates(photos: Mapping[int, Analysis], numbers: Sequence[int]) -> list[list[int]]:
    """For each photo the others that it is compared with: no near-duplicates, spread evenly over the set."""
    looks = [photos[number].look for number in numbers]
    alike = {(i, j) for i, j, _ in similarity.pairs(looks)}
    found = []
    for i in range(len(numbers)):
        others = [j for j in range(len(numbers)) if j != i and (min(i, j), max(i, j)) not in alike]
        step = max(len(others) / commonality.MATES_AT_MOST, 1.0)
        found.append([others[int(k * step)] for k in range(min(len(others), commonality.MATES_AT_MOST))])
    return found


def _grabcut(photo_HW3: Pixels, likely_HW: Floats, level: float) -> Mask | None:
    start = np.where(likely_HW >= level, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    start[likely_HW >= SURE_SUBJECT] = cv2.GC_FGD
    start[likely_HW <= SURE_BACKGROUND] = cv2.GC_BGD
    inside = (start == cv2.GC_PR_FGD) | (start == cv2.GC_FGD)
    if inside.sum() < 20 or (~inside).sum() < 20:
        return None
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its k-means draws; the same photo has the same mask
    cv2.grabCut(photo_HW3, start, (0, 0, 1, 1), *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.asarray((start == cv2.GC_PR_FGD) | (start == cv2.GC_FGD), np.bool_)


def _pieces(mask_HW: Mask, weight_HW: Floats) -> list[Mask]:
    """The connected pieces of a mask, without hairs, the heaviest first; a piece near the middle weighs more."""
    height, width = mask_HW.shape
    side = max(round(max(height, width) / 64), 1) | 1
    opened = cv2.morphologyEx(mask_HW.astype(np.uint8), cv2.MORPH_OPEN, cv2.getStructuringElement(
        cv2.MORPH_ELLIPSE, (side, side)))  # fmt: skip
    count, labels = cv2.connectedComponents(opened)
    if count < 2:
        return []
    rows, columns = np.mgrid[:height, :width]
    place = np.stack([(columns.ravel() + 0.5) / width, (rows.ravel() + 0.5) / height], 1).astype(np.float32)
    weight = weight_HW.ravel() * saliency.centre_prior(place)
    sums = np.bincount(labels.ravel(), weight, count)
    order = [i for i in np.argsort(-sums) if i != 0]
    return [np.asarray(labels == i, np.bool_) for i in order if sums[i] >= PIECE_SHARE * sums[order[0]]]


def _sureness(masks: Sequence[Mask], likely_HW: Floats, mask_HW: Mask) -> float:
    """How much the cuts agree, and how far s inside is above s outside."""
    union = np.logical_or.reduce(masks).sum()
    agree = np.logical_and.reduce(masks).sum() / max(int(union), 1)
    inside = float(likely_HW[mask_HW].mean())
    outside = float(likely_HW[~mask_HW].mean()) if not mask_HW.all() else 1.0
    return float(np.clip(agree * (inside - outside) * 1.2, 0, TRUSTED))
