"""Damaged photos of every format: each is read, everywhere with the same size, or refused in a sentence."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any, NamedTuple

from PIL import Image, ImageCms

from core.dataset import hdr, photos
from core.errors import DataProblem
from tests.core import heif_files
from tests.core.photo_files import PNG_HEAD, chunk
from tests.core.subjects import encoded, picture
from tests.core.tiff_files import tiff
from tests.fuzz import scratch
from tests.fuzz.plan import Plan, made_by

SIDE = 20
NAMES = ("a.jpg", "b.nef", "", ".png", "x." + "y" * 300, "写真.HEIC", "c.tif", "no ending", "d.gif/e\0")
NUMBERS = (0, 1, 2, 6, 16, 127, 128, 255, 256, 4096, 32767, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


class Photo(NamedTuple):
    """A file as a user might drop it."""

    content: bytes
    name: str


@cache
def files() -> list[bytes]:
    """Whole files of every format and kind of pixel, which the others are made of."""
    for primaries, transfer in [(9, hdr.PQ), (9, hdr.HLG), (1, hdr.PQ), (1, hdr.HLG)]:  # their tables take a second
        hdr.to_srgb(Image.new("RGB", (1, 1)), hdr.CodePoints(primaries, transfer))
    image = picture(0, SIDE, SIDE + 4)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8769] = 6, "a camera", {0x9000: b"0230"}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    glass = image.copy()
    glass.putalpha(image.getchannel(0))
    kinds: list[tuple[str, list[str]]] = [
        ("JPEG", ["RGB", "L", "CMYK"]), ("PNG", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"]),
        ("WEBP", ["RGB", "RGBA"]), ("GIF", ["P", "L"]), ("BMP", ["RGB", "P", "1", "RGBA"]), ("AVIF", ["RGB", "RGBA"]),
        ("TIFF", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "I", "F", "CMYK", "YCbCr"]),
    ]  # fmt: skip
    found = [encoded((glass if mode in ("RGBA", "LA") else image).convert(mode), form)
             for form, modes in kinds for mode in modes]  # fmt: skip
    some: list[tuple[str, dict[str, Any]]] = [
        ("JPEG", {"exif": exif, "icc_profile": profile}), ("JPEG", {"progressive": True}), ("PNG", {"exif": exif}),
        ("PNG", {"icc_profile": profile, "transparency": (40, 120, 200)}), ("WEBP", {"exif": exif, "lossless": True}),
        ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "jpeg"}), ("TIFF", {"tiffinfo": {274: 6}}),
        ("TIFF", {"compression": "packbits"}), ("AVIF", {"exif": exif}),
    ]  # fmt: skip
    found += [encoded(image, form, **options) for form, options in some]
    frames = {"save_all": True, "append_images": [image.convert("L"), image]}
    found += [encoded(image, form, **frames) for form in ("GIF", "PNG", "WEBP", "TIFF", "MPO")]
    found += [encoded(image.convert("P"), "GIF", transparency=1), encoded(image.convert("L"), "PNG", transparency=9)]
    found += [heif_files.heic(1, 2), heif_files.heic(2, 1, transfer=16), heif_files.avif(1, 2, transfer=18)]
    found += [heif_files.avif(2, 1), *_tiffs(), *_pngs()]
    return found


def _tiffs() -> list[bytes]:
    grey, plane = bytes(range(SIDE)) * SIDE, bytes(SIDE * SIDE)
    three, four = {258: ("H", [8] * 3), 262: ("H", [2]), 277: ("H", [3])}, {258: ("H", [8, 8]), 277: ("H", [2])}
    return [
        tiff(SIDE, SIDE, {258: ("H", [8]), 262: ("H", [0])}, [grey]),
        tiff(SIDE, SIDE, {258: ("H", [16]), 262: ("H", [0]), 274: ("H", [8])}, [grey * 2]),
        tiff(SIDE, SIDE, {258: ("H", [12]), 262: ("H", [1])}, [grey + plane]),
        tiff(SIDE, SIDE, {**four, 262: ("H", [1]), 338: ("H", [1])}, [grey * 2]),
        tiff(SIDE, SIDE, {**three, 284: ("H", [2])}, [grey, plane, grey]),
        tiff(SIDE, SIDE, three, [grey * 3], sub={262: ("H", [32803]), 259: ("H", [1])}),
    ]


def _pngs() -> list[bytes]:
    """Of 4 and 16 bits, with a transparent colour; interlaced; and with a chunk for HDR."""

    def rows(size: int) -> bytes:
        return zlib.compress(b"".join(b"\0" + bytes(range(size)) for _ in range(SIDE)))

    return [
        PNG_HEAD + chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, depth, kind, 0, 0, interlaced))
        + more + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
        for depth, kind, interlaced, more, pixels in [
            (4, 0, 0, chunk(b"tRNS", b"\0\3"), rows(SIDE // 2)),
            (16, 2, 0, chunk(b"tRNS", b"\0\1\2\3\4\5") + chunk(b"cICP", b"\x09\x10\0\1"), rows(6 * SIDE)),
            (16, 0, 0, chunk(b"tRNS", b"\0\1"), rows(2 * SIDE)),
            (8, 2, 1, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 4\n4d4d002azz\n")),
             zlib.compress(bytes(4 * SIDE * SIDE))),
        ]
    ]  # fmt: skip


def with_sums(content: bytes) -> bytes:
    """A PNG whose checksums are right again, so that damage reaches what is behind them."""
    found, at = content[:8], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if at + 12 + size > len(content):
            break
        found += chunk(content[at + 4 : at + 8], content[at + 8 : at + 8 + size])
        at += 12 + size
    return found + content[at:]


class Change(NamedTuple):
    """One piece of damage: what is done, where, and with which bytes."""

    kind: str
    at: int
    piece: bytes
    length: int


KINDS = ("set", "set", "set", "set", "insert", "delete", "repeat", "cut", "splice", "set")
PIECES = [struct.pack(form, number) for number in NUMBERS for form in ("B", "<H", ">H", "<I", ">I")
          if number < 256 ** struct.calcsize(form)]  # fmt: skip
CHANGE_BYTES = 6


def changes(plan: bytes) -> list[Change]:
    """The damage that `plan` stands for: drawing bytes is several times quicker than drawing each of these."""
    found = []
    for start in range(0, len(plan) - CHANGE_BYTES + 1, CHANGE_BYTES):
        kind, near, high, low, piece, length = plan[start : start + CHANGE_BYTES]
        at = low if near < 128 else high * 256 + low  # heads are worth more than pixels
        pieces = PIECES[piece % len(PIECES)] if near % 4 else bytes([piece, length])
        found.append(Change(KINDS[kind % len(KINDS)], at, pieces, length))
    return found


def changed(content: bytes, change: Change) -> bytes:
    at = change.at % (len(content) + 1)
    if change.kind == "set":
        return content[:at] + change.piece + content[at + len(change.piece) :]
    if change.kind == "insert":
        return content[:at] + change.piece + content[at:]
    if change.kind == "delete":
        return content[:at] + content[at + change.length :]
    if change.kind == "repeat":
        return content[: at + change.length] + content[at:]
    if change.kind == "cut":
        return content[:at]
    other = files()[change.length % len(files())]
    return content[:at] + other[min(at, len(other)) :]


def _damaged(number: int, plan: bytes, sums: bool) -> bytes:
    content = files()[number % len(files())]
    for change in changes(plan):
        content = changed(content, change)
    return with_sums(content) if sums and content.startswith(PNG_HEAD) else content


HEADS = (b"\xff\xd8\xff\xe0", PNG_HEAD, b"II*\0\x08\0\0\0", b"BM", b"GIF89a", b"\0\0\0\x18ftypmif1",
         b"\0\0\0\x18ftypavif", b"RIFF\xff\0\0\0WEBPVP8 ", b"")  # fmt: skip


def _photo(plan: Plan) -> Photo:
    name = plan.text(12) if plan.rarely(4) else plan.one_of(NAMES)
    if plan.rarely(4):
        return Photo(plan.one_of(HEADS) + plan.some_bytes(200), name)
    number, sums = plan.number(256), plan.number(2) == 1
    return Photo(_damaged(number, plan.bytes(CHANGE_BYTES * plan.number(6)), sums), name)


DATA = made_by(_photo, 128)


def check(photo: Photo) -> None:
    """One execution."""
    try:
        facts = photos.inspect(photo.content, photo.name)
    except DataProblem as problem:
        _check_sentence(problem)
        try:
            photos.open_rgb(photo.content)
        except DataProblem as again:
            _check_sentence(again)
        return
    size = (facts.width, facts.height)
    assert photos.size_of(photo.content) == size
    seen = photos.open_rgb(photo.content)
    assert (seen.mode, seen.size) == ("RGB", size)
    thumb = scratch.folder() / "thumb.jpg"
    photos.write_thumb(photo.content, thumb, 64)
    Image.open(io.BytesIO(thumb.read_bytes())).load()


def _check_sentence(problem: DataProblem) -> None:
    words = problem.message
    assert words.endswith(".")
    assert len(words) < 300
    assert words.isprintable()
