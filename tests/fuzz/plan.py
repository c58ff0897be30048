"""What a generated input is made of: choices read from random bytes, one after the other.

Hypothesis draws the bytes, seeds, repeats and shrinks them; drawing each choice with a strategy of its own takes ten
times as long. Past the end of the bytes every choice is the first one, so fewer bytes are a simpler input.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

ODD_CHARACTERS = (
    "\0", "\t", "\n", "\r", "\x1b", "\x7f", "\x85", "\xa0", "\xad", "\u0301", "\u0663", "\u200b", "\u2028", "\u202e",
    "\ud800", "\udc00", "\udfff", "\ue000", "\ufeff", "\ufffd", "\uffff", "\U0001f600", "\U0010ffff", "İ", "ß", "Å",
    "ﬁ", "写",
)  # fmt: skip
FLOATS = (0.0, -0.0, 1.5, -1.0, math.nan, math.inf, -math.inf, 5e-324, 1.7e308, -1e-5, 0.1, 2.0**53, 1e16, 3.4e38)
WHOLE = (0, 1, -1, 2, 255, -256, 2**31, 2**32, -(2**63), 2**64, 10**20, 10**400)


class Plan:
    """Random bytes, and how many of them are used up."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def number(self, below: int) -> int:
        """0 to `below` - 1."""
        width = (below.bit_length() + 7) // 8
        return int.from_bytes(self.bytes(width), "little") % below

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.number(len(choices))]

    def rarely(self, of: int = 8) -> bool:
        """True once in `of` times."""
        return self.number(of) == of - 1

    def bytes(self, length: int) -> bytes:
        """That many bytes; fewer than that have zeros behind them."""
        found = self.content[self.at : self.at + length]
        self.at += length
        return found.ljust(length, b"\0")

    def some_bytes(self, at_most: int) -> bytes:
        return self.bytes(self.number(at_most + 1))

    def many(self, at_most: int, make: Callable[[Plan], T], at_least: int = 0) -> list[T]:
        return [make(self) for _ in range(at_least + self.number(at_most - at_least + 1))]

    def character(self) -> str:
        """Of ASCII, an odd one, or any other, half of a pair included."""
        kind = self.number(4)
        if kind == 0:
            return chr(32 + self.number(95))
        if kind == 1:
            return self.one_of(ODD_CHARACTERS)
        return chr(self.number(0x3000 if kind == 2 else 0x110000))

    def text(self, at_most: int) -> str:
        return "".join(self.many(at_most, Plan.character))

    def float(self) -> float:
        if self.number(2):
            return self.one_of(FLOATS)
        found: float = struct.unpack("<d", self.bytes(8))[0]
        return found

    def chosen(self, fields: dict[str, Callable[[Plan], Any]]) -> dict[str, Any]:
        """A table with some of the fields."""
        return {name: make(self) for name, make in fields.items() if self.number(2)}


class Json:
    """Values of JSON, and of Python's wider reading of it: no deeper than `depth`."""

    def __init__(self, scalar: Callable[[Plan], Any], key: Callable[[Plan], str], depth: int = 2) -> None:
        self.scalar, self.key, self.depth = scalar, key, depth

    def __call__(self, plan: Plan) -> Any:
        return self._value(plan, self.depth)

    def _value(self, plan: Plan, depth: int) -> Any:
        kind = plan.number(8) if depth else 0
        if kind < 6:
            return self.scalar(plan)
        if kind == 6:
            return plan.many(3, lambda each: self._value(each, depth - 1))
        return {self.key(plan): self._value(plan, depth - 1) for _ in range(plan.number(4))}


def made_by(make: Callable[[Plan], T], length: int) -> st.SearchStrategy[T]:
    """Inputs of which each is made from `length` random bytes."""
    return st.binary(min_size=length, max_size=length).map(lambda content: make(Plan(content)))
