"""How much memory a computation takes at once, over what is held before it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mlx.core as mx


@dataclass
class Peak:
    held: int  # bytes before the computation
    over: int = 0  # peak bytes above those; set after the computation


@contextmanager
def peak() -> Iterator[Peak]:
    """Yields the peak of the computation inside. Garbage is collected first: freed during it, it would hide a peak."""
    gc.collect()
    mx.reset_peak_memory()
    found = Peak(mx.get_active_memory())
    yield found
    found.over = max(mx.get_peak_memory(), mx.get_active_memory()) - found.held
