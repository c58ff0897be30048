"""A network walked block by block, each evaluated before the next but one: with little memory, and little to compile.

    x_0 = embed(l_t, sigma, conditioning);   x_i = block i (x_i-1);   velocity = project(x_n)

Blocks of one kind are one computation with other weights. `Bound` makes a block a function of its arrays, which is
compiled once for all of its kind, the weights being arguments like x. A GPU is told of a block while it is at the one
before. A walk has no gradient: core/training/gradient.py takes that block by block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from core.adapters.lora import Adapter, LowRank
from core.device import backend
from core.models.base import Block, Conditioning, Family, Grid, Stream
from core.numerics.functional import Slot, holding
from core.numerics.staged_eval import evaluate as evaluate_parts
from core.numerics.staged_eval import stages

Arrays = list[mx.array]


@dataclass(frozen=True, slots=True)
class Bound:
    """A block as a function of its arrays: the frozen ones, and those of the adapter that is trained."""

    block: Block
    signature: tuple[Any, ...]  # blocks with the same one compute the same with other arrays
    frozen: list[Slot]
    trained: list[Slot]
    names: list[str]  # of the trained arrays, as `Adapter.parameters` names them

    @staticmethod
    def of(block: Block, adapter: Adapter | None = None) -> Bound:
        """`adapter` is the one that is trained; without it all arrays of the block are frozen."""
        paths = {id(part): path for path, part in adapter.parts.items()} if adapter is not None else {}
        frozen, trained, names = [], [], []
        signature: list[Any] = [block.kind]
        for path, layer in sorted(block.module.named_modules(), key=lambda each: each[0]):
            if isinstance(layer, LowRank):
                signature.append((path, layer.scale, layer.strength, id(layer) in paths))
            for name in sorted(key for key, value in layer.items() if isinstance(value, mx.array)):
                signature.append((path, name, layer[name].shape, layer[name].dtype))
                if id(layer) in paths:
                    trained.append((layer, name))
                    names.append(f"{paths[id(layer)]}.{name}")
                else:
                    frozen.append((layer, name))
        return Bound(block, tuple(signature), frozen, trained, names)

    def run(self, frozen: Arrays, trained: Arrays, stream: Stream) -> Stream:
        """What the block moves on of the stream, computed with these arrays in the place of its own."""
        with holding([*self.frozen, *self.trained], [*frozen, *trained]):
            after = self.block.run(self.block.module, stream)
        return {name: value for name, value in after.items() if value is not stream[name]}


class Walk:
    """The velocity of a family as it is now; it keeps the functions that were compiled for it.

    The arrays of an adapter may change between two walks, the adapters that are on and their strengths may not.
    """

    def __init__(self, family: Family) -> None:
        self._family = family
        self._bound = [Bound.of(block) for block in family.blocks]
        self._forward = functools.cache(self._forward_of)
        self._evaluate = Evaluation()  # one for all walks: the second of a pair does not run into the first

    def __call__(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> mx.array:
        """`Family.velocity`; a device that runs ahead may be at it still."""
        evaluate = self._evaluate
        stream = self._family.embed(l_t_BLC, sigma_B, conditioning, grid, guidance)
        evaluate(stream)
        for bound in self._bound:
            moved = self._forward(bound.signature)([layer[name] for layer, name in bound.frozen], stream)
            evaluate(moved)
            stream = {**stream, **moved}
        velocity_BLC = self._family.project(stream)
        evaluate(velocity_BLC)
        return velocity_BLC

    def _forward_of(self, signature: tuple[Any, ...]) -> Callable[[Arrays, Stream], Stream]:
        bound = next(each for each in self._bound if each.signature == signature)
        return backend.compile_step(lambda frozen, stream: bound.run(frozen, [], stream))


class Evaluation:
    """Evaluates what it is called with. A GPU works on one block while the next is prepared, and no third is begun."""

    def __init__(self) -> None:
        self._before: tuple[Any, ...] = ()

    def __call__(self, *trees: Any) -> None:
        backend.evaluate(*trees, wait=False)
        mx.eval(*self._before)
        self._before = trees if backend.prepare().policy.runs_ahead else ()


def in_parts(function: Callable[..., Any], *, back: bool = False) -> Callable[..., Any]:
    """`function` as it is where it is compiled, else one that evaluates what it computes part by part.

    `back` where it is a gradient.
    """
    if backend.prepare().policy.compiles:
        return function

    def evaluated(*arguments: Any) -> Any:
        with stages(back=back) as parts:
            result = function(*arguments)
        evaluate_parts(parts)
        return result

    return evaluated
