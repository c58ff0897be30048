"""The loss of a batch and its gradient with respect to the adapter, in as much memory as there is.

    forward    x_0 = embed(l_t) -> block 1 -> x_1 -> ... -> block n -> x_n -> project -> velocity -> loss
    reverse    g_n = d loss / d x_n
               g_i-1, d loss / d (A, B)_i  =  vjp of block i at x_i-1, applied to g_i

Activation checkpointing, one segment per block (Chen et al. 2016, arXiv:1604.06174).

A plain gradient keeps the activations of every block until the reverse pass. Here the last `kept` blocks do so: they,
the projection and the loss are one plain gradient. The other blocks are recomputed: only their input x_i-1 is kept, and
in the reverse pass each runs forward again, so the activations of one block are in memory at a time. kept = n is the
fastest and takes the most memory, kept = 0 takes the least; loss and gradient are the same. With kept < n a CPU
computes the examples of a batch one by one, which takes no longer.

Recomputed blocks of one kind are one computation with different weights, so one forward and one vjp are compiled for
all of them, with the weights as arguments. The kept blocks are compiled together, with their frozen weights as
constants. No gradient is computed before the first block that has an adapter. Where functions are not compiled (on
CPUs) a vjp is evaluated in stages, because MLX allocates memory for a hundred operations ahead: for a block that is a
third of its memory (core/numerics/staged_eval.py).

The last `preserved` examples of a batch learn what the network predicts without the adapter (core/loss.py). A forward
pass with the adapter off comes first, block by block and without a gradient; its velocity is a constant of the loss.

Shapes   B batch   L image tokens   C channels of one token
Dtypes   losses float32; gradients in the dtype of `parameters`, or float32 where a batch is computed one by one;
         Layout.pack casts them to float32
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
from core.models.blockwise import (
    Arrays,
    BlockwiseVelocity,
    Evaluation,
    FunctionalBlock,
    Signature,
    evaluated_in_stages,
    with_signature,
)
from core.numerics.functional import swapped_in

Tensors = dict[str, mx.array]
"""Arrays by the name of their parameter: `<path>.lora_A`, `<path>.lora_B`."""

BlockInputs = list[tuple[Stream, list[str]]]
"""For each recomputed block that needs a gradient: its input stream, and the names of the arrays that it changed."""


class Gradient:
    """Computes loss and gradient of a run's batches; it holds the functions that were compiled for them."""

    def __init__(self, family: Family, adapter: Adapter, guidance: float, kept: int | None = None) -> None:
        """`kept` is the number of blocks, counted from the last, that keep their activations; None means all."""
        self._family, self._guidance = family, guidance
        self._base = BlockwiseVelocity(family, without=adapter)
        self._blocks = [FunctionalBlock.of(block, adapter) for block in family.blocks]
        count = len(self._blocks)
        split = count - min(count, count if kept is None else kept)
        self._recomputed, self._kept = self._blocks[:split], self._blocks[split:]
        self._first_trained = next(index for index, block in enumerate(self._blocks) if block.names)
        self._embed = functools.cache(self._embed_of)
        self._forward = functools.cache(self._forward_of)
        self._vjp = functools.cache(self._vjp_of)
        self._grad_of_kept_and_input = self._compiled_or_staged(mx.value_and_grad(self._loss_of_kept, argnums=(0, 1)))
        self._grad_of_kept = self._compiled_or_staged(mx.value_and_grad(self._loss_of_kept))

    def __call__(self, parameters: Tensors, batch: Batch) -> tuple[mx.array, Tensors]:
        """The loss of each example, (B,), and the gradient of their weighted mean by parameter.

        Both are evaluated, or queued on a device that runs ahead.
        """
        if not self._recomputed or len(batch.sigma_B) == 1 or backend.policy().batches:
            return self._of_batch(parameters, batch)
        losses: Arrays = []
        sums: Tensors = {}
        for one in batch.one_by_one():  # divides the weights by B, so the gradients add up
            loss_B, gradient = self._of_batch(parameters, one)
            losses.append(loss_B)
            sums = {name: value.astype(mx.float32) + sums.get(name, 0.0) for name, value in gradient.items()}
            del gradient
            mx.eval(sums)
        return mx.concatenate(losses), sums

    def _of_batch(self, parameters: Tensors, batch: Batch) -> tuple[mx.array, Tensors]:
        """Forward through all blocks, then in reverse through those that are recomputed."""
        evaluate = Evaluation()
        target = self._target(batch)
        stream, inputs = self._forward_through_recomputed(parameters, batch, evaluate)
        losses_B, gradient, g = self._through_kept(parameters, batch, target, stream, inputs)
        del stream
        for block in reversed(self._recomputed[self._first_trained :]):
            block_input, changed = inputs.pop()
            g_output = {name: g.pop(name) for name in changed}
            vjp = self._vjp(block.signature, bool(inputs))
            g_trained, g_input = vjp(block.frozen_arrays, _arrays_of(block, parameters), block_input, g_output)
            evaluate(g_trained, g_input)
            g |= g_input
            gradient |= dict(zip(block.names, g_trained, strict=True))
            del g_trained, g_input  # or they would be held while the next block is computed
        backend.submit(losses_B, gradient)
        return losses_B, gradient

    # Forward

    def _target(self, batch: Batch) -> tuple[mx.array, mx.array]:
        """(l_T, eps) of the loss, whose eps - l_T is the velocity to learn: for preserved examples 0 and the base's."""
        if not batch.preserved:
            return batch.clean_BLC, batch.noise_BLC
        others, last = slice(-batch.preserved), slice(-batch.preserved, None)
        clean_BLC, noise_BLC, sigma_B = (each[last] for each in (batch.clean_BLC, batch.noise_BLC, batch.sigma_B))
        conditioning = {name: array[last] for name, array in batch.conditioning.items()}
        l_t_BLC = flow.interpolate(clean_BLC, noise_BLC, sigma_B)
        velocity_BLC = self._base(l_t_BLC, sigma_B, conditioning, batch.grid, self._guidance).astype(mx.float32)
        zeros_BLC = mx.zeros_like(velocity_BLC)
        return (
            mx.concatenate([batch.clean_BLC[others], zeros_BLC]),
            mx.concatenate([batch.noise_BLC[others], velocity_BLC]),
        )

    def _forward_through_recomputed(
        self, parameters: Tensors, batch: Batch, evaluate: Evaluation
    ) -> tuple[Stream, BlockInputs]:
        """The stream after the recomputed blocks, and the inputs of those among them that need a gradient."""
        stream = self._embed(batch.grid)(batch.clean_BLC, batch.noise_BLC, batch.sigma_B, batch.conditioning)
        evaluate(stream)
        inputs: BlockInputs = []
        for index, block in enumerate(self._recomputed):
            changed = self._forward(block.signature)(block.frozen_arrays, _arrays_of(block, parameters), stream)
            evaluate(changed)
            if index >= self._first_trained:
                inputs.append((stream, list(changed)))
            stream = {**stream, **changed}
        return stream, inputs

    def _through_kept(
        self, parameters: Tensors, batch: Batch, target: tuple[mx.array, mx.array], stream: Stream, inputs: BlockInputs
    ) -> tuple[mx.array, Tensors, Stream]:
        """The losses, the gradient of the kept blocks' parameters, and that of what recomputed blocks changed."""
        trained = {name: parameters[name] for block in self._kept for name in block.names}
        changed = {name: stream[name] for _, names in inputs for name in names}
        constant = {name: value for name, value in stream.items() if name not in changed}
        arguments = (trained, changed, constant, *target, batch.weight_B, batch.weight_BL)
        g: Stream = {}
        if inputs:
            (_, losses_B), (gradient, g) = self._grad_of_kept_and_input(*arguments)
        else:
            (_, losses_B), gradient = self._grad_of_kept(*arguments)
        backend.submit(losses_B, gradient, g)
        return losses_B, gradient, g

    # The functions that are compiled

    def _embed_of(self, grid: Grid) -> Callable[..., Stream]:
        """The input of the first block. One function per grid: a compiled function tells apart shapes, not grids."""

        def embed(clean_BLC: mx.array, noise_BLC: mx.array, sigma_B: mx.array, conditioning: Conditioning) -> Stream:
            l_t_BLC = flow.interpolate(clean_BLC, noise_BLC, sigma_B)
            return self._family.embed(l_t_BLC, sigma_B, conditioning, grid, self._guidance)

        return backend.compile_step(embed)

    def _forward_of(self, signature: Signature) -> Callable[[Arrays, Arrays, Stream], Stream]:
        """(frozen, trained, stream) to the arrays that the block changes."""
        block = with_signature(self._blocks, signature)

        def forward(frozen: Arrays, trained: Arrays, stream: Stream) -> Stream:
            return block(frozen, trained, stream)

        return evaluated_in_stages(backend.compile_step(forward))

    def _vjp_of(self, signature: Signature, needs_input: bool) -> Callable[..., tuple[Arrays, Stream]]:
        """(frozen, trained, stream, g_output) to the gradients of the trained arrays and, if needed, of the input.

        The first trained block needs no gradient for its input, which saves a quarter of its backward pass. The
        gradient of the input is only that of the arrays that the block changes (see `Block`).
        """
        block = with_signature(self._blocks, signature)

        def vjp(frozen: Arrays, trained: Arrays, stream: Stream, g_output: Stream) -> tuple[Arrays, Stream]:
            """Consumes `stream` and `g_output`: on CPU both dicts are emptied."""
            count, names = len(trained), list(g_output) if needs_input else []

            def outputs(*arrays: mx.array) -> Arrays:
                inputs = {**stream, **dict(zip(names, arrays[count:], strict=True))}
                changed = block(frozen, list(arrays[:count]), inputs)
                return [changed[name] for name in g_output]

            primals = [*trained, *(stream[name] for name in names)]
            _, gradients = mx.vjp(outputs, primals, list(g_output.values()))
            if not backend.policy().compiles:
                stream.clear()  # from here on the graph holds each array for as long as it needs it
                g_output.clear()
            return gradients[:count], dict(zip(names, gradients[count:], strict=True))

        return evaluated_in_stages(backend.compile_step(vjp), backward=True)

    def _loss_of_kept(
        self,
        trained: Tensors,
        changed: Stream,
        constant: Stream,
        clean_BLC: mx.array,
        noise_BLC: mx.array,
        weight_B: mx.array,
        weight_BL: mx.array | None,
    ) -> tuple[mx.array, mx.array]:
        """From the input of the first kept block to the weighted mean loss and each example's loss.

        `trained` takes the place of the kept blocks' own arrays.
        """
        stream = {**constant, **changed}
        slots = [slot for block in self._kept for slot in block.trained]
        with swapped_in(slots, [trained[name] for block in self._kept for name in block.names]):
            for block in self._kept:
                stream = block.block.run(block.block.module, stream)
            velocity_BLC = self._family.project(stream)
        losses_B = dreambooth_loss(velocity_BLC, clean_BLC, noise_BLC, weight_BL)
        return weighted_mean(losses_B, weight_B), losses_B

    def _compiled_or_staged(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles where the backend compiles.

        On CPU, evaluates in stages if blocks are recomputed (about 5% slower, less memory).
        """
        compiled = backend.compile_step(function)
        return evaluated_in_stages(compiled) if self._recomputed else compiled


def _arrays_of(block: FunctionalBlock, parameters: Tensors) -> Arrays:
    """The trained arrays of a block, in its own order."""
    return [parameters[name] for name in block.names]
