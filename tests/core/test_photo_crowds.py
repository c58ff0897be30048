"""Files of millions of tiny parts are answered in a moment, and ordinary files of many parts are read."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

from core.dataset import dates, decode_cost, photos
from core.errors import DataProblem
from tests.core.photo_files import PNG_HEAD, chunk, png_with
from tests.core.subjects import encoded, picture
from tests.core.tiff_files import tiff

SECONDS = 1.0  # of CPU; without the limits each of these takes 3 to 60 s
TIFF_TAGS = {258: ("H", [8]), 262: ("H", [1])}


def png(pixels: bytes, more: bytes = b"") -> bytes:
    """A grey PNG with these IDAT chunks, and `more` behind them."""
    head = struct.pack(">IIBBBBB", 20, 20, 8, 0, 0, 0, 0)
    return PNG_HEAD + chunk(b"IHDR", head) + pixels + more + chunk(b"IEND", b"")


PIXELS = zlib.compress(b"".join(b"\0" + bytes(range(20)) for _ in range(20)), 0)
EXIF_SEGMENT = b"\xff\xe1" + struct.pack(">H", 9) + b"Exif\0\0x"


def jpeg_with(more: bytes) -> bytes:
    """A JPEG with `more` behind its first marker."""
    content = encoded(picture(0, 20, 20), "JPEG")
    return content[:2] + more + content[2:]


def scans(count: int, side: int = 2000) -> bytes:
    """A progressive JPEG in which one scan is there `count` times."""
    content = encoded(Image.new("RGB", (side, side), (9, 99, 200)), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + (count - content.count(b"\xff\xda")) * content[last:-2] + content[-2:]


def crowded(kind: str) -> bytes:
    if kind == "PNG":
        return png(chunk(b"IDAT", PIXELS), 1_000_000 * chunk(b"prVt", b""))
    if kind == "text in PNG":
        return png_with(chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(10**6))) * 2000)
    if kind == "pixels in PNG":
        return png(1_000_000 * chunk(b"IDAT", b"") + chunk(b"IDAT", PIXELS))
    if kind == "segments":
        return jpeg_with(b"\xff\xfe\0\2" * 2_000_000)
    if kind == "EXIF":
        return jpeg_with(EXIF_SEGMENT * 300_000)
    if kind == "padding":
        return jpeg_with(b"\xff" * 8_000_000)
    if kind == "scans":
        return scans(5000)
    if kind == "strips":
        return tiff(20, 20, TIFF_TAGS | {279: ("I", [400] * 2_000_000)}, [bytes(400)])
    if kind == "EXIF of a TIFF":
        content = tiff(20, 20, TIFF_TAGS | {34665: ("I", [0])}, [bytes(400)])
        place = struct.pack("<HHI", 34665, 4, 1)
        content = content.replace(place + bytes(4), place + struct.pack("<I", len(content)))
        return content + struct.pack("<HHHIII", 1, 0x9000, 3, 2_000_000, 8, 0) + bytes(4_000_000)
    return bmp(2000, 2000, 1, b"\0\0" * 8_000_000)


def bmp(width: int, height: int, compression: int, pixels: bytes) -> bytes:
    """With run-length coding of 8 bits (1) or 4 bits (2)."""
    palette = bytes(range(256)) * 4
    depth = 8 if compression == 1 else 4
    sizes = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, depth, compression, len(pixels), 0, 0, 256 if depth == 8 else 16, 0
    )
    at = 14 + len(sizes) + len(palette)
    return b"BM" + struct.pack("<IHHI", at + len(pixels), 0, 0, at) + sizes + palette + pixels


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("PNG", "is a PNG file with very many small chunks; save it again."),
        ("text in PNG", "is a PNG file with very many small chunks; save it again."),
        ("pixels in PNG", "is a PNG file with very many small chunks; save it again."),
        ("segments", "is a JPEG file with very many segments before its pixels; save it as PNG."),
        ("EXIF", "is a JPEG file with very many segments before its pixels; save it as PNG."),
        ("padding", "is a JPEG file with very many segments before its pixels; save it as PNG."),
        ("scans", "is a JPEG file with very many scans; save it as PNG."),
        ("strips", "is a TIFF file with very many tags or strips; save it as PNG."),
        ("EXIF of a TIFF", "is a TIFF file with very many tags or strips; save it as PNG."),
        ("runs", "is a BMP file with very many runs of pixels; save it as PNG."),
    ],
)
def test_a_file_of_millions_of_tiny_parts_is_refused_at_once(kind: str, words: str) -> None:
    content = crowded(kind)
    began = time.process_time()
    for read in (photos.inspect, photos.open_rgb, photos.size_of):
        with pytest.raises(DataProblem) as problem:
            read(content)
        assert problem.value.message == words
    assert time.process_time() - began < SECONDS


def test_ordinary_files_of_many_parts_are_read() -> None:
    many = b"".join(chunk(b"IDAT", PIXELS[at : at + 1]) for at in range(len(PIXELS)))
    assert photos.inspect(png(many, chunk(b"tEXt", b"a\0b") * 300)).format == "PNG"
    profile = b"\xff\xe2" + struct.pack(">H", 2 + 14 + 5) + b"ICC_PROFILE\0\1\1abcde"
    assert photos.inspect(jpeg_with((profile + b"\xff\xff") * 255)).format == "JPEG"
    assert photos.inspect(scans(18)).format == "JPEG"
    assert photos.inspect(scans(300, side=200)).format == "JPEG"
    rows = {278: ("I", [1]), 273: ("I", [8] * 400), 279: ("I", [20] * 400)}
    assert photos.inspect(tiff(20, 400, TIFF_TAGS | rows, [bytes(20)] * 400)).format == "TIFF"
    assert photos.inspect(bmp(20, 20, 1, b"\x14\7\0\0" * 20 + b"\0\1")).format == "BMP"


def test_markers_are_found_across_the_blocks_that_are_read() -> None:
    for at in range(decode_cost.BLOCK - 6, decode_cost.BLOCK + 3):
        content = b"\xff\xd8" + bytes(at) + b"\xff\xfe\0\2" * 2000
        assert decode_cost.too_many("JPEG", io.BytesIO(content)) == "very many segments before its pixels"
        assert decode_cost.too_many("JPEG", io.BytesIO(content[: at + 2])) == ""


def test_very_much_exif_data_is_not_looked_into(tmp_path: Path) -> None:
    numbers = 2_500_000
    exif = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, numbers, 26, 0) + b"\6\0" * numbers
    content = png_with(chunk(b"eXIf", exif), picture(0, 20, 24))
    assert photos.inspect(content).warnings == photos.inspect(encoded(picture(0, 20, 24))).warnings
    (tmp_path / "a.png").write_bytes(content)
    assert dates.taken(tmp_path / "a.png") is None
    with Image.open(tmp_path / "a.png") as image, pytest.raises(ValueError, match="very much EXIF data"):
        decode_cost.exif_of(image)
