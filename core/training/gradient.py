"""The loss of a batch and its gradient with respect to the adapter, with as little in memory as is asked for.

    forward    x_0 -> block 1 -> x_1 -> ... -> block n -> x_n -> project -> loss      keeps x_0 ... x_n
    reverse    g_n = d loss / d x_n
               g_i-1, d loss / d (A, B)_i  =  vjp of block i at x_i-1, applied to g_i

A plain gradient keeps what every block computed until the way back. Here the last `kept` blocks do: they, the
projection and the loss are one plain gradient. Of the others only the input is kept; on the way back each runs forward
again, and the activations of no two are in memory at once. kept = n is the quickest and needs the most memory, kept = 0
the leanest; the loss and the gradient are the same. With kept < n a CPU takes the examples of a batch one after the
other, for which it needs no more time than for all at once.

Blocks of one kind are one computation with other weights, so one forward and one vjp are compiled for all of them, with
the weights as arguments. What comes before the blocks does not depend on the adapter, and no gradient goes there.
Where nothing is compiled, a vjp is evaluated layer by layer: MLX takes memory for a hundred operations that the CPU has
not come to, which for a block is a third of all that it needs.

Source: Chen et al. 2016, arXiv:1604.06174, with a segment for each block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from core import flow
from core.adapters.lora import Adapter
from core.dataset.batches import Batch
from core.device import backend
from core.loss import dreambooth_loss, weighted_mean
from core.models.base import Conditioning, Family, Grid, Stream
from core.models.blockwise import Arrays, Bound, Evaluation, in_parts
from core.numerics.functional import holding

Tensors = dict[str, mx.array]


class Gradient:
    """Loss and gradient of a run's batches; it keeps the functions that were compiled for it."""

    def __init__(self, family: Family, adapter: Adapter, guidance: float, kept: int | None = None) -> None:
        """`kept` is how many blocks, from the last one, keep their activations; None is all of them."""
        self._family, self._guidance = family, guidance
        self._bound = [Bound.of(block, adapter) for block in family.blocks]
        count = len(self._bound)
        self._split = count - min(count, count if kept is None else kept)
        self._first = next(index for index, each in enumerate(self._bound) if each.names)  # no gradient goes further
        self._lean = [(each, [layer[name] for layer, name in each.frozen]) for each in self._bound[: self._split]]
        self._embed = functools.cache(self._embed_on)
        self._forward = functools.cache(self._forward_of)
        self._vjp = functools.cache(self._vjp_of)
        self._rest = self._in_parts_if_lean(mx.value_and_grad(self._losses_of_rest, argnums=(0, 1)))
        self._rest_alone = self._in_parts_if_lean(mx.value_and_grad(self._losses_of_rest))

    def __call__(self, parameters: Tensors, batch: Batch) -> tuple[mx.array, Tensors]:
        """The loss of each example, (B,), and the gradient of their weighted mean by parameter; float32.

        All of it is evaluated, or being so where the device runs ahead.
        """
        if not self._lean or len(batch.sigma_B) == 1 or backend.prepare().policy.batches:
            return self._at_once(parameters, batch)
        losses: Arrays = []
        sums: Tensors = {}
        for one in batch.one_by_one():
            loss_B, gradient = self._at_once(parameters, one)
            losses.append(loss_B)
            sums = {name: value.astype(mx.float32) + sums.get(name, 0.0) for name, value in gradient.items()}
            del gradient
            mx.eval(sums)
        return mx.concatenate(losses), sums

    def _at_once(self, parameters: Tensors, batch: Batch) -> tuple[mx.array, Tensors]:
        evaluate = Evaluation()
        inputs: list[tuple[Stream, list[str]]] = []
        losses_B, gradient, g = self._forth(parameters, batch, inputs, evaluate)
        for bound, frozen in reversed(self._lean[self._first :]):
            stream, names = inputs.pop()
            onto = {name: g.pop(name) for name in names}
            further = bool(inputs)  # to a block before this one
            own, before = self._vjp(bound.signature, further)(frozen, _of(parameters, bound), stream, onto)
            evaluate(own, before)
            g |= before
            gradient |= dict(zip(bound.names, own, strict=True))
            del own, before  # or these would be held while the next block is at work
        backend.submit(losses_B, gradient)
        return losses_B, gradient

    def _forth(
        self, parameters: Tensors, batch: Batch, inputs: list[tuple[Stream, list[str]]], evaluate: Evaluation
    ) -> tuple[mx.array, Tensors, Stream]:
        """The losses, the gradient of the kept blocks' parameters, and g_split.

        To `inputs` goes what every block before those got, from the first that has an adapter, and the names of what it
        moved on.
        """
        stream = self._embed(batch.grid)(batch.clean_BLC, batch.noise_BLC, batch.sigma_B, batch.conditioning)
        evaluate(stream)
        flowing: dict[str, None] = {}  # the names of what blocks have moved on so far
        for number, (bound, frozen) in enumerate(self._lean):
            moved = self._forward(bound.signature)(frozen, _of(parameters, bound), stream)
            evaluate(moved)
            if number >= self._first:
                inputs.append((stream, list(moved)))
            flowing |= dict.fromkeys(moved)
            stream = {**stream, **moved}

        held = {name: parameters[name] for bound in self._bound[self._split :] for name in bound.names}
        x = {name: stream[name] for name in flowing}
        constant = {name: value for name, value in stream.items() if name not in flowing}
        arrays = (held, x, constant, batch.clean_BLC, batch.noise_BLC, batch.weight_B)
        if self._first < self._split:
            (_, losses_B), (gradient, g) = self._rest(*arrays)
        else:
            ((_, losses_B), gradient), g = self._rest_alone(*arrays), {}
        backend.submit(losses_B, gradient, g)
        return losses_B, gradient, g

    def _embed_on(self, grid: Grid) -> Callable[..., Stream]:
        """What the first block gets. A compiled function goes by shapes, and a wide grid has those of a tall one."""

        def embed(clean_BLC: mx.array, noise_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning) -> Stream:
            l_t_BLC = flow.interpolate(clean_BLC, noise_BLC, sigma_B)
            return self._family.embed(l_t_BLC, sigma_B, conditioning, grid, self._guidance)

        return backend.compile_step(embed)

    def _in_parts_if_lean(self, of_rest: Callable[..., Any]) -> Callable[..., Any]:
        """Compiled, or part by part where blocks are lean; where none is, that would take a twentieth more time."""
        compiled = backend.compile_step(of_rest)
        return in_parts(compiled) if self._lean else compiled

    def _forward_of(self, signature: tuple[Any, ...]) -> Callable[..., Stream]:
        return in_parts(backend.compile_step(self._example(signature).run))

    def _vjp_of(self, signature: tuple[Any, ...], further: bool) -> Callable[..., tuple[Arrays, Stream]]:
        """(frozen, trained, x, g) to the gradients of the trained arrays and, `further`, of what blocks moved on.

        The first block that has an adapter asks for none of x: its way back is a quarter shorter.
        """
        bound = self._example(signature)

        def vjp(frozen: Arrays, trained: Arrays, stream: Stream, onto: Stream) -> tuple[Arrays, Stream]:
            count, names = len(trained), list(onto) if further else []

            def moved(*arrays: mx.array) -> Arrays:
                after = bound.run(
                    frozen, list(arrays[:count]), {**stream, **dict(zip(names, arrays[count:], strict=True))}
                )
                return [after[name] for name in onto]

            _, found = mx.vjp(moved, [*trained, *(stream[name] for name in names)], list(onto.values()))
            if not backend.prepare().policy.compiles:
                stream.clear()  # the graph holds what it needs, for as long as it needs it
                onto.clear()
            return found[:count], dict(zip(names, found[count:], strict=True))

        return in_parts(backend.compile_step(vjp), back=True)

    def _losses_of_rest(
        self,
        held: Tensors,
        x: Stream,
        constant: Stream,
        clean_BLC: mx.array,
        noise_BLC: mx.array,
        weight_B: mx.array,
    ) -> tuple[mx.array, mx.array]:
        """From x_split to the loss and each example's, with `held` in the place of the kept trained arrays."""
        bounds, stream = self._bound[self._split :], {**constant, **x}
        slots = [slot for bound in bounds for slot in bound.trained]
        with holding(slots, [held[name] for bound in bounds for name in bound.names]):
            for bound in bounds:
                stream = bound.block.run(bound.block.module, stream)
            losses_B = dreambooth_loss(self._family.project(stream), clean_BLC, noise_BLC)
            return weighted_mean(losses_B, weight_B), losses_B

    def _example(self, signature: tuple[Any, ...]) -> Bound:
        return next(bound for bound in self._bound if bound.signature == signature)


def _of(parameters: Tensors, bound: Bound) -> Arrays:
    return [parameters[name] for name in bound.names]
