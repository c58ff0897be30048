"""Photos whose pixels were read wrongly, each with the right ones: deep greys, profiles, transparency, HDR."""

from __future__ import annotations

import math
import struct
import zlib

import pytest
from PIL import Image, ImageCms

from core.dataset import hdr, photos
from core.errors import DataProblem
from tests.core import heif_files
from tests.core.photo_files import HEIGHT, PNG_HEAD, WIDTH, chunk, corners, png_with
from tests.core.subjects import encoded
from tests.core.tiff_files import tiff


def png_of(depth: int, colour_type: int, row: bytes, transparent: bytes) -> bytes:
    """A PNG of 16 equal rows, 16 px wide."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, depth, colour_type, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * 16))
    return PNG_HEAD + header + chunk(b"tRNS", transparent) + pixels + chunk(b"IEND", b"")


def grey_profile(gamma: float) -> bytes:
    """An ICC profile for greys with this gamma."""

    def fixed(number: float) -> bytes:
        return struct.pack(">i", round(number * 65536))

    white = fixed(0.9642) + fixed(1) + fixed(0.8249)
    parts = [
        (b"desc", b"desc\0\0\0\0\0\0\0\5grey\0".ljust(92, b"\0")),
        (b"wtpt", b"XYZ \0\0\0\0" + white),
        (b"kTRC", b"curv\0\0\0\0\0\0\0\1" + struct.pack(">Hxx", round(gamma * 256))),
    ]
    table, body = struct.pack(">I", 3), b""
    for kind, part in parts:
        table += kind + struct.pack(">II", 128 + 40 + len(body), len(part))
        body += part
    head = struct.pack(">I4sI4s4s4s", 168 + len(body), b"lcms", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    return head + bytes(12) + b"acsp" + bytes(28) + white + bytes(48) + table + body


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_turned_tiff_is_that_of_its_picture(orientation: int) -> None:
    content = encoded(corners(), "TIFF", tiffinfo={274: orientation})
    facts = photos.inspect(content)
    expected = (HEIGHT, WIDTH) if orientation > 4 else (WIDTH, HEIGHT)
    assert photos.size_of(content) == (facts.width, facts.height) == photos.open_rgb(content).size == expected


def test_planes_of_sixteen_bits_are_refused_and_of_eight_are_read() -> None:
    planes = [band.tobytes() for band in corners().split()]
    deep = [b"".join(struct.pack("<H", 257 * value) for value in plane) for plane in planes]

    def of_bits(bits: int, strips: list[bytes]) -> bytes:
        tags = {258: ("H", [bits] * 3), 262: ("H", [2]), 277: ("H", [3]), 284: ("H", [2])}
        return tiff(WIDTH, HEIGHT, tags, strips)

    with pytest.raises(DataProblem, match="16 bits in separate planes"):
        photos.inspect(of_bits(16, deep))
    assert photos.open_rgb(of_bits(8, planes)).tobytes() == corners().tobytes()


@pytest.mark.parametrize("strange", [math.inf, -math.inf, math.nan])
def test_one_pixel_that_is_no_number_leaves_the_others(strange: float) -> None:
    image = Image.linear_gradient("L").convert("F").point(lambda value: value * (1 / 255))
    plain = photos.open_rgb(encoded(image, "TIFF"))
    for at in ((0, 0), (3, 3)):
        damaged = image.copy()
        damaged.putpixel(at, strange)
        seen = photos.open_rgb(encoded(damaged, "TIFF"))
        assert seen.getpixel(at) == ((255, 255, 255) if strange == math.inf else (0, 0, 0))
        seen.putpixel(at, plain.getpixel(at) or 0)
        assert seen.tobytes() == plain.tobytes()


def test_a_small_picture_has_the_colours_that_the_photos_profile_means() -> None:
    """It is scaled before its colours are converted."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")  # red is green
    content = encoded(Image.new("RGB", (64, 48), (200, 30, 90)), icc_profile=swapped)
    whole = photos.open_rgb(content).getpixel((5, 5))
    assert whole == pytest.approx((30, 200, 90), abs=2)
    assert photos.open_small_rgb(content, 16).getpixel((5, 5)) == whole


