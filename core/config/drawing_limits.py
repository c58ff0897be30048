"""The limits of a picture's numbers, for the API and the command line."""

from __future__ import annotations

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
PIXEL_MULTIPLE = 16  # of width and height


def trouble(name: str, value: float | None) -> str:
    """A message that continues the field's name; empty if the value is allowed, or None."""
    if value is None:
        return ""
    low, high = LIMITS[name]
    if not low <= value <= high:  # also where it is NaN
        return f"is {value}; it can be {low} to {high}"
    if name in ("width", "height") and value % PIXEL_MULTIPLE:
        return f"is {value} px; it must be a multiple of {PIXEL_MULTIPLE}"
    return ""
