"""The subjects of a set: which are to be found, how, and what the user's boxes and masks say about them.

    new photo            found together with the others (core.vision.subject.reconcile)
    much larger set      found again: what recurs in a set is its subject, and more photos show better what does
    your box             found within it
    your mask            teaches the others; what is found in the photo itself is kept for when the mask is removed

Shapes   H W rows and columns
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from app.home import Home
from app.tables import Photo, Subject
from core.dataset.crops import Box
from core.vision import pictures, results, saliency
from core.vision import subject as subjects
from core.vision.regions import regions_of

AGAIN = 1.5  # times as many photos as when a subject was found


@dataclass(frozen=True, slots=True)
class Member:
    """A photo of the set, with its analysis and the subject that an earlier judgement found."""

    row: Photo
    analysis: results.Analysis
    subject: Subject | None


Found = dict[int, results.Subject | None]


def find(home: Home, members: Mapping[int, Member]) -> Found:
    """The subjects that are new, or to be found again, by photo id. None: nothing stands out in the photo."""
    active = {number: each for number, each in members.items() if not each.row.aside}
    known = {number: drawn for number, each in active.items() if (drawn := _drawn(home, each.row)) is not None}
    found: Found = {
        number: _within(home, each)
        for number, each in members.items()
        if each.row.subject is not None and (each.subject is None or each.subject.within != each.row.subject)
    }
    wanted = [
        number
        for number, each in active.items()
        if each.row.subject is None and number not in known and _is_due(each, len(active))
    ]
    if wanted:
        analyses = {number: each.analysis for number, each in active.items()}
        joint = subjects.reconcile(analyses, lambda number: _picture(home, members[number].row), known, wanted)
        found |= {number: joint[number] for number in wanted}
    alone = [number for number, each in members.items() if each.subject is None and number not in found]
    return found | {number: members[number].analysis.subject for number in alone}


def in_force(home: Home, member: Member, found: Found, number: int) -> results.Subject | None:
    """The subject to judge by: the user's mask or box, else what was found now, else earlier."""
    drawn = _drawn(home, member.row)
    if drawn is not None:
        return drawn
    subject, earlier = found.get(number), member.subject
    if number not in found and earlier is not None and earlier.box is not None:
        subject = results.Subject(Box(*earlier.box), b"", earlier.sure)
    if member.row.subject is None:
        return subject
    return results.Subject(Box(*member.row.subject), subject.mask if subject else b"", 1.0)


def _is_due(member: Member, count: int) -> bool:
    """Also where an earlier one was found within a box that the user has removed."""
    earlier = member.subject
    return earlier is None or earlier.within is not None or earlier.of * AGAIN <= count


def _picture(home: Home, row: Photo) -> pictures.Pixels:
    """The thumbnail, which is read faster; else the photo."""
    thumb = home.thumb(row.sha256)
    if not thumb.is_file():
        return pictures.read(home.photo(row.sha256, row.extension))[0]
    with Image.open(thumb) as image:
        return np.asarray(image.convert("RGB"))


def _drawn(home: Home, row: Photo) -> results.Subject | None:
    """The subject as the user's own mask has it; None without one."""
    if row.mask is None or row.mask_box is None or not home.mask(row.mask).is_file():
        return None
    scale = min(pictures.SMALL_SIDE_PX / max(row.width, row.height), 1.0)
    size = max(round(row.width * scale), 1), max(round(row.height * scale), 1)
    mask_HW = pictures.decode_mask(home.mask(row.mask).read_bytes(), size)
    return results.Subject(Box(*(row.subject or row.mask_box)), pictures.encode_mask(mask_HW), 1.0)


def _within(home: Home, member: Member) -> results.Subject:
    """The subject in the user's box; all of the box where nothing stands out in it."""
    box = Box(*(member.row.subject or (0.0, 0.0, 1.0, 1.0)))
    small_HW3 = pictures.shrunk(_picture(home, member.row), pictures.SMALL_SIDE_PX)
    rows, columns = ((np.arange(count) + 0.5) / count for count in small_HW3.shape[:2])
    across = (columns >= box.left) & (columns < box.right)
    inside_HW = ((rows >= box.top) & (rows < box.bottom))[:, None] & across[None]
    regions = regions_of(small_HW3)
    likely_R = saliency.salient(regions) * regions.mean(inside_HW.astype(np.float32))
    cut = subjects.cut(small_HW3, regions.spread(saliency.stretched(likely_R)))
    mask_HW = inside_HW if cut is None or not (cut.mask_HW & inside_HW).any() else cut.mask_HW & inside_HW
    return results.Subject(box, pictures.encode_mask(np.asarray(mask_HW, np.bool_)), 1.0)
