"""From what a photo's file holds to 8-bit sRGB on white, as a browser shows it.

    greys of 12, 16 or 32 bits  ->  8 bits  ->  transparent parts apart  ->  the profile's or HDR colours  ->  on white

All of it is done pixel by pixel, so a large photo is converted in strips, and there is no second large copy of it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageCms, ImageMath, ImageOps
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from core.dataset import hdr
from core.dataset.heif_boxes import CodePoints

STRIP_PIXELS = 4 * 2**20
ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262
LARGEST_FLOAT = 3.4e38  # of 32 bits, nearly


@dataclass(frozen=True, slots=True)
class Coding:
    """What has to be known of the whole photo to convert a part of it."""

    white: float = 255.0  # of greys with more than 8 bits: the value that becomes 255
    inverted: bool = False  # such greys from white to black, as some TIFF files have them
    hdr: CodePoints | None = None


def coding_of(image: Image.Image, code_points: CodePoints | None = None) -> Coding:
    """Of a decoded photo, as it came from its file."""
    deep = image.mode.startswith(("I", "F"))
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    if not deep:
        return Coding(hdr=code_points)
    if image.mode.startswith("I;16"):
        bits = tags.get(TIFF_BITS, (16,))
        white = 2.0 ** (bits[0] if isinstance(bits, tuple) and 8 < bits[0] < 16 else 16) - 1
    else:
        low, high = _range(_finite(image)) if image.mode == "F" else _range(image)
        full = next((top for top in (1.0, 255.0, 65535.0) if high <= top and low >= 0), float(high) or 1.0)
        white = 255.0 if image.mode == "I" and full == 1.0 else full
    return Coding(white, tags.get(TIFF_PHOTOMETRIC) == 0, code_points)


def to_rgb(image: Image.Image, coding: Coding, shrink: int = 1) -> Image.Image:
    """The photo as 8-bit sRGB on white, and `shrink` times smaller."""
    width, height = image.size
    if width * height <= STRIP_PIXELS:
        picture = _strip_to_rgb(image, coding)
        return picture.reduce(shrink) if shrink > 1 else picture
    picture = Image.new("RGB", (-(-width // shrink), -(-height // shrink)))
    for top, bottom in _strips(width, height, shrink):
        strip = _strip_to_rgb(image.crop((0, top, width, bottom)), coding)
        picture.paste(strip.reduce(shrink) if shrink > 1 else strip, (0, top // shrink))
    return picture


def has_alpha(image: Image.Image) -> bool:
    """Whether some part of a decoded photo is transparent."""
    if image.mode in ALPHA_MODES:
        return _range(image.getchannel(image.mode[-1]))[0] < 255
    return "transparency" in image.info


def scale_transparent_colour(image: Image.Image) -> None:
    """Give a PNG's transparent colour in the 8 bits that Pillow reads its pixels with; before it is decoded."""
    colour = image.info.get("transparency")
    form = image.tile[0].args if isinstance(image, PngImageFile) and image.tile else None
    if isinstance(colour, int) and form in ("L;2", "L;4"):
        image.info["transparency"] = colour * (85 if form == "L;2" else 17) & 255
    if isinstance(colour, tuple) and form == "RGB;16B":
        image.info["transparency"] = tuple(each >> 8 for each in colour)


def _strips(width: int, height: int, shrink: int) -> Iterator[tuple[int, int]]:
    """Top and bottom of each strip; the tops are multiples of `shrink`."""
    rows = max(STRIP_PIXELS // width // shrink, 1) * shrink
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def _strip_to_rgb(image: Image.Image, coding: Coding) -> Image.Image:
    profile = image.info.get("icc_profile")
    colours, alpha = _apart(image, coding)
    if coding.hdr is not None:
        colours = hdr.to_srgb(colours.convert("RGB"), coding.hdr)
    elif profile:
        colours = _through_profile(colours, profile, image.mode)
    colours = colours.convert("RGB")
    if alpha is None:
        return colours
    on_white = Image.new("RGB", image.size, "white")
    on_white.paste(colours, mask=alpha)
    return on_white


def _apart(image: Image.Image, coding: Coding) -> tuple[Image.Image, Image.Image | None]:
    """Colours in 8 bits (L, RGB or CMYK), and the alpha channel of a photo that has one."""
    if image.mode.startswith(("I", "F")):
        return _eight_bit(image, coding), _alpha_of_deep(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    elif "transparency" in image.info and image.mode in ("1", "L"):
        image = image.convert("LA")
    elif image.mode == "PA" or ("transparency" in image.info and image.mode in ("P", "RGB")):
        image = image.convert("RGBA")
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), image.getchannel("A")
    return image, None


def _through_profile(image: Image.Image, profile: bytes, mode: str) -> Image.Image:
    """Colours as the profile means them; a profile that cannot be used is left out, as browsers do."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image
    # A profile of RGB beside grey with alpha is against the rules, but seen.
    for each in (image, image.convert("RGB")) if mode in ("LA", "La", "1") else (image,):
        try:
            shown = ImageCms.profileToProfile(each, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            continue
        if shown is not None:
            return shown
    return image


def _eight_bit(image: Image.Image, coding: Coding) -> Image.Image:
    """Greys with more than 8 bits scaled to 0..255; Pillow's own conversion would clip them to white."""
    if image.mode.startswith("I;16"):
        grey = image.convert("I").point(lambda value: value * (255 / coding.white)).convert("L")
    else:
        finite = _finite(image, coding.white) if image.mode == "F" else image.convert("F")
        grey = finite.point(lambda value: value * (255.0 / coding.white)).convert("L")
    return ImageOps.invert(grey) if coding.inverted else grey


def _alpha_of_deep(image: Image.Image) -> Image.Image | None:
    """255 but where a 16-bit grey is the transparent one."""
    colour = image.info.get("transparency")
    if not isinstance(colour, int):
        return None
    same = ImageMath.lambda_eval(lambda given: (given["image"] == colour) * 255, image=image.convert("I"))
    return ImageChops.invert(same.convert("L"))


def _finite(image: Image.Image, white: float = 0.0) -> Image.Image:
    """Floating-point greys with `white` in place of infinite ones, and 0 in place of what is no number."""
    low, high = _range(image)
    if float("-inf") < low <= high < float("inf"):
        return image
    finite = ImageMath.lambda_eval(lambda given: ((given["image"] - given["image"]) == 0) * 255, image=image)
    infinite = ImageMath.lambda_eval(lambda given: (given["image"] > LARGEST_FLOAT) * 255, image=image)
    picture = Image.new("F", image.size, 0.0)
    picture.paste(image, mask=finite.convert("L").convert("1", dither=Image.Dither.NONE))
    picture.paste(white, mask=infinite.convert("L").convert("1", dither=Image.Dither.NONE))
    return picture


def _range(image: Image.Image) -> tuple[float, float]:
    """The least and the largest value of a picture of one channel."""
    low, high = image.getextrema()
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    return low, high
