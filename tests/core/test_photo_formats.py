"""Photos of every format are read or refused, whole or cut off, in a sentence that is true."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from core.dataset import photos
from core.dataset.examples import read_folder
from core.errors import DataProblem
from tests.core import heif_files
from tests.core.heif_files import box, full_box
from tests.core.photo_files import HEIGHT, NOT_HEX, NOT_TIFF, WIDTH, corners, png_with, raw_file
from tests.core.subjects import encoded, picture
from tests.core.tiff_files import tiff


def problem_of(content: bytes, name: str = "") -> str:
    with pytest.raises(DataProblem) as caught:
        photos.inspect(content, name)
    return caught.value.message


# ---- cut off ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [heif_files.heic, heif_files.avif])
def test_a_photo_of_tiles_is_whole_or_refused(make: object) -> None:
    assert callable(make)
    content = make(3, 4)
    assert photos.open_rgb(content).size == (192, 256)
    for percent in range(5, 100, 3):
        assert problem_of(content[: len(content) * percent // 100]).startswith("is cut off")
    assert problem_of(content[:-1]).startswith("is cut off")


def test_bytes_behind_a_whole_heic_do_no_harm() -> None:
    whole = heif_files.heic()
    for behind in (
        b"\0" * 3,
        b"SEFH" + bytes(40),
        box(b"mpvd", bytes(99)),
        struct.pack(">I", 9999) + b"sefd" + bytes(9),
    ):
        assert photos.inspect(whole + behind).frames == 1


# ---- exceptions of decoders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [NOT_HEX, NOT_TIFF], ids=["not hexadecimal", "not a TIFF header"])
def test_a_png_with_unreadable_exif_is_read(damaged: bytes) -> None:
    content = png_with(damaged)
    assert photos.size_of(content) == (photos.inspect(content).width, HEIGHT) == (WIDTH, HEIGHT)
    assert photos.open_rgb(content).tobytes() == corners().tobytes()


def test_a_grey_tiff_with_premultiplied_alpha_is_read(tmp_path: Path) -> None:
    grey = corners().convert("L")
    pixels = b"".join(bytes([value, 255]) for value in grey.tobytes())
    tags = {258: ("H", [8, 8]), 262: ("H", [1]), 277: ("H", [2]), 338: ("H", [1])}
    content = tiff(WIDTH, HEIGHT, tags, [pixels])
    photos.write_thumb(content, tmp_path / "thumb.jpg", 64)
    assert photos.open_rgb(content).tobytes() == grey.convert("RGB").tobytes()


def test_one_bad_file_does_not_cost_the_folder(tmp_path: Path) -> None:
    corners().save(tmp_path / "good.png")
    (tmp_path / "exif.png").write_bytes(png_with(NOT_TIFF, picture(1)))
    (tmp_path / "raw.tif").write_bytes(raw_file())
    broken = bytearray(encoded(picture(2), "GIF"))
    broken[10] ^= 0xFF
    (tmp_path / "broken.gif").write_bytes(bytes(broken[:30]))
    (tmp_path / "secret.jpg").write_bytes(encoded(picture(3), "JPEG"))
    (tmp_path / "secret.jpg").chmod(0)
    found, problems = read_folder(tmp_path, "sks", "can")
    readable = {"good.png", "exif.png"} | ({"secret.jpg"} if os.access(tmp_path / "secret.jpg", os.R_OK) else set())
    assert {each.name for each in found} == readable
    assert {each.field for each in problems} == {"raw.tif", "broken.gif", "secret.jpg"} - readable


@pytest.mark.parametrize(
    "content",
    [
        raw_file(),
        tiff(16, 16, {258: ("H", [8]), 262: ("H", [1]), 50706: ("B", [1, 4, 0, 0])}, [bytes(256)]),
        tiff(16, 16, {258: ("H", [8]), 262: ("H", [1])}, [bytes(256)], sub={259: ("H", [34713])}),
        b"II*\0\x10\0\0\0CR\2\0" + bytes(99),
        b"II*\0\x10\0\0\0IIII" + bytes(99),
        b"FUJIFILMCCD-RAW 0201" + bytes(99),
        b"IIU\0" + bytes(99),
        b"IIRO\x08\0\0\0" + bytes(99),
        b"FOVb" + bytes(99),
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(99),
    ],
    ids=["sensor data", "DNG", "NEF", "CR2", "IIQ", "RAF", "RW2", "ORF", "X3F", "CR3"],
)
def test_a_camera_raw_file_is_refused(content: bytes) -> None:
    for read in (photos.inspect, photos.size_of, photos.open_rgb):
        with pytest.raises(DataProblem, match=r"^is a camera raw file; export it as JPEG\.$"):
            read(content)


def test_a_tiff_that_is_called_raw_is_refused() -> None:
    content = encoded(corners(), "TIFF")
    assert "camera raw file" in problem_of(content, "DSC_1.NEF")
    assert photos.inspect(content, "scan.tif").format == "TIFF"


# ---- sentences -------------------------------------------------------------------------------------------------------


def brand(name: bytes, *others: bytes) -> bytes:
    return box(b"ftyp", name, bytes(4), *others) + full_box(b"meta", bytes(40)) + bytes(99)


def jpeg_of(marker: int, bits: int) -> bytes:
    content = bytearray(encoded(corners(), "JPEG"))
    at = content.index(b"\xff\xc0")
    content[at + 1], content[at + 4] = marker, bits
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\x0a" + bytes(99), "is a JPEG XL file, which is not supported; save it as JPEG or PNG."),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "is a JPEG XL file, which is not supported; save it as JPEG or PNG."),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "is a JPEG 2000 file, which is not supported"),
        (b"8BPS" + bytes(99), "is a Photoshop file, which is not supported"),
        (jpeg_of(0xC1, 12), "is a 12-bit JPEG file, which is not supported; save it as an ordinary 8-bit JPEG or PNG."),
        (jpeg_of(0xC7, 8), "is a hierarchical JPEG file, which is not supported"),
        (brand(b"avci", b"mif1"), "is a HEIF file of the brand “avci”, which is not supported"),
        (brand(b"mif2", b"heic"), "is a HEIF file of the brand “mif2”, which is not supported"),
        (brand(b"isom", b"mp42"), "is a video, not a photo"),
        (brand(b"qt  "), "is a video, not a photo"),
        (heif_files.avif()[:60], "is cut off"),
        (brand(b"heic", b"mif1"), "is damaged and cannot be read as HEIC"),
        (b'<?xml version="1.0"?><svg xmlns="">', "is an SVG drawing, not a photo"),
        (b"\x12\x34 nothing", "is not an image, or its beginning is missing"),
    ],
)
def test_the_sentence_is_true(content: bytes, sentence: str) -> None:
    words = problem_of(content)
    assert words.startswith(sentence)
    assert words.endswith(".")
    if "not supported" in words:
        assert "copy it again" not in words
        assert "damaged" not in words


def test_a_tiff_of_floats_in_colour_is_named() -> None:
    tags = {258: ("H", [32] * 3), 262: ("H", [2]), 277: ("H", [3]), 339: ("H", [3] * 3)}
    words = problem_of(tiff(16, 16, tags, [bytes(16 * 16 * 12)]))
    assert words.startswith("is a TIFF file of a kind (unknown pixel mode) that is not supported; save it as")
    assert problem_of(encoded(corners(), "TIFF", compression="tiff_lzw")[:9]).startswith("is cut off")


def test_a_long_ending_is_shown_short() -> None:
    facts = photos.inspect(encoded(corners()), "a." + "y" * 250)
    assert all(len(warning) < 120 for warning in facts.warnings)
