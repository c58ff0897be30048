"""What recurs in a set of photos is its subject; what changes, or lies at the border, is background.

    F(r)   mean over the other photos of the density of their subjects' looks at r's look
    B(r)   the same of their backgrounds, and of the background of r's own photo
    s      logit s(r) = logit s0(r) + STRENGTH * log F / B,  s0 from the photo alone; smoothed within the photo, and repeated

Lightness counts half between photos, since their light differs. Near-duplicates of a photo say nothing about it, and are
left out by the caller.

Shapes   R regions of a photo, Q of another   4 the look
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from core.vision import saliency
from core.vision.pictures import Floats
from core.vision.regions import Regions

ROUNDS = 3
STRENGTH = 0.8
RATIO_AT_MOST = 2.5  # of the logarithm: no colour alone decides
WIDTH = 9.0  # standard deviation of the kernel, units of Lab
LIGHTNESS, TEXTURE = 0.5, 0.7  # weights between photos
MATES_AT_MOST = 10  # other photos that a photo is compared with


def joint(photos: Sequence[Regions], mates: Sequence[Sequence[int]], known: Mapping[int, Floats]) -> list[Floats]:
    """(R,) for each photo: how surely each region is of the subject; `mates` are the photos that each is compared with.

    `known` are the photos whose subject somebody drew: they teach the others, and stay.
    """
    alone = [known[i] if i in known else saliency.salient(each) for i, each in enumerate(photos)]
    found = list(alone)
    scale = np.array([LIGHTNESS, 1, 1, TEXTURE], np.float32)
    looks = [each.look_R4 * scale for each in photos]
    kernels: dict[tuple[int, int], Floats] = {}
    for i, others in enumerate(mates):
        for j in {i, *others}:
            kernels[i, j] = _kernel(looks[i], looks[j])
    for _ in range(ROUNDS):
        before = list(found)
        for i, regions in enumerate(photos):
            if i in known or not mates[i]:
                continue
            ratio_R = _log_ratio(i, mates[i], photos, before, kernels)
            start_R = np.clip(alone[i], 0.05, 0.95)
            logit_R = np.log(start_R / (1 - start_R)) + STRENGTH * ratio_R
            likely_R = np.asarray(1 / (1 + np.exp(-logit_R)), np.float32)
            found[i] = saliency.stretched(saliency.smoothed(regions, likely_R, 1 - likely_R))
    return found


def _log_ratio(
    i: int, others: Sequence[int], photos: Sequence[Regions], subject: Sequence[Floats],
    kernels: Mapping[tuple[int, int], Floats],
) -> Floats:  # fmt: skip
    """(R,) log F / B, within RATIO_AT_MOST."""
    front, back = [], []
    for j in others:
        front.append(_density(kernels[i, j], photos[j].area_R * subject[j]))
        back.append(_density(kernels[i, j], photos[j].area_R * (1 - subject[j])))
    own = _density(kernels[i, i], photos[i].area_R * (1 - subject[i]))
    floor = 1e-3
    ratio = np.log(np.mean(front, axis=0) + floor) - np.log((np.mean(back, axis=0) + own) / 2 + floor)
    return np.asarray(np.clip(ratio, -RATIO_AT_MOST, RATIO_AT_MOST), np.float32)


def _density(kernel_RQ: Floats, weight_Q: Floats) -> Floats:
    return np.asarray(kernel_RQ @ weight_Q / max(float(weight_Q.sum()), 1e-6), np.float32)


def _kernel(one_R4: Floats, other_Q4: Floats) -> Floats:
    squared = (one_R4**2).sum(1)[:, None] + (other_Q4**2).sum(1)[None] - 2 * one_R4 @ other_Q4.T
    return np.asarray(np.exp(-np.maximum(squared, 0) / (2 * WIDTH**2)), np.float32)