def test_linear_grey_keeps_its_profile_beside_alpha() -> None:
    grey, profile = Image.new("L", (WIDTH, HEIGHT), 55), grey_profile(1.0)
    with_alpha = Image.merge("LA", [grey, Image.new("L", grey.size, 255)])
    for image, more in [(grey, {}), (with_alpha, {}), (grey, {"transparency": 9})]:
        assert photos.open_rgb(encoded(image, icc_profile=profile, **more)).getpixel((5, 5)) == (128, 128, 128)


@pytest.mark.parametrize(
    ("content", "other"),
    [
        (png_of(16, 0, struct.pack(">16H", *[40_000] * 8, *[257 * 90] * 8), struct.pack(">H", 40_000)), 90),
        (png_of(4, 0, b"\x77" * 4 + b"\x33" * 4, b"\0\7"), 51),
        (png_of(2, 0, b"\xaa" * 2 + b"\x55" * 2, b"\0\2"), 85),
        (png_of(16, 2, b"\x81\0" * 24 + b"\x22\0" * 24, b"\x81\0" * 3), 34),
        (png_of(8, 0, b"\x77" * 8 + b"\x33" * 8, b"\0\x77"), 51),
    ],
    ids=["16 bit", "4 bit", "2 bit", "16 bit colour", "8 bit"],
)
def test_the_transparent_colour_is_shown_on_white(content: bytes, other: int) -> None:
    seen = photos.open_rgb(content)
    assert (seen.getpixel((2, 2)), seen.getpixel((13, 2))) == ((255, 255, 255), (other,) * 3)


def test_deep_greys_of_tiff_are_scaled_by_their_bits_and_not_inverted() -> None:
    twelve = tiff(16, 16, {258: ("H", [12]), 262: ("H", [1])}, [bytes([0x80, 0x08, 0x00]) * 128])
    assert photos.open_rgb(twelve).getpixel((5, 5)) == (127, 127, 127)
    inverted = tiff(16, 16, {258: ("H", [16]), 262: ("H", [0])}, [struct.pack("<H", 257 * 55) * 256])
    assert photos.open_rgb(inverted).getpixel((5, 5)) == (200, 200, 200)


def pq_code(light: float) -> float:
    """SMPTE ST 2084: the code value, 0 to 1, of light in cd/m^2."""
    power = (light / 10_000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


@pytest.mark.parametrize(("light", "expected"), [(0, (0, 0)), (20.3, (87, 91)), (50.0, (133, 137)), (203, (226, 232)),
                                                 (1000, (250, 255)), (10_000, (253, 255))])  # fmt: skip
def test_hdr_greys_are_shown_as_a_screen_does(light: float, expected: tuple[int, int]) -> None:
    """20.3 cd/m^2 is a tenth of white: 0.1 of linear light, and 89 in sRGB."""
    grey = (round(255 * pq_code(light)),) * 3
    contents = [heif_files.avif(1, 1, transfer=hdr.PQ, colour=grey)]
    contents += [png_with(chunk(b"cICP", bytes([9, hdr.PQ, 0, 1])), Image.new("RGB", (32, 32), grey))]
    for content in contents:
        seen = photos.open_rgb(content).getpixel((20, 20))
        assert isinstance(seen, tuple)
        assert max(seen) - min(seen) <= 2
        assert expected[0] - 2 <= seen[1] <= expected[1] + 2
        assert any("HDR" in warning for warning in photos.inspect(content).warnings)


def test_hlg_is_tone_mapped_and_keeps_its_hue() -> None:
    """In HLG 0.75 is white and 0.5 is 50.7 cd/m^2, 137 in sRGB; a green of BT.2020 stays green."""
    for code, (least, most) in [(0.5, (132, 142)), (0.75, (222, 238)), (1.0, (252, 255))]:
        seen = photos.open_rgb(heif_files.avif(1, 1, transfer=hdr.HLG, colour=(round(255 * code),) * 3)).getpixel(
            (9, 9)
        )
        assert isinstance(seen, tuple)
        assert least <= seen[1] <= most
    red, green, blue = hdr.to_srgb(Image.new("RGB", (1, 1), (60, 160, 60)), hdr.CodePoints(9, hdr.HLG)).getpixel((0, 0))
    assert green > 2 * max(red, blue)


def test_hdr_of_a_heic_comes_from_its_own_box() -> None:
    plain, bright = (photos.open_rgb(heif_files.heic(1, 1, transfer=each)).getpixel((50, 8)) for each in (0, hdr.PQ))
    assert plain == (201, 60, 40)
    assert bright != plain
