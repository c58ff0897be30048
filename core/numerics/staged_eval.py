"""Evaluating a gradient's graph in stages, so that little memory is allocated ahead of the computation.

    with stages(backward=True) as recorded:  gradient = mx.vjp(...)    layers mark stages while the graph is built
    evaluate(recorded)                                                 stage after stage, from the last layer back

    attention, forward        mark(y)                     backward: mark(dq, dk, dv)
    other layers, forward     mark_forward(y)             backward: mark(g), mark(dA, dB)

MLX builds a graph before it computes any of it, and then allocates for a hundred operations ahead of the CPU: for the
gradient of one block that is half as much again as the gradient needs. Waiting after every operation, as a memory limit
makes MLX do, costs half of the time again; waiting after a few dozen costs next to nothing (0.99 to 1.06 of a step).

`mark` and `mark_forward` do nothing outside of `stages`. Compiled functions cannot be recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import mlx.core as mx

Stages = deque[tuple[mx.array, ...]]
"""Arrays of one graph by stage, in the order of the computation."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The stages marked so far; `backward` where the graph is that of a gradient alone."""

    backward: bool
    stages: Stages = field(default_factory=deque)


_recordings: list[Recording] = []


@contextmanager
def stages(*, backward: bool = False) -> Iterator[Stages]:
    """Record the stages that layers mark. `backward`: the graph is evaluated for a gradient only."""
    recording = Recording(backward)
    _recordings.append(recording)
    try:
        yield recording.stages
    finally:
        _recordings.pop()


def mark(*arrays: mx.array) -> None:
    """A stage of the computation ends with these arrays."""
    if _recordings:
        _recordings[-1].stages.append(arrays)


def mark_forward(array: mx.array) -> None:
    """A stage of the forward pass ends here. A gradient alone may need this array much later, or not at all."""
    if _recordings and not _recordings[-1].backward:
        _recordings[-1].stages.append((array,))


def evaluate(recorded: Stages) -> None:
    """Evaluate stage after stage, releasing each."""
    while recorded:
        mx.eval(recorded.popleft())
