"""JSON as the standard has it, in both directions. Python's own reads and writes more than that.

loads   a byte order mark is skipped; NaN, Infinity, 1e999, half a character (a lone surrogate) and deep nesting are
        a ValueError with a sentence
dumps   NaN and infinities become null
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

DEPTH_AT_MOST = 100
DIGITS_AT_MOST = 300  # a longer whole number is no float either


def loads(content: str | bytes) -> Any:
    """The value. Raises ValueError with a sentence that continues "the file": "is not UTF-8 text"."""
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content.removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text; save it again as plain UTF-8") from None
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite_float, parse_int=_short_int)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"is nested more than {DEPTH_AT_MOST} deep") from None
    for each, depth in _walk(value):
        if depth > DEPTH_AT_MOST:
            raise ValueError(f"is nested more than {DEPTH_AT_MOST} deep")
        if isinstance(each, str) and any("\ud800" <= c <= "\udfff" for c in each):
            raise ValueError(f"has half a character in {each[:20]!r}")
    return value


def dumps(content: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """The text. Numbers that are not finite become null."""
    try:
        return json.dumps(content, indent=indent, ensure_ascii=ascii_only, allow_nan=False)
    except ValueError:
        return json.dumps(_with_null(content), indent=indent, ensure_ascii=ascii_only, allow_nan=False)


def _walk(value: Any) -> Iterator[tuple[Any, int]]:
    """Every value and key within, with its depth; without recursion."""
    rest = [(value, 0)]
    while rest:
        each, depth = rest.pop()
        yield each, depth
        if isinstance(each, dict):
            rest += [(inner, depth + 1) for pair in each.items() for inner in pair]
        elif isinstance(each, list):
            rest += [(inner, depth + 1) for inner in each]


def _with_null(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _with_null(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null(each) for each in value]
    return value


def _refuse(word: str) -> float:
    raise ValueError(f"has {word}, which is not a number in JSON")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"has {digits[:20]}, which is too large a number")
    return value


def _short_int(digits: str) -> int:
    if len(digits) > DIGITS_AT_MOST:
        raise ValueError(f"has {digits[:20]}..., which is too large a number")
    return int(digits)
