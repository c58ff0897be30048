"""Arrays of modules, and how others lie in their places for a while.

    with holding(slots, arrays):  y = module(x)         computed with `arrays`; afterwards all is as it was

A gradient is sought with respect to arguments of a function; a module's arrays are made such by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn

Slot = tuple[nn.Module, str]
"""Where an array of a module lies: the layer that holds it, and its name there."""


def slots_of(modules: Sequence[nn.Module]) -> tuple[list[Slot], list[Slot]]:
    """Of the arrays in these modules, the trained and the frozen ones."""
    trained: list[Slot] = []
    frozen: list[Slot] = []
    for layer in (layer for module in modules for layer in module.modules()):
        free = layer.trainable_parameters()
        for name in (name for name, value in layer.items() if isinstance(value, mx.array)):
            (trained if name in free else frozen).append((layer, name))
    return trained, frozen


@contextmanager
def holding(slots: Sequence[Slot], arrays: Sequence[mx.array]) -> Iterator[None]:
    """Have `arrays` lie in `slots`, and afterwards what lay there before."""
    before = [layer[name] for layer, name in slots]
    for (layer, name), array in zip(slots, arrays, strict=True):
        layer[name] = array
    try:
        yield
    finally:
        for (layer, name), array in zip(slots, before, strict=True):
            layer[name] = array
