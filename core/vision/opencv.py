"""The analyser that runs everywhere: OpenCV and numpy, nothing downloaded. It knows no faces and no kinds of things."""

from __future__ import annotations

import cv2
import numpy as np

from core.vision import quality, similarity, subject
from core.vision.pictures import SMALL_SIDE_PX, Pixels, decode_mask, lab_of, shrunk
from core.vision.results import Analysis


class OpenCVAnalyser:
    """See core/vision/base.py."""

    name = "opencv-1"

    def analyse(self, photo_HW3: Pixels, size: tuple[int, int]) -> Analysis:
        """See `make eval-vision` for its time."""
        found, salient = subject.rough(shrunk(photo_HW3, SMALL_SIDE_PX))
        return describe(photo_HW3, size, found, self.name, salient)


def describe(
    photo_HW3: Pixels, size: tuple[int, int], found: subject.Found | None, name: str, salient: bytes = b""
) -> Analysis:
    """What follows from the pixels once the subject is found; also for analysers that find it otherwise."""
    small_HW3 = shrunk(photo_HW3, SMALL_SIDE_PX)
    lab_HW3 = lab_of(small_HW3)
    mask = large = None
    if found is not None:
        mask = np.asarray(decode_mask(found.subject().mask, (small_HW3.shape[1], small_HW3.shape[0])), np.bool_)
        grown = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8))  # edges of the subject are half outside
        large = cv2.resize(grown, (photo_HW3.shape[1], photo_HW3.shape[0]), interpolation=cv2.INTER_NEAREST) > 0
    exposure = quality.exposure_of(lab_HW3, small_HW3, mask)
    return Analysis(
        analyser=name,
        width=size[0],
        height=size[1],
        blur=quality.blur_of(photo_HW3, large),
        lightness=(exposure.subject, exposure.darkest, exposure.brightest),
        clipped=exposure.clipped,
        screenshot=quality.screenshot_score(photo_HW3),
        subject=None if found is None else found.subject(),
        others=() if found is None else found.others,
        faces=None,
        salient=salient,
        look=similarity.look_of(small_HW3),
        colours=similarity.colours_of(lab_HW3, mask),
    )
