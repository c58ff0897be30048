"""Crops that keep the subject, in the exact shape of the bucket that will train them.

    subject box + margin  ->  the smallest box of the bucket's aspect that holds it, but at least WHOLE_SHARE of the
                              largest such box in the photo, around the subject, moved into the photo
    close-up              ->  a second crop, tight around the subject, where it is small in the photo

A subject that is longer than the largest box of that aspect is cut at both ends alike. Plain Python.
"""

from __future__ import annotations

from core.dataset.crops import Box

MARGIN = 0.3  # of the subject's longer side, on each side: a found box may miss a tail or a horn
WHOLE_SHARE = 0.9  # a default crop is at least this long a side, relative to the largest: surroundings teach, too
SMALL_SHARE = 0.42  # of the default crop's area: a subject that fills less is worth a close-up
CLOSE_SIDE_PX = 256  # a close-up of fewer pixels would only be an enlargement


def subject_crop(
    box: Box, photo_size: tuple[int, int], bucket_aspect: float, *, margin: float = MARGIN, share: float = WHOLE_SHARE
) -> Box:
    """The default crop of a photo of `photo_size` (width, height in px) whose subject is in `box`.

    `bucket_aspect` is the bucket's width / height; the crop has it exactly, in pixels of the photo.
    """
    width, height = photo_size
    widest = min(width, height * bucket_aspect)  # the largest box of that aspect in the photo
    left, right, top, bottom = box.left * width, box.right * width, box.top * height, box.bottom * height
    room = margin * max(right - left, bottom - top)
    needed = max(right - left + 2 * room, (bottom - top + 2 * room) * bucket_aspect)
    wide = min(max(needed, share * widest), widest)
    high = wide / bucket_aspect
    x = min(max((left + right - wide) / 2, 0.0), width - wide)
    y = min(max((top + bottom - high) / 2, 0.0), height - high)
    return Box(max(x / width, 0.0), max(y / height, 0.0), min((x + wide) / width, 1.0), min((y + high) / height, 1.0))


def close_up(box: Box, photo_size: tuple[int, int], bucket_aspect: float) -> Box | None:
    """A second, tight crop; None where the default crop is close already, or the subject has too few pixels."""
    first = subject_crop(box, photo_size, bucket_aspect)
    if _area(box) >= SMALL_SHARE * _area(first):
        return None
    tight = subject_crop(box, photo_size, bucket_aspect, share=0.0)
    wide, high = (tight.right - tight.left) * photo_size[0], (tight.bottom - tight.top) * photo_size[1]
    if min(wide, high) < CLOSE_SIDE_PX or _area(tight) > 0.7 * _area(first):
        return None
    return tight


def _area(box: Box) -> float:
    return (box.right - box.left) * (box.bottom - box.top)
