"""A network evaluated block by block: it takes little memory, and little needs to be compiled.

    x_0 = embed(l_t, sigma, conditioning);   x_i = block i (x_i-1);   velocity = project(x_n)

Blocks of one kind are one computation with different weights. A `FunctionalBlock` is a block as a function of its
arrays, so it is compiled once per kind, with the weights as arguments. A GPU computes one block while the next is
queued. `BlockwiseVelocity` has no gradient; core/training/gradient.py computes that, block by block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx

from core.adapters.adapted import parts_of
from core.adapters.lora import Adapter
from core.device import backend
from core.models.base import Block, Conditioning, Family, Grid, Stream
from core.numerics import staged_eval
from core.numerics.functional import Slot, swapped_in

Arrays = list[mx.array]
Signature = tuple[Any, ...]
"""Blocks with the same signature are the same function of different arrays."""


@dataclass(frozen=True, slots=True)
class FunctionalBlock:
    """A block as a function of its arrays: the frozen ones, and those of the adapter being trained."""

    block: Block
    signature: Signature
    frozen: list[Slot]
    trained: list[Slot]
    names: list[str]  # of the trained arrays, as `Adapter.parameters` names them

    @staticmethod
    def of(block: Block, adapter: Adapter | None = None) -> FunctionalBlock:
        """`adapter` is the one being trained; without it all arrays of the block are frozen."""
        paths = {id(part): path for path, part in adapter.parts.items()} if adapter is not None else {}
        frozen: list[Slot] = []
        trained: list[Slot] = []
        names: list[str] = []
        signature: list[Any] = [block.kind]
        modules = sorted(block.module.named_modules(), key=lambda each: each[0])
        on_layers = parts_of(module for _, module in modules)
        for path, layer in modules:
            part = on_layers.get(id(layer))
            if part is not None:
                signature.append((path, part.signature, id(layer) in paths))
            for name in sorted(key for key, value in layer.items() if isinstance(value, mx.array)):
                signature.append((path, name, layer[name].shape, layer[name].dtype))
                if id(layer) in paths:
                    trained.append((layer, name))
                    names.append(f"{paths[id(layer)]}.{name}")
                else:
                    frozen.append((layer, name))
        return FunctionalBlock(block, tuple(signature), frozen, trained, names)

    @property
    def frozen_arrays(self) -> Arrays:
        """The frozen arrays that the block holds now."""
        return [layer[name] for layer, name in self.frozen]

    def __call__(self, frozen: Arrays, trained: Arrays, stream: Stream) -> Stream:
        """The arrays of the stream that the block changes, computed with these arrays in the place of its own."""
        with swapped_in([*self.frozen, *self.trained], [*frozen, *trained]):
            after = self.block.run(self.block.module, stream)
        return {name: value for name, value in after.items() if value is not stream[name]}


def with_signature(blocks: Sequence[FunctionalBlock], signature: Signature) -> FunctionalBlock:
    """One of the blocks with this signature: any of them can be called with the arrays of the others."""
    return next(each for each in blocks if each.signature == signature)


class BlockwiseVelocity:
    """The velocity of a family as it is now; it holds the functions that were compiled for it.

    Between two calls the arrays of an adapter may change, but not which adapters are on, nor their strengths. The
    adapter `without` is off during each call, and its arrays are no input, so that an update can reuse their memory.
    """

    def __init__(self, family: Family, without: Adapter | None = None) -> None:
        self._family, self._without = family, without
        blocks = [FunctionalBlock.of(block, without) for block in family.blocks]
        self._blocks = [replace(block, trained=[], names=[]) for block in blocks]
        self._forward = functools.cache(self._forward_of)
        self._evaluate = Evaluation()  # one for all calls, so that two calls in a row do not overlap

    def __call__(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> mx.array:
        """`Family.velocity`; a device that runs ahead may still be computing it."""
        with _off(self._without):
            return self._velocity(l_t_BLC, sigma_B, conditioning, grid, guidance)

    def _velocity(
        self, l_t_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning, grid: Grid, guidance: float
    ) -> mx.array:
        stream = self._family.embed(l_t_BLC, sigma_B, conditioning, grid, guidance)
        self._evaluate(stream)
        for block in self._blocks:
            changed = self._forward(block.signature)(block.frozen_arrays, stream)
            self._evaluate(changed)
            stream = {**stream, **changed}
        velocity_BLC = self._family.project(stream)
        self._evaluate(velocity_BLC)
        return velocity_BLC

    def _forward_of(self, signature: Signature) -> Callable[[Arrays, Stream], Stream]:
        block = with_signature(self._blocks, signature)
        return backend.compile_step(lambda frozen, stream: block(frozen, [], stream))


@contextmanager
def _off(adapter: Adapter | None) -> Iterator[None]:
    """The adapter, if there is one, at strength 0."""
    before = adapter.strength if adapter is not None else 0.0
    if adapter is not None:
        adapter.strength = 0.0
    try:
        yield
    finally:
        if adapter is not None:
            adapter.strength = before


class Evaluation:
    """Evaluates the arrays it is called with; on a GPU at most two blocks are in flight."""

    def __init__(self) -> None:
        self._before: tuple[Any, ...] = ()

    def __call__(self, *trees: Any) -> None:
        backend.evaluate(*trees, wait=False)
        mx.eval(*self._before)
        self._before = trees if backend.policy().runs_ahead else ()


def evaluated_in_stages(function: Callable[..., Any], *, backward: bool = False) -> Callable[..., Any]:
    """`function` with its result evaluated stage by stage; where the backend compiles, `function` itself.

    `backward`: it computes a gradient (core/numerics/staged_eval.py).
    """
    if backend.policy().compiles:
        return function

    def evaluated(*arguments: Any) -> Any:
        with staged_eval.stages(backward=backward) as recorded:
            result = function(*arguments)
        staged_eval.evaluate(recorded)
        return result

    return evaluated
