"""What stands out in a photo: contrast to the background, where the background is what the photo's border reaches.

    d(r, q)      distance of looks; geodesic distance: the shortest path over neighbours, and along the border
    area(r)      sum over q of area(q) exp(-geodesic^2 / 2 NEAR^2)
    connected    (sum over q of border(q) exp(-geodesic^2 / 2 NEAR^2)) / sqrt(area(r)): how much of the border a region
                 reaches without crossing an edge, for its size        (robust background detection, Zhu et al. 2014)
    background   1 - exp(-connected^2 / 2 CONNECTED^2)
    contrast     sum over q of background(q) d(r, q) exp(-place distance^2 / 2 FAR^2), times a prior for the centre
    subject s    the minimum of  sum background s^2 + sum contrast (s - 1)^2 + sum over neighbours w (s_r - s_q)^2

Shapes   R regions
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.vision.pictures import Floats
from core.vision.regions import Regions

NEAR, ALIKE = 9.0, 10.0  # units of Lab
CONNECTED = 1.0
FAR = 0.3  # of the photo's side
CENTRE = 0.36  # standard deviation of the prior
SMOOTH = 0.08  # the least weight between neighbours

Doubles = npt.NDArray[np.float64]


def background_of(regions: Regions) -> Floats:
    """(R,) 0..1: how surely each region is background, from the border that it reaches."""
    reach_RR = np.exp(-(_geodesic(regions) ** 2) / (2 * NEAR**2))
    area_R = reach_RR @ regions.area_R
    border_R = reach_RR @ regions.border_R
    # In units of a region's side: a region of the border whose colour is its own has about 1, all of the border 4 sqrt.
    connected_R = 4 * border_R / np.sqrt(np.maximum(area_R, 1e-6))
    return np.asarray(1 - np.exp(-(connected_R**2) / (2 * CONNECTED**2)), np.float32)


def centre_prior(place_R2: Floats) -> Floats:
    """(R,) 0..1: photos of a subject have it near the middle."""
    squared = ((place_R2 - 0.5) ** 2).sum(1)
    return np.asarray(np.exp(-squared / (2 * CENTRE**2)), np.float32)


def contrast_of(regions: Regions, background_R: Floats) -> Floats:
    """(R,) 0..1: contrast to the background around."""
    looks_RR = _distances(regions.look_R4)
    near_RR = np.exp(-(_distances(regions.place_R2) ** 2) / (2 * FAR**2))
    weight_RR = near_RR * (background_R * regions.area_R)[None]
    contrast_R = (weight_RR * looks_RR).sum(1) / np.maximum(weight_RR.sum(1), 1e-6)
    contrast_R = contrast_R * centre_prior(regions.place_R2)
    top = np.percentile(contrast_R, 95)
    return np.asarray(np.clip(contrast_R / max(float(top), 1e-6), 0, 1), np.float32)


def smoothed(regions: Regions, subject_R: Floats, background_R: Floats) -> Floats:
    """(R,) 0..1: the minimum of the energy above, for weights towards 1 and towards 0."""
    one, other = regions.pairs_P2.T
    looks_P = np.linalg.norm(regions.look_R4[one] - regions.look_R4[other], axis=1)
    weight_P = np.exp(-(looks_P**2) / (2 * ALIKE**2)) + SMOOTH
    count = regions.count
    laplacian = np.zeros((count, count))
    laplacian[one, other] = laplacian[other, one] = -weight_P
    laplacian[np.arange(count), np.arange(count)] = -laplacian.sum(1)
    data = subject_R.astype(np.float64) + background_R + 1e-4
    found = np.linalg.solve(laplacian + np.diag(data), subject_R.astype(np.float64))
    return np.asarray(np.clip(found, 0, 1), np.float32)


def salient(regions: Regions) -> Floats:
    """(R,) 0..1: how surely each region is of the subject, from this photo alone."""
    background_R = background_of(regions)
    return stretched(smoothed(regions, contrast_of(regions, background_R), background_R))


def stretched(value_R: Floats) -> Floats:
    """From the lowest value at 0 to the highest at 1."""
    low, high = float(value_R.min()), float(value_R.max())
    return np.asarray((value_R - low) / max(high - low, 1e-6), np.float32)


def _distances(value_RD: Floats) -> Doubles:
    values = value_RD.astype(np.float64)
    squares = (values**2).sum(1)
    return np.asarray(np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * values @ values.T, 0)), np.float64)


def _geodesic(regions: Regions) -> Doubles:
    """(R, R): Floyd and Warshall's shortest paths; steps smaller than a photo's grain are free."""
    count = regions.count
    one, other = regions.pairs_P2.T
    step_P = np.linalg.norm(regions.look_R4[one] - regions.look_R4[other], axis=1).astype(np.float64)
    smallest = np.full(count, np.inf)
    np.minimum.at(smallest, one, step_P)
    np.minimum.at(smallest, other, step_P)
    step_P = np.maximum(step_P - float(np.mean(smallest)), 0)
    path = np.full((count, count), 1e6)
    path[one, other] = path[other, one] = step_P
    border = np.flatnonzero(regions.border_R > 0)
    looks = _distances(regions.look_R4[border])
    path[np.ix_(border, border)] = np.minimum(path[np.ix_(border, border)], np.maximum(looks - np.mean(smallest), 0))
    np.fill_diagonal(path, 0)
    through = np.empty_like(path)
    for k in range(count):
        np.add(path[:, k, None], path[k], out=through)
        np.minimum(path, through, out=path)
    return path
