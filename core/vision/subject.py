"""Where the subject of a photo is: a mask at some 160 px, its box, and how sure that is.

    rough       salient regions of one photo above a half; for what is measured within the subject
    reconcile   of a set: the joint estimate s of all photos, over two grids of regions; then s, GrabCut (Rother et al.
                2004) started from s, and GrabCut started from all but the border vote for each pixel, and the largest
                pieces of what has more than IN_A_SET of the votes stay

Shapes   H W rows and columns   R regions
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from core.dataset.crops import Box
from core.vision import commonality, saliency, similarity
from core.vision.pictures import SMALL_SIDE_PX, Floats, Mask, Pixels, box_of, decode_mask, encode_mask, shrunk
from core.vision.regions import Regions, regions_of, regions_of_each
from core.vision.results import Analysis, Subject

HALF = 0.5
REGIONS = (12, 16)  # seeds a side
SURE_SUBJECT, SURE_BACKGROUND = 0.9, 0.15  # of s: GrabCut may not change these
IN_A_SET = 0.6  # of the votes, where the others of a set had a say; HALF for a photo by itself
BORDER = 0.08  # of the photo's sides
BORDER_SIDE_PX = 128  # at which GrabCut starts from the border
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


def rough(photo_HW3: Pixels) -> tuple[Found | None, bytes]:
    """What stands out in one photo of SMALL_SIDE_PX, and its map as an 8-bit grey PNG, which `reconcile` takes."""
    regions = regions_of(photo_HW3)
    likely_HW = regions.spread(saliency.salient(regions))
    values = (likely_HW * 255).round().astype(np.uint8)
    _, content = cv2.imencode(".png", values)
    return _found(likely_HW, [likely_HW > HALF], likely_HW, HALF), content.tobytes()


def find(photo_HW3: Pixels) -> Found | None:
    """The subject of one photo, of any size, by itself; None where nothing stands out."""
    small_HW3 = shrunk(photo_HW3, SMALL_SIDE_PX)
    regions = regions_of(small_HW3)
    return cut(small_HW3, regions.spread(saliency.salient(regions)))


def reconcile(
    photos: Mapping[int, Analysis],
    picture: Callable[[int], Pixels],
    known: Mapping[int, Subject] | None = None,
    only: Sequence[int] | None = None,
    threads: int = 2,
) -> dict[int, Subject | None]:
    """The subjects of a set, found together; those in `known`, which somebody drew, stay and teach the others.

    `picture(number)` is the photo at SMALL_SIDE_PX or larger, upright. With `only`, the others just take part.
    """
    sure = {number: each.subject for number, each in photos.items() if each.subject and each.subject.sure > TRUSTED}
    known = sure | dict(known or {})
    numbers = list(photos)
    mates = _mates(photos, numbers, known)
    wanted = set(numbers if only is None else only) - set(known)
    needed = sorted({i for i, number in enumerate(numbers) if number in wanted} | {
        j for i, number in enumerate(numbers) if number in wanted for j in mates[i]})  # fmt: skip
    place = {i: at for at, i in enumerate(needed)}
    small = [shrunk(picture(numbers[i]), SMALL_SIDE_PX) for i in needed]
    drawn = {at: known[numbers[i]] for at, i in enumerate(needed) if numbers[i] in known}
    inside = [[place[j] for j in mates[i] if j in place] for i in needed]
    likely = _likely(small, [photos[numbers[i]].salient for i in needed], inside, drawn)
    asked = [at for at, i in enumerate(needed) if numbers[i] in wanted]
    with ThreadPoolExecutor(threads) as pool:  # OpenCV computes outside of Python's lock
        masks = pool.map(lambda at: cut(small[at], likely[at], IN_A_SET if inside[at] else HALF), asked)
        found = {
            numbers[needed[at]]: None if each is None else each.subject() for at, each in zip(asked, masks, strict=True)
        }
    return found | dict(known)


def cut(photo_HW3: Pixels, likely_HW: Floats, least: float = HALF) -> Found | None:
    """The mask of one photo of SMALL_SIDE_PX or less, from values 0..1; it has more than `least` of the votes."""
    masks = [_grabcut_from(photo_HW3, likely_HW), _grabcut_within(photo_HW3)]
    vote_HW = np.stack([likely_HW, *masks]).astype(np.float32).mean(0)
    return _found(vote_HW, [likely_HW > HALF, masks[0]], likely_HW, least)


def _found(vote_HW: Floats, masks: Sequence[Mask], likely_HW: Floats, least: float) -> Found | None:
    if float(likely_HW.max()) <= HALF:
        return None
    pieces = _pieces(vote_HW > least, vote_HW)
    if not pieces:
        return None
    mask = np.logical_or.reduce(pieces)
    box = box_of(mask)
    if box is None:
        return None
    others = tuple(each for piece in pieces[1:] if (each := box_of(piece)) is not None)
    return Found(mask, box, others, _sureness(masks, likely_HW, mask))


def _likely(
    small: Sequence[Pixels], salient: Sequence[bytes], mates: Sequence[Sequence[int]], drawn: Mapping[int, Subject]
) -> list[Floats]:
    """(H, W) for each photo: the mean of the joint estimates over coarser and finer regions, whose errors differ."""
    total = [np.zeros(each.shape[:2], np.float32) for each in small]
    every = [regions_of_each(each, REGIONS) for each in small]
    for at_grid in range(len(REGIONS)):
        regions = [each[at_grid] for each in every]
        alone = [_at_regions(each, content) for each, content in zip(regions, salient, strict=True)]
        for at, subject in drawn.items():
            mask = decode_mask(subject.mask, (small[at].shape[1], small[at].shape[0]))
            alone[at] = regions[at].mean(mask.astype(np.float32))
        for at, value_R in enumerate(commonality.joint(regions, mates, alone, set(drawn))):
            total[at] += regions[at].spread(value_R) / len(REGIONS)
    return total


def _at_regions(regions: Regions, salient: bytes) -> Floats:
    """(R,) what `rough` kept of the photo."""
    values = cv2.imdecode(np.frombuffer(salient, np.uint8), cv2.IMREAD_GRAYSCALE)
    if values is None:
        return saliency.salient(regions)
    height, width = regions.labels_HW.shape
    likely_HW = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return regions.mean(np.asarray(likely_HW, np.float32) / np.float32(255))


def _mates(photos: Mapping[int, Analysis], numbers: Sequence[int], known: Collection[int]) -> list[list[int]]:
    """For each photo the others that it is compared with: no near-duplicates, the known, some spread over the set."""
    looks = [photos[number].look for number in numbers]
    alike = {(i, j) for i, j, _ in similarity.pairs(looks)}
    found = []
    for i in range(len(numbers)):
        others = [j for j in range(len(numbers)) if j != i and (min(i, j), max(i, j)) not in alike]
        step = max(len(others) / commonality.MATES_AT_MOST, 1.0)
        spread = [others[int(k * step)] for k in range(min(len(others), commonality.MATES_AT_MOST))]
        drawn = [j for j in others if numbers[j] in known][: commonality.MATES_AT_MOST]
        found.append([*drawn, *(j for j in spread if j not in drawn)])
    return found


def _grabcut_from(photo_HW3: Pixels, likely_HW: Floats) -> Mask:
    """Started from what is likely the subject; what is likely enough stays."""
    start = np.where(likely_HW > HALF, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    start[likely_HW >= SURE_SUBJECT] = cv2.GC_FGD
    start[likely_HW <= SURE_BACKGROUND] = cv2.GC_BGD
    return _grabcut(photo_HW3, start, 2)


def _grabcut_within(photo_HW3: Pixels) -> Mask:
    """Started from all but the border."""
    small_HW3 = shrunk(photo_HW3, BORDER_SIDE_PX)
    height, width = small_HW3.shape[:2]
    start = np.full((height, width), cv2.GC_BGD, np.uint8)
    down, across = max(round(BORDER * height), 1), max(round(BORDER * width), 1)
    start[down : height - down, across : width - across] = cv2.GC_PR_FGD
    found = _grabcut(small_HW3, start, 3).astype(np.uint8)
    size = photo_HW3.shape[1], photo_HW3.shape[0]
    return np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_NEAREST) > 0, np.bool_)


def _grabcut(photo_HW3: Pixels, start_HW: Pixels, rounds: int) -> Mask:
    """`start_HW` as it is where one side has too few pixels for a model of colours."""
    inside = (start_HW == cv2.GC_PR_FGD) | (start_HW == cv2.GC_FGD)
    if min(inside.sum(), (~inside).sum()) < 20:
        return np.asarray(inside, np.bool_)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # of this thread; its k-means draws; the same photo has the same mask
    cv2.grabCut(photo_HW3, start_HW, (0, 0, 1, 1), *models, rounds, cv2.GC_INIT_WITH_MASK)
    return np.asarray((start_HW == cv2.GC_PR_FGD) | (start_HW == cv2.GC_FGD), np.bool_)


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
