"""The protocol of an analyser: one photo in, one Analysis out.

OpenCV's runs everywhere, Apple's on macOS; DINOv2's adds its features to either.
"""

from __future__ import annotations

from typing import Protocol

from core.vision.pictures import Pixels
from core.vision.results import Analysis


class Analyser(Protocol):
    """Looks at one photo; a pure function of its pixels."""

    name: str  # with its version: an analysis of another name is to be made anew

    def analyse(self, photo_HW3: Pixels, size: tuple[int, int]) -> Analysis:
        """`photo_HW3` as `pictures.read` gives it, upright; `size` is the whole photo's width and height in px."""
        ...
