"""How many pixels may be decoded at the same time in one process, whichever threads ask for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """A semaphore counted in pixels. Whoever comes first is served first, so that a large photo is not overtaken
    for ever by small ones; a photo larger than the budget is decoded alone."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._taken = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait until `pixels` are free, and hold them for the block."""
        pixels = min(pixels, self.pixels)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._taken + pixels <= self.pixels)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()
