"""How much memory a computation takes at once, over what is held before it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mlx.core as mx


@dataclass
class Peak:
    held: int  # bytes before
    over: int = 0  # bytes over those, the most at once; set when the computation is done


@contextmanager
def peak() -> Iterator[Peak]:
    """What earlier tests left in cycles goes first: freed in between, it would hide as much of the peak."""
    gc.collect()
    mx.reset_peak_memory()
    found = Peak(mx.get_active_memory())
    yield found
    found.over = max(mx.get_peak_memory(), mx.get_active_memory()) - found.held
