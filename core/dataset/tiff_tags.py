"""Tags of TIFF files: is this a photo, or a camera's raw file, which is a TIFF file around data of the sensor?

Pillow would read the small preview that a raw file begins with, and nothing would say so.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two with offsets of 64 bits
DIRECTORIES_AT_MOST = 64
ENTRIES_AT_MOST = 1000
VALUES_AT_MOST = 16
NUMBERS_AT_MOST = 100_000  # of one tag: strips of 1 px, each colour apart, are 80,000

COMPRESSION, PHOTOMETRIC, SUB_DIRECTORIES, EXIF, DNG_VERSION = 259, 262, 330, 34665, 50706
RAW_PHOTOMETRIC = {32803, 34892}  # colour filter array; linear raw
RAW_COMPRESSION = {32767, 32770, 34713, 65000, 65535}  # Sony, Samsung, Nikon, Kodak, Pentax
BYTES = {1, 2, 7}  # types that are not numbers to Pillow: bytes, text, anything
NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # whole numbers: TIFF's type and struct's

Tags = dict[int, list[int]]


def is_raw(file: BinaryIO) -> bool:
    """Whether a TIFF file is a camera's raw file: DNG, NEF, ARW, CR2 and their like."""
    file.seek(0)
    head = file.read(12)
    if head[8:10] == b"CR" or head[8:12] == b"IIII":  # Canon, Phase One
        return True
    return any(
        DNG_VERSION in tags
        or RAW_PHOTOMETRIC & set(tags.get(PHOTOMETRIC, ()))
        or RAW_COMPRESSION & set(tags.get(COMPRESSION, ()))
        for tags in directories(file)
    )


def ends_early(file: BinaryIO) -> bool:
    """Whether the file ends before its first directory, which writers may put behind the pixels."""
    try:
        _, _, at = _header(file)
    except struct.error:
        return True
    return at >= file.seek(0, io.SEEK_END)


def are_crowded(file: BinaryIO) -> bool:
    """Whether the first directory, or that of EXIF data, has very many entries, or numbers in one of them.

    Pillow makes an object of each.
    """
    try:
        order, big, at = _header(file)
        for _ in range(2):
            file.seek(at)
            (count,) = _unpacked(file, order + ("Q" if big else "H"))
            if count > ENTRIES_AT_MOST:
                return True
            entries = [_unpacked(file, order + ("HHQ8s" if big else "HHI4s")) for _ in range(count)]
            if any(kind not in BYTES and number > NUMBERS_AT_MOST for _, kind, number, _ in entries):
                return True
            further = [held for tag, _, _, held in entries if tag == EXIF]
            if not further:
                return False
            (at,) = struct.unpack(order + ("Q" if big else "I"), further[0])
    except (struct.error, OverflowError, OSError, ValueError):
        pass  # it is cut off: Pillow says so
    return False


def directories(file: BinaryIO) -> Iterator[Tags]:
    """Whole numbers of each directory, with those within directories, by tag; what is damaged is left out."""
    try:
        order, big, first = _header(file)
    except struct.error:
        return
    ahead = [first]
    seen: set[int] = set()
    while ahead and len(seen) < DIRECTORIES_AT_MOST:
        at = ahead.pop(0)
        if at == 0 or at in seen:
            continue
        seen.add(at)
        try:
            tags, following = _directory(file, at, order, big)
        except (struct.error, OverflowError, OSError, ValueError):
            continue
        yield tags
        ahead += [*tags.get(SUB_DIRECTORIES, ()), following]


def pages(file: BinaryIO, at_most: int) -> int:
    """How many directories follow each other, counted to `at_most`; those within others are not counted."""
    order, big, at = _header(file)
    seen: set[int] = set()
    while at and at not in seen and len(seen) < at_most:
        file.seek(at)
        try:
            (entries,) = _unpacked(file, order + ("Q" if big else "H"))
            file.seek(at + (8 + 20 * entries if big else 2 + 12 * entries))
            (following,) = _unpacked(file, order + ("Q" if big else "I"))
        except (struct.error, OverflowError, ValueError):
            following = 0  # it is cut off within this one
        seen.add(at)
        at = following
    return len(seen)


def _directory(file: BinaryIO, at: int, order: str, big: bool) -> tuple[Tags, int]:
    """Tags, and where the next directory is; 0 behind the last. Raises struct.error, OverflowError, OSError."""
    count_form, entry_form, offset_form = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    file.seek(at)
    (count,) = _unpacked(file, order + count_form)
    if count > ENTRIES_AT_MOST:
        return {}, 0
    entries = [_unpacked(file, order + entry_form) for _ in range(count)]
    (following,) = _unpacked(file, order + offset_form)
    tags = {}
    for tag, kind, number, held in entries:
        if kind not in NUMBERS or tag not in (COMPRESSION, PHOTOMETRIC, SUB_DIRECTORIES, DNG_VERSION):
            continue
        form = f"{order}{min(number, VALUES_AT_MOST)}{NUMBERS[kind]}"
        if struct.calcsize(form) > len(held):
            file.seek(struct.unpack(order + offset_form, held)[0])
            held = file.read(struct.calcsize(form))
        tags[tag] = list(struct.unpack_from(form, held))
    return tags, following


def _unpacked(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _header(file: BinaryIO) -> tuple[str, bool, int]:
    """Byte order as struct has it, whether offsets have 64 bits, the first directory's place. Raises struct.error."""
    file.seek(0)
    head = file.read(16)
    order, big = "<" if head[:1] == b"I" else ">", 43 in (head[2], head[3])
    (at,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", head, 8 if big else 4)
    return order, big, at
