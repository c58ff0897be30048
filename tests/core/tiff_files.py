"""TIFF files of kinds that Pillow does not write, tag by tag."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

Tags = Mapping[int, tuple[str, Sequence[int]]]  # struct's letter, and the values
TYPES = {"B": 1, "H": 3, "I": 4}


def tiff(width: int, height: int, tags: Tags, strips: Sequence[bytes], sub: Tags | None = None) -> bytes:
    """One strip for each plane; `sub` is a second directory, which tag 330 of the first points to."""
    every: dict[int, tuple[str, Sequence[int]]] = {
        256: ("I", [width]), 257: ("I", [height]), 259: ("H", [1]), 277: ("H", [1]), 278: ("I", [height]),
        279: ("I", [len(strip) for strip in strips]), 273: ("I", [0] * len(strips)), **tags,
    }  # fmt: skip
    if sub is not None:
        every[330] = ("I", [0])
    start = 8 + _length(every) + (_length(sub) if sub is not None else 0)
    every[273] = ("I", [start + sum(map(len, strips[:n])) for n in range(len(strips))])
    if sub is not None:
        every[330] = ("I", [8 + _length(every)])
    content = b"II*\0" + struct.pack("<I", 8) + _directory(every, 8)
    return content + (_directory(sub, len(content)) if sub is not None else b"") + b"".join(strips)


def _packed(kind: str, values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}{kind}", *values)


def _length(tags: Tags) -> int:
    apart = [len(_packed(*value)) for value in tags.values()]
    return 2 + 12 * len(tags) + 4 + sum(each for each in apart if each > 4)


def _directory(tags: Tags, at: int) -> bytes:
    entries, behind = b"", b""
    first = at + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        kind, values = tags[tag]
        held = _packed(kind, values)
        if len(held) > 4:
            held, behind = struct.pack("<I", first + len(behind)), behind + held
        entries += struct.pack("<HHI4s", tag, TYPES[kind], len(values), held)
    return struct.pack("<H", len(tags)) + entries + bytes(4) + behind
