"""Memory limits of Metal, for MLX and for the forecast: below what macOS lets the GPU have, and never wiring all of it.

    memory    0.9 of what macOS grants the GPU (core/device/hardware.py, `apple_bytes`)
    wired     0.6 of that where the Mac has less than 32 GB, else 0.8
    cache     an eighth of the memory limit: freed buffers that MLX keeps for the next step

Others report that wiring the whole working set freezes Macs of 16 GB, and that MLX's own default limit, 1.5 times the
working set but at most 0.95 of the memory, restarts Macs of 8 GB. The shares are chosen, not measured: no Mac was at
hand.

What MLX does with the limits, read in its source (mlx/backend/metal/allocator.cpp, mlx/transforms.cpp, 0.32):

    set_memory_limit(n)   evaluation waits for queued work while more than n is active; and where the cache of freed
                          buffers cannot serve an allocation, cached buffers are returned to macOS once
                          active + cached + new >= min(n, 0.95 of the recommended working set)
    set_wired_limit(n)    buffers are kept resident until they are n bytes together; the rest macOS may page out

So a memory limit slightly above what is active, set for one evaluation, would return the cache at the first allocation
that needs a new buffer, and the next step would allocate everything again. Limits are therefore set once for a process
on Metal. It needs no other brake on queued work: at most ten command buffers are queued, and one is committed after 20
to 50 operations or 40 to 50 MB of their inputs (mlx/backend/metal/device.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
SHARE_OF_GRANTED = 0.9
LARGE = 32 * GIB  # from here on more may be wired
WIRED_SHARE, WIRED_SHARE_LARGE = 0.6, 0.8
CACHE_SHARE = 1 / 8
CACHE_AT_LEAST = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes."""

    memory: int
    wired: int
    cache: int


def limits(memory: int, granted: int) -> Limits:
    """The limits for a Mac with `memory` bytes, of which macOS grants the GPU `granted`."""
    at_most = int(granted * SHARE_OF_GRANTED)
    wired = int(at_most * (WIRED_SHARE_LARGE if memory >= LARGE else WIRED_SHARE))
    return Limits(at_most, wired, max(CACHE_AT_LEAST, int(at_most * CACHE_SHARE)))
