"""Which analyser this computer has: Apple's Vision where it is installed, OpenCV's everywhere else."""

from __future__ import annotations

from core.vision import apple
from core.vision.apple import AppleAnalyser
from core.vision.base import Analyser
from core.vision.opencv import OpenCVAnalyser


def best() -> Analyser:
    """The one to analyse with; its `name` says whether a kept analysis is of its making."""
    return AppleAnalyser() if apple.is_available() else OpenCVAnalyser()
