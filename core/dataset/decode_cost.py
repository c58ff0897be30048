"""Files made of so many parts that reading them takes minutes or gigabytes: refused before Pillow opens them.

Pillow walks through chunks, segments and runs in Python, some 1 to 5 us each, and keeps most of them; a file of 64 MB
can hold 16 million. libjpeg goes through the whole picture once for each scan of a progressive JPEG, however short.

    PNG     chunks: size, kind, content, checksum; IDAT are the pixels
    JPEG    segments: FF, kind, size, content; SOS begins a scan's pixels, where FF 00 and FF D0 to D7 are no segments
    BMP     with run-length coding: pairs of bytes
    TIFF    core/dataset/tiff_tags.py;  GIF  core/dataset/frames.py
"""

from __future__ import annotations

import io
import re
from typing import BinaryIO

from PIL import Image

from core.dataset import frames, tiff_tags

PNG_CHUNKS_AT_MOST = 100_000  # 64 MB in chunks of 640 bytes; libpng writes 8192
PNG_WORDS_AT_MOST = 500  # chunks of other things than pixels and frames
SEGMENTS_AT_MOST = 1000  # before the pixels: 64 MB of full ones
EXIF_SEGMENTS_AT_MOST = 16  # Pillow joins them one by one
JUNK_BYTES_AT_MOST = 2**16  # between segments, where Pillow looks at each byte
LATER_SEGMENTS_AT_MOST = 10_000
SCANS_AT_MOST = 20  # the usual progressive JPEG has 10
SCANNED_PIXELS_AT_MOST = 2 * 10**9  # of all scans together; a small photo may have more scans
EXIF_BYTES_AT_MOST = 4 * 2**20  # Pillow holds a number of two bytes in 36
RUN_BYTES_AT_MOST = 4 * 2**20
RUN_PIXELS_AT_MOST = 10**7
BLOCK = 2**14

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_NO_LENGTH = {0x01, 0xD8, 0xD9}
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_EOI, _SOS, _APP1 = 0xD9, 0xDA, 0xE1


def too_many(format_name: str, file: BinaryIO) -> str:
    """What a file of this format has too many of, as a sentence continues "is a PNG file with"; "" for most."""
    if format_name == "PNG":
        return "very many small chunks" if _png_is_crowded(file) else ""
    if format_name == "JPEG":
        return _jpeg_trouble(file)
    if format_name == "GIF":
        return "very many blocks before its first frame" if frames.gif_begins_too_late(file) else ""
    if format_name == "TIFF":
        return "very many tags or strips" if tiff_tags.are_crowded(file) else ""
    return "very many runs of pixels" if format_name == "BMP" and _bmp_is_crowded(file) else ""


def exif_of(image: Image.Image) -> Image.Exif:
    """The EXIF data of an opened photo. Raises ValueError where there is very much, and Pillow's own exceptions."""
    if len(image.info.get("exif", b"")) > EXIF_BYTES_AT_MOST:
        raise ValueError("very much EXIF data")
    return image.getexif()


def _png_is_crowded(file: BinaryIO) -> bool:
    file.seek(8)
    words = 0
    for _ in range(PNG_CHUNKS_AT_MOST):
        head = file.read(8)
        kind = head[4:]
        if len(kind) < 4 or kind == b"IEND":
            return False
        words += kind not in (b"IDAT", b"fdAT", b"fcTL")
        if words > PNG_WORDS_AT_MOST:
            return True
        file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)
    return True


def _jpeg_trouble(file: BinaryIO) -> str:
    file.seek(2)
    segments = exif = junk = scans = pixels = 0
    while True:
        kind, skipped = _next_marker(file)
        segments += 1
        junk += 0 if scans else skipped
        if not kind or (scans and kind == _EOI):
            return ""
        if scans and segments > LATER_SEGMENTS_AT_MOST:
            return "very many segments"
        if not scans and (segments > SEGMENTS_AT_MOST or exif > EXIF_SEGMENTS_AT_MOST or junk > JUNK_BYTES_AT_MOST):
            return "very many segments before its pixels"
        if kind in _NO_LENGTH:
            continue
        start, length = file.tell(), int.from_bytes(file.read(2), "big")
        if kind == _SOS:
            scans += 1
            if scans > SCANS_AT_MOST and scans * pixels > SCANNED_PIXELS_AT_MOST:
                return "very many scans"
        elif kind == _APP1:
            exif += file.read(5) == b"Exif\0"
        elif kind in _START_OF_FRAME:
            size = file.read(5)
            pixels = int.from_bytes(size[1:3], "big") * int.from_bytes(size[3:5], "big")
        file.seek(start + max(length, 2))


def _next_marker(file: BinaryIO) -> tuple[int, int]:
    """The kind of the next segment, 0 at the end of the file, and how many bytes come before it."""
    start = at = file.tell()
    while block := file.read(BLOCK):
        if found := _MARKER.search(block):
            at += found.end()
            file.seek(at)
            return block[found.end() - 1], at - start - 2
        at += len(block)
        if block.endswith(b"\xff") and len(block) > 1:  # the rest of a marker may be in the next block
            at -= 1
            file.seek(at)
    return 0, at - start


def _bmp_is_crowded(file: BinaryIO) -> bool:
    file.seek(0)
    head = file.read(34)
    if int.from_bytes(head[30:34], "little") not in (1, 2):  # RLE of 8 or 4 bits
        return False
    width, height = (abs(int.from_bytes(head[at : at + 4], "little", signed=True)) for at in (18, 22))
    return width * height > RUN_PIXELS_AT_MOST or file.seek(0, io.SEEK_END) > RUN_BYTES_AT_MOST
