"""What recurs in a set of photos is its subject; what changes, or lies at the border, is background.

    F(r)   median over the other photos of the density of their subjects' looks at r's look
    B(r)   the mean of their backgrounds' densities and of that of r's own photo, and a little for what is new
    s      logit s(r) = logit alone(r) + STRENGTH * log F / B, smoothed within the photo; and repeated

Lightness counts half between photos, since their light differs. Near-duplicates of a photo say nothing about it; the
caller leaves them out.

Shapes   R regions of a photo, Q of another   4 the look
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from core.vision import saliency
from core.vision.pictures import Floats
from core.vision.regions import Regions

ROUNDS = 3
STRENGTH = 1.4
RATIO_AT_MOST = 2.5  # of the logarithm: no colour alone decides
NEW, ANYTHING = 0.3, 0.05  # share of a background that no photo has shown yet, and its density at any look
RARE = 0.003
WIDTH = 9.0  # standard deviation of the kernel, units of Lab
LIGHTNESS, TEXTURE = 0.5, 0.7  # weights between photos
MATES_AT_MOST = 10  # other photos that a photo is compared with


def joint(
    photos: Sequence[Regions], mates: Sequence[Sequence[int]], alone: Sequence[Floats], known: Collection[int] = ()
) -> list[Floats]:
    """(R,) for each photo: how surely each region is of the subject; `mates` are the photos that each is compared with.

    `alone` is what each photo says by itself; those in `known`, whose subject somebody drew, stay, and
    alone teach the photos that are compared with them.
    """
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
            drawn = [j for j in mates[i] if j in known]
            ratio_R = _log_ratio(i, drawn or mates[i], photos, before, kernels)
            start_R = np.clip(alone[i], 0.1, 0.9)
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
    common = np.median(front, axis=0)
    ratio = np.log(common + RARE) - np.log((1 - NEW) * (np.mean(back, axis=0) + own) / 2 + NEW * ANYTHING)
    return np.asarray(np.clip(ratio, -RATIO_AT_MOST, RATIO_AT_MOST), np.float32)


def _density(kernel_RQ: Floats, weight_Q: Floats) -> Floats:
    return np.asarray(kernel_RQ @ weight_Q / max(float(weight_Q.sum()), 1e-6), np.float32)


def _kernel(one_R4: Floats, other_Q4: Floats) -> Floats:
    squared = (one_R4**2).sum(1)[:, None] + (other_Q4**2).sum(1)[None] - 2 * one_R4 @ other_Q4.T
    return np.asarray(np.exp(-np.maximum(squared, 0) / (2 * WIDTH**2)), np.float32)
