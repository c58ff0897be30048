"""The limits of a picture's numbers, for the API and the command line. They are read as the knobs of a run are."""

from __future__ import annotations

from typing import Any

from core.config import knob
from core.config.knob import Knob

LIMITS: dict[str, tuple[int, int]] = {
    "seed": (0, 2**31 - 1),
    "count": (1, 16),
    "steps": (1, 200),
    "guidance": (0, 20),
    "width": (64, 2048),
    "height": (64, 2048),
    "strength": (-4, 4),
}
"""Lowest and highest value of each, both allowed."""
FRACTIONS = ("guidance", "strength")  # the others are whole numbers
PIXEL_MULTIPLE = 16  # of width and height
GRID_AXES = ("checkpoint", "adapter", "strength", "prompt", "seed")
GRID_AXES_AT_MOST = 3
GRID_PICTURES_AT_MOST = 200


def read(name: str, given: object) -> tuple[Any, str]:
    """The number, of text too: (value, "") or (anything, a message that continues the field's name)."""
    low, high = LIMITS[name]
    value, words = knob.read("float" if name in FRACTIONS else "int", given, Knob("", "", "", low, high), ())
    if not words and name in ("width", "height") and value % PIXEL_MULTIPLE:
        words = f"is {value} px; it must be a multiple of {PIXEL_MULTIPLE}"
    return value, words
