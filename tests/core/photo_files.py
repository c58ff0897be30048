"""Photos of kinds that Pillow does not write, and the picture that most of them show."""

from __future__ import annotations

import struct
import zlib

from PIL import Image, ImageDraw

from tests.core.subjects import encoded
from tests.core.tiff_files import tiff

WIDTH, HEIGHT = 32, 24
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def corners() -> Image.Image:
    """Red with a blue box top left and a yellow one bottom right."""
    image = Image.new("RGB", (WIDTH, HEIGHT), (200, 60, 40))
    ImageDraw.Draw(image).rectangle((0, 0, 9, 7), fill=(20, 20, 200))
    ImageDraw.Draw(image).rectangle((16, 12, WIDTH, HEIGHT), fill=(240, 240, 60))
    return image


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(more: bytes, image: Image.Image | None = None) -> bytes:
    """A PNG with `more` chunks behind its header."""
    content = encoded(image or corners())
    return content[:33] + more + content[33:]


def raw_file() -> bytes:
    """A TIFF file with a preview, and a second directory with data of a sensor."""
    tags = {258: ("H", [8, 8, 8]), 262: ("H", [2]), 277: ("H", [3])}
    return tiff(WIDTH, HEIGHT, tags, [corners().tobytes()], sub={262: ("H", [32803]), 259: ("H", [1])})


NOT_HEX = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n      20\n4578696600004d4d002azz\n"))
NOT_TIFF = chunk(b"eXIf", b"\x00\x08\x00\x02\x01\x12\x00\x03")
