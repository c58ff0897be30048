"""The part of a block in which no token sees another, for a few tokens after the other.

    forth   y = [f(x_1), f(x_2) ... f(x_n)]
    back    piece after piece: f(x_i) again, dx_i, and what it adds to the sums dA, dB

An MLP's inner values are four times as wide as a token, and its gradient needs a handful of arrays of that width. On a
CPU that keeps no block's activations, to spare memory at the cost of time, they are there for TOKENS_AT_ONCE, no more.
Nothing is computed twice for it: on the way back nobody asks for what a block moves on, and so not for y either. In all
other cases f takes all tokens at once.

Shapes   B batch   S tokens   D width
Dtypes   as f's; sums over pieces in float32
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import mlx.core as mx
import mlx.nn as nn

from core.numerics.functional import holding, slots_of
from core.numerics.staged_eval import reached, spares_all, stages

TOKENS_AT_ONCE = 64
"""A step of 288 tokens, 384 wide, takes 105.7 MB; with 144 it takes 107.2 and a tenth less time, with all 112.9 and a
sixth less."""


def in_pieces(
    function: Callable[..., mx.array], modules: Sequence[nn.Module], x_BSD: Sequence[mx.array], *whole: mx.array
) -> mx.array:
    """function(*x_BSD, *whole): of arrays of tokens, (B, S, .), and of others that all tokens share.

    `modules` are those that it uses. It must not use any other array that a gradient is sought for.
    """
    tokens, inputs, shared = x_BSD[0].shape[1], len(x_BSD), len(x_BSD) + len(whole)
    count = -(-tokens // TOKENS_AT_ONCE)
    if count == 1 or not spares_all():
        return function(*x_BSD, *whole)
    reached(*x_BSD)
    slots, frozen_slots = slots_of(modules)
    frozen = [layer[name] for layer, name in frozen_slots]  # when it comes to the gradient, others may lie there

    def of_piece(*arrays: mx.array) -> mx.array:
        with holding([*slots, *frozen_slots], [*arrays[shared:], *frozen]):
            return function(*arrays[:shared])

    def pieces(*arrays_BSD: mx.array) -> Iterator[tuple[mx.array, ...]]:
        ends = [tokens * number // count for number in range(1, count)]
        return zip(*(mx.split(each, ends, axis=1) for each in arrays_BSD), strict=True)

    @mx.custom_function
    def all_pieces(*arrays: mx.array) -> mx.array:
        others = arrays[inputs:]
        return mx.concatenate([of_piece(*piece, *others) for piece in pieces(*arrays[:inputs])], axis=1)

    @all_pieces.vjp
    def gradient(primals: Sequence[mx.array], g_BSD: mx.array, _y_BSD: mx.array) -> tuple[mx.array, ...]:
        others = primals[inputs:]
        dx: list[tuple[mx.array, ...]] = []
        sums: list[mx.array] = []
        for *piece, g in pieces(*primals[:inputs], g_BSD):
            with stages() as parts:
                _, found = mx.vjp(of_piece, [*piece, *others], [g])
            for each in parts:
                reached(*each)
            dx.append(tuple(map(mx.contiguous, found[:inputs])))  # cut out of a wider one, it would keep all of that
            own = [each.astype(mx.float32) for each in found[inputs:]]
            sums = [total + one for total, one in zip(sums, own, strict=True)] if sums else own
            reached(*dx[-1], *sums[len(whole) :])  # of what all share a gradient is seldom asked for
        whole_dx = (mx.concatenate(each, axis=1) for each in zip(*dx, strict=True))
        return *whole_dx, *(total.astype(each.dtype) for total, each in zip(sums, others, strict=True))

    return all_pieces(*x_BSD, *whole, *(layer[name] for layer, name in slots))
