"""An analyser that adds DINOv2's features to another's measurements: what a photo shows, beside how it was taken.

    photo  ->  shorter side to 256 px, bicubic  ->  its middle, 224 x 224 px  ->  (x / 255 - MEAN) / DEVIATION
           ->  core/models/dinov2.py, the class token's features  ->  Analysis.print

That is how transformers' processor for facebook/dinov2-small prepares photos; tests/interop holds both steps to its
numbers. Everything else is measured by the other analyser, and judged as before: no threshold is known for these
features, so they only rank and compare the photos of one set (core/vision/sets.py, core/vision/review.py).

Shapes   H W rows and columns   3 red, green, blue (uint8)
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from core.device import backend
from core.errors import ModelProblem, Problem
from core.safetensors_file import read_json, weight_files, weights_sha256_of_all
from core.vision.base import Analyser
from core.vision.pictures import Floats, Pixels
from core.vision.results import Analysis

if TYPE_CHECKING:
    from core.models.dinov2 import Dinov2

MARK = "+dinov2"  # in the name of an analyser that has these features
SHORTER_SIDE_PX, SIDE_PX = 256, 224
STRIP = 16  # times as long as wide: of longer photos the middle is resized, not thousands of pixels that are cropped
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONFIG, STEM = "config.json", "model"


class Dinov2Analyser:
    """See core/vision/base.py. The network is read with the first photo."""

    def __init__(self, measures: Analyser, folder: Path) -> None:
        """`measures` finds everything but the features. Raises ModelProblem for a folder without its files."""
        files = [folder / CONFIG, *weight_files(folder, STEM)]
        self.name = f"{measures.name}{MARK}-1-{weights_sha256_of_all(files)[:8]}"
        self._measures = measures
        self._folder = folder

    def analyse(self, photo_HW3: Pixels, size: tuple[int, int]) -> Analysis:
        """Raises ModelProblem when the network cannot be loaded or its features are not numbers."""
        features = features_of(photo_HW3, self._folder)
        return replace(self._measures.analyse(photo_HW3, size), analyser=self.name, print=features.tobytes())


def features_of(photo_HW3: Pixels, folder: Path) -> Floats:
    """(C,) of one photo. Raises ModelProblem."""
    network = network_of(folder)
    import mlx.core as mx

    features_C = np.array(network(mx.array(prepared(photo_HW3)[None]))[0], np.float32)
    if not np.isfinite(features_C).all():
        raise ModelProblem(f"The features of the network in {folder} are not finite; its weights may be damaged.")
    return features_C


def prepared(photo_HW3: Pixels) -> Floats:
    """(SIDE_PX, SIDE_PX, 3) float32, the network's input."""
    height, width = photo_HW3.shape[:2]
    shorter = min(height, width)
    top, left = (max(side - STRIP * shorter, 0) // 2 for side in (height, width))
    strip_HW3 = photo_HW3[top : top + STRIP * shorter, left : left + STRIP * shorter]
    height, width = strip_HW3.shape[:2]
    size = SHORTER_SIDE_PX * width // shorter, SHORTER_SIDE_PX * height // shorter
    resized_HW3 = np.asarray(Image.fromarray(strip_HW3).resize(size, Image.Resampling.BICUBIC))
    left, top = ((side - SIDE_PX) // 2 for side in size)
    pixels = resized_HW3[top : top + SIDE_PX, left : left + SIDE_PX].astype(np.float32) / 255
    return np.asarray((pixels - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32), np.float32)


@lru_cache(maxsize=1)
def network_of(folder: Path) -> Dinov2:
    """In float32. Raises ModelProblem, also where MLX is not installed."""
    try:
        backend.prepare()  # before the first import of MLX
    except Problem as problem:
        raise ModelProblem(problem.message) from problem
    import mlx.core as mx

    from core.models.dinov2 import Dinov2
    from core.models.parts import read_weights

    config = read_json(folder / CONFIG)
    try:
        network = Dinov2(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelProblem(f"{folder / CONFIG} does not describe a DINOv2 that we know: {error!r}.") from error
    network.freeze()
    read_weights(network, weight_files(folder, STEM), mx.float32)
    return network
