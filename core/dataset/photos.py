"""Reading of photos as people see them, with a clear message for each that cannot be read.

    bytes -> inspect -> PhotoFacts (upright size, format by content, warnings)          the original is never changed
    file  -> open_rgb -> RGB picture: upright, sRGB, 8 bit, on white where it was transparent

Pillow only: the web process uses this for uploads. Sizes are checked before decoding.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from warnings import filterwarnings

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from core import files
from core.errors import DataProblem

BYTES_AT_MOST = 64 * 2**20
PIXELS_AT_MOST = 100_000_000
SIDE_AT_MOST_PX = 20_000
SIDE_AT_LEAST_PX = 16
SMALL_SIDE_PX = 256

EXTENSIONS = {
    "JPEG": "jpg",
    "MPO": "jpg",  # what some phones write: a JPEG with more pictures behind the first
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "HEIF": "heic",
    "AVIF": "avif",
}
_ALIASES = {"jpeg": "jpg", "jpe": "jpg", "jfif": "jpg", "tiff": "tif", "heif": "heic", "hif": "heic", "apng": "png"}
SUFFIXES = frozenset(f".{name}" for name in [*EXTENSIONS.values(), *_ALIASES])
"""Suffixes of files that count as photos when a folder is read."""

_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F"}

# What Pillow's decoders raise on damaged files.
_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, RuntimeError, TypeError, OverflowError,
    struct.error, zlib.error,
)  # fmt: skip

# `_opened` checks sizes before decoding, with a message; Pillow's own limit would warn or raise.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns of damaged EXIF data in photos that are readable otherwise; the terminal's user needs no such warning.
filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """Format, size and warnings of a photo; width and height are those of the upright photo."""

    width: int
    height: int
    format: str  # Pillow's name, by content: "JPEG", "PNG", ...
    extension: str  # by content, without the dot
    frames: int = 1
    warnings: list[str] = field(default_factory=list)


def inspect(source: Path | bytes, name: str | None = None) -> PhotoFacts:
    """Decode the photo once and describe it; `name` is the user's file name, to check its suffix.

    Raises DataProblem: not an image, cut off, empty, too large, or an unsupported format.
    """
    name = name if name is not None else source.name if isinstance(source, Path) else ""
    image = _opened(source)
    with image:
        _decode(image)
        frames = _frames(image)
        width, height = _upright_size(image)
        extension = EXTENSIONS[str(image.format)]
        warnings = []
        claimed = Path(name).suffix.lower().lstrip(".")
        if claimed and _ALIASES.get(claimed, claimed) != extension:
            warnings.append(
                f"is called .{claimed} but is a {_display_name(str(image.format))} file; it is read as that"
            )
        if frames > 1:
            warnings.append(f"has {frames} frames; the first one is used")
        if _has_alpha(image):
            warnings.append("has transparent parts; they are shown on white")
        if image.mode == "CMYK":
            warnings.append("has print colours (CMYK); they are converted to screen colours")
        if image.mode.startswith(("I", "F")):
            warnings.append("has more than 8 bits per pixel; it is read with 8")
        if min(width, height) < SMALL_SIDE_PX:
            warnings.append(f"is small: {width} x {height} px; it will look soft when enlarged")
    return PhotoFacts(width, height, str(image.format), extension, frames, warnings)


def size_of(source: Path | bytes) -> tuple[int, int]:
    """Upright width and height, from the header alone. Raises DataProblem as `inspect` does, but not for damage."""
    image = _opened(source)
    with image:
        return _upright_size(image)


def open_rgb(source: Path | bytes) -> Image.Image:
    """The photo upright, first frame, sRGB, 8-bit RGB, transparent parts on white.

    Raises DataProblem as `inspect` does.
    """
    image = _opened(source)
    with image:
        _decode(image)
        return _as_rgb(_upright(image))


def write_thumb(source: Path | bytes, to: Path, side_px: int) -> None:
    """Write a JPEG that fits a square of `side_px`, upright, at `to`. Raises DataProblem, DiskProblem."""
    image = _opened(source)
    with image:
        image.draft(
            "RGB", (2 * side_px, 2 * side_px)
        )  # a JPEG can be decoded at a fraction of its size, several times faster
        _decode(image)
        small = _upright(image)
        if small.mode in ("RGB", "L", "CMYK"):
            small.thumbnail((2 * side_px, 2 * side_px), Image.Resampling.BOX)
        small = _as_rgb(small)
    small.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "JPEG", quality=85)
    files.write_bytes(to, content.getvalue())


def find(folder: Path) -> list[Path]:
    """The files in `folder` with suffixes of photos, by name, without hidden files and subfolders.

    Raises DataProblem when the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise DataProblem(f"{folder} is not a folder; give the folder that your photos are in.")
    found = _photos_in(folder)
    if not found:
        below = [each.name for each in sorted(folder.iterdir()) if each.is_dir() and _photos_in(each)]
        words = "put JPEG, PNG, WebP or HEIC files there"
        if below:
            words = f"subfolders are not read, so name one of those that have photos: {', '.join(below[:5])}"
        raise DataProblem(f"{folder} has no photos in it; {words}.")
    return found


def _photos_in(folder: Path) -> list[Path]:
    if not os.access(folder, os.R_OK | os.X_OK):
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != ".")


