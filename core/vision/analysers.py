"""Which analyser this computer has: Apple's Vision where it is installed, OpenCV's everywhere else.

Either one gets DINOv2's features beside it where that model was downloaded.
"""

from __future__ import annotations

from pathlib import Path

from core.vision import apple
from core.vision.apple import AppleAnalyser
from core.vision.base import Analyser
from core.vision.dinov2 import Dinov2Analyser
from core.vision.opencv import OpenCVAnalyser


def best(dinov2: Path | None = None) -> Analyser:
    """The one to analyse with; its `name` says whether a kept analysis is of its making.

    `dinov2` is the folder of that model. Raises ModelProblem when it lacks a file.
    """
    measures: Analyser = AppleAnalyser() if apple.is_available() else OpenCVAnalyser()
    return measures if dinov2 is None else Dinov2Analyser(measures, dinov2)
