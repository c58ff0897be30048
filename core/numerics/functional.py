"""Modules as functions of their arrays, and functions with a gradient of their own.

    with swapped_in(slots, arrays):  y = module(x)     y as a function of `arrays`; the module is restored afterwards

MLX differentiates and compiles functions of arguments, so a module's arrays become arguments in this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, ParamSpec, TypeVar

import mlx.core as mx
import mlx.nn as nn

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Slot = tuple[nn.Module, str]
"""Where a module holds an array: the layer, and the array's name in it."""


@contextmanager
def swapped_in(slots: Sequence[Slot], arrays: Sequence[mx.array]) -> Iterator[None]:
    """Hold `arrays` in `slots`, and restore the previous arrays on leaving."""
    before = [layer[name] for layer, name in slots]
    for (layer, name), array in zip(slots, arrays, strict=True):
        layer[name] = array
    try:
        yield
    finally:
        for (layer, name), array in zip(slots, before, strict=True):
            layer[name] = array


class custom_function(Generic[P, R]):
    """`mx.custom_function` with the type of the function it decorates.

    `vjp` decorates the gradient: (primals, cotangents, outputs) to the gradient of every argument.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self._custom: Any = mx.custom_function(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self._custom(*args, **kwargs)
        return result

    def vjp(self, gradient: Callable[[Any, Any, Any], T]) -> Callable[[Any, Any, Any], T]:
        """Use `gradient` in the place of the one that MLX would derive."""
        self._custom.vjp(gradient)
        return gradient
