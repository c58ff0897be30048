"""Where a gradient's graph is evaluated part by part, so that little memory is taken for what is still to be computed.

    attention, forth            reached(y)                back: reached(dq, dk, dv)
    another layer, forth        passed(x)                 back: reached(g), reached(dA, dB)
    the caller                  with stages(back=True) as found: graph = mx.vjp(...)
                                evaluate(found)           attention's y, then the gradients from the last layer on

A graph is built before any of it is computed, and MLX then takes memory for a hundred operations ahead of the CPU: for
the gradient of one block, half as much again as it needs. Waiting at each operation, as a limit on memory makes MLX do,
takes half as much time again; waiting at a few dozen of them takes next to none (0.99 to 1.06 of a step's time).

Nothing is recorded where nobody asks, and nobody may ask in a compiled function.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

Stages = deque[tuple[mx.array, ...]]
"""Arrays of one graph, those that are computed first at the front."""

_asking: list[tuple[Stages, bool]] = []


@contextmanager
def stages(*, back: bool = False) -> Iterator[Stages]:
    """What is reached in here, in the order of the computation; `back` where it is a gradient that is asked for."""
    found: Stages = deque()
    _asking.append((found, back))
    try:
        yield found
    finally:
        _asking.pop()


def reached(*arrays: mx.array) -> None:
    """Say that a part of the computation ends with these arrays."""
    if _asking:
        _asking[-1][0].append(arrays)


def passed(array: mx.array) -> None:
    """Say the same of a part that a gradient has computed when it needs it: much later, or as a block's end never."""
    if _asking and not _asking[-1][1]:
        _asking[-1][0].append((array,))


def evaluate(found: Stages) -> None:
    """Evaluate one part after the other, and hold on to none."""
    while found:
        mx.eval(found.popleft())
