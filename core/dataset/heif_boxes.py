"""Boxes of HEIC and AVIF files (ISO/IEC 14496-12 and 23008-12): is the file complete, and how is its colour coded?

libheif decodes a picture of tiles although some of them lie behind the end of the file, and leaves green where they
should be. Pillow's AVIF reader does not say how colour is coded. Both are in the `meta` box, of a few kilobytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BOXES_AT_MOST = 1000
META_BYTES_AT_MOST = 2**20  # a phone's has 20 kB; one of single bytes takes a second to walk through


class CodePoints(NamedTuple):
    """How colour is coded, in the numbers of ITU-T H.273."""

    primaries: int
    transfer: int


def is_cut_off(file: BinaryIO) -> bool:
    """Whether the file ends within a box, or before the bytes of one of its items. False where this cannot be told."""
    end = file.seek(0, io.SEEK_END)
    kinds = set()
    for kind, _, stop in _top_level(file):
        kinds.add(kind)
        if stop > end and kind in (b"ftyp", b"meta", b"moov", b"mdat"):
            return True
    if not kinds & {b"meta", b"moov"}:
        return True
    try:
        locations = dict(_children(_meta(file))).get(b"iloc", b"")
        return any(stop > end for stop in _item_ends(_Fields(locations)))
    except EOFError:
        return False


def code_points(file: BinaryIO) -> CodePoints | None:
    """Of the primary picture, from its `colr` box of type "nclx"; None where it has none."""
    try:
        boxes = dict(_children(_meta(file)))
        properties = dict(_children(boxes.get(b"iprp", b"")))
        associated = _associations(_Fields(properties.get(b"ipma", b"")))
        listed = [(kind, body) for kind, body in _children(properties.get(b"ipco", b""))]
        primary = _Fields(boxes.get(b"pitm", b""))
        item = primary.after_version(2, 4)
        for each in (item, *_tiles(boxes.get(b"iref", b""), item)[:1]):
            for index in associated.get(each, ()):
                kind, body = listed[index - 1] if 0 < index <= len(listed) else (b"", b"")
                if kind == b"colr" and body[:4] == b"nclx":
                    fields = _Fields(body[4:])
                    return CodePoints(fields.take(2), fields.take(2))
    except EOFError:
        pass
    return None


class _Fields:
    """Big-endian numbers, read one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def take(self, size: int) -> int:
        """Raises EOFError."""
        if self._at + size > len(self._content):
            raise EOFError
        self._at += size
        return int.from_bytes(self._content[self._at - size : self._at], "big")

    def after_version(self, size: int, later_size: int) -> int:
        """The number behind version and flags, of another size in later versions. Raises EOFError."""
        version = self.take(1)
        self.take(3)
        return self.take(later_size if version else size)


def _top_level(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start of the body, and end of each box, as its header says; it may lie behind the end of the file."""
    end, at = file.seek(0, io.SEEK_END), 0
    for _ in range(BOXES_AT_MOST):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind, body = int.from_bytes(head[:4], "big"), head[4:8], at + 8
        if size == 1:
            size, body = int.from_bytes(head[8:16], "big"), at + 16
        stop = end if size == 0 else at + size
        if stop < body:
            return
        yield kind, body, stop
        at = stop


def _meta(file: BinaryIO) -> bytes:
    for kind, body, stop in _top_level(file):
        if kind == b"meta" and stop - body <= META_BYTES_AT_MOST:
            file.seek(body + 4)  # behind version and flags
            return file.read(max(stop - body - 4, 0))
    return b""


def _children(content: bytes, at: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of the boxes within a box."""
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if size < 8:
            return
        yield content[at + 4 : at + 8], content[at + 8 : at + size]
        at += size


def _item_ends(fields: _Fields) -> Iterator[int]:
    """Where the bytes of each item end in the file, from an `iloc` box. Raises EOFError."""
    version = fields.take(1)
    fields.take(3)
    sizes, more = fields.take(1), fields.take(1)
    offset_size, length_size, base_size, index_size = sizes >> 4, sizes & 15, more >> 4, more & 15
    if offset_size + length_size == 0:
        return  # each item is the whole file
    for _ in range(fields.take(2 if version < 2 else 4)):
        fields.take(2 if version < 2 else 4)  # the item's number
        method = fields.take(2) & 15 if version else 0
        elsewhere = fields.take(2)  # 0: in this file
        base = fields.take(base_size)
        for _ in range(fields.take(2)):
            fields.take(index_size if version else 0)
            offset, length = fields.take(offset_size), fields.take(length_size)
            if method == 0 and not elsewhere:
                yield base + offset + length


def _associations(fields: _Fields) -> dict[int, list[int]]:
    """Which properties, counted from 1, belong to each item: an `ipma` box. Raises EOFError."""
    version, flags = fields.take(1), fields.take(3)
    wide = flags & 1
    found = {}
    for _ in range(fields.take(4)):
        item = fields.take(4 if version else 2)
        found[item] = [fields.take(2) & 0x7FFF if wide else fields.take(1) & 0x7F for _ in range(fields.take(1))]
    return found


def _tiles(references: bytes, item: int) -> list[int]:
    """The items that `item` is put together from: an `iref` box. Raises EOFError."""
    size = 4 if references[:1] == b"\1" else 2
    for kind, body in _children(references, 4):
        fields = _Fields(body)
        if kind == b"dimg" and fields.take(size) == item:
            return [fields.take(size) for _ in range(fields.take(2))]
    return []
