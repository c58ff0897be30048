"""Randomness is a function, not a state.

Every random draw takes a key made from (run seed, step, global index of the example, purpose). There is no random state
to save or to share: a resumed run draws the numbers of the uninterrupted one, and the order of calls from threads or
machines has no effect.
"""

from __future__ import annotations

import hashlib

import mlx.core as mx


def number_for(purpose: str, *coordinates: int) -> int:
    """A 64-bit number, a function of the purpose and the coordinates alone."""
    text = ":".join([purpose, *(str(int(c)) for c in coordinates)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def key_for(purpose: str, *coordinates: int) -> mx.array:
    """An MLX random key for one draw, e.g. `key_for("noise", seed, step, example)`."""
    return mx.random.key(number_for(purpose, *coordinates))


def fraction_for(purpose: str, *coordinates: int) -> float:
    """A number in [0, 1), for random choices in Python: caption dropout, flips."""
    return (number_for(purpose, *coordinates) >> 11) / 2**53


def order_for(purpose: str, count: int, *coordinates: int) -> list[int]:
    """A permutation of range(count)."""
    return sorted(range(count), key=lambda index: number_for(purpose, *coordinates, index))