def _opened(source: Path | bytes) -> Image.Image:
    """The photo with its header read and its size checked, not yet decoded."""
    _register_heic()
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size == 0:
        raise DataProblem("is empty (0 bytes); it was probably not copied to the end.")
    if size > BYTES_AT_MOST:
        raise DataProblem(f"has {size / 2**20:.0f} MB; at most {BYTES_AT_MOST // 2**20} MB. Save it smaller.")
    handle = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        image = Image.open(handle)
    except UnidentifiedImageError:
        head = source[:64] if isinstance(source, bytes) else _head(source)
        raise DataProblem(_why_unknown(head)) from None
    except _DAMAGED as error:
        raise _damage(error) from error
    try:
        _check(image)
    except DataProblem:
        image.close()
        raise
    return image


def _check(image: Image.Image) -> None:
    """Raise DataProblem for an unsupported format, colour mode or size."""
    if image.format not in EXTENSIONS:
        raise DataProblem(f"is a {image.format} file, which is not read; save it as JPEG or PNG.")
    if image.mode.split(";")[0] not in _MODES:
        raise DataProblem(f"has colours of a kind ({image.mode}) that is not read; save it as an sRGB JPEG or PNG.")
    width, height = image.size
    if max(width, height) > SIDE_AT_MOST_PX or width * height > PIXELS_AT_MOST:
        raise DataProblem(
            f"has {width:,} x {height:,} px; at most {SIDE_AT_MOST_PX:,} px a side and "
            f"{PIXELS_AT_MOST // 10**6} million pixels. Save it smaller."
        )
    if min(width, height) < SIDE_AT_LEAST_PX:
        raise DataProblem(f"has {width} x {height} px; at least {SIDE_AT_LEAST_PX} px a side are needed.")


def _decode(image: Image.Image) -> None:
    try:
        image.load()
    except _DAMAGED as error:
        raise _damage(error) from error


def _frames(image: Image.Image) -> int:
    if image.format == "MPO":
        return 1  # the further pictures are the phone's own, such as depth
    try:
        return int(getattr(image, "n_frames", 1))
    except _DAMAGED:
        return 1


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGED:
        return image  # the EXIF data is damaged, the picture is not


def _upright_size(image: Image.Image) -> tuple[int, int]:
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if turned else image.size


def _has_alpha(image: Image.Image) -> bool:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        low, _ = _extremes(image.getchannel(image.mode[-1]))
        return low < 255
    return "transparency" in image.info


def _as_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = _eight_bit(image)
    if image.mode not in ("RGB", "RGBA", "CMYK", "L"):
        image = image.convert("RGBA" if image.mode in ("LA", "PA", "RGBa", "La") or _has_alpha(image) else "RGB")
    elif image.mode in ("RGB", "L") and "transparency" in image.info:
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if profile:
        image = _to_srgb(image.convert("RGB") if alpha else image, profile)
    colours = image.convert("RGB")
    if alpha is None:
        return colours
    on_white = Image.new("RGB", image.size, "white")
    on_white.paste(colours, mask=alpha)
    return on_white


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Colours converted by the profile; an unusable profile is ignored, as in browsers."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError):
        return image
    return converted if converted is not None else image


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit and float greys scaled to 0..255; Pillow's own conversion would clip them to white."""
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    low, high = _extremes(image)
    full = next((top for top in (1.0, 255.0, 65535.0) if high <= top and low >= 0), float(high) or 1.0)
    if image.mode == "I" and full == 1.0:
        full = 255.0
    return image.convert("F").point(lambda value: value * (255.0 / full)).convert("L")


def _extremes(image: Image.Image) -> tuple[float, float]:
    """The least and the greatest value of a picture with one channel."""
    low, high = image.getextrema()
    if isinstance(low, tuple) or isinstance(high, tuple):
        raise ValueError(f"a picture of mode {image.mode} has several channels")
    return low, high


def _register_heic() -> None:
    if "HEIF" in Image.OPEN:
        return
    try:
        import pi_heif
    except ImportError:
        return
    pi_heif.register_heif_opener()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _why_unknown(head: bytes) -> str:
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis"):
        return "is a HEIC photo, and no HEIC reader is installed (pip install pi-heif); or save it as JPEG."
    kinds = {
        b"%PDF": "a PDF document",
        b"PK\x03\x04": "a zip archive",
        b"8BPS": "a Photoshop file",
        b"<svg": "an SVG drawing",
        b"<?xm": "an XML file",
        b"\x1aE\xdf\xa3": "a video",
    }
    kind = kinds.get(head[:4], "a video" if head[4:8] == b"ftyp" else "")
    what = f"is {kind}, not a photo" if kind else "is not an image, or its beginning is missing"
    return f"{what}; JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC are read."


def _display_name(format_name: str) -> str:
    return {"MPO": "JPEG", "HEIF": "HEIC", "WEBP": "WebP"}.get(format_name, format_name)


def _damage(error: BaseException) -> DataProblem:
    if isinstance(error, EOFError) or "truncated" in str(error).lower():
        return DataProblem("is cut off: the end of the file is missing; copy it again.")
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return DataProblem(f"is damaged and cannot be read ({reason}); copy it again.")
