"""Reading of photos as people see them, with a clear message for each that cannot be read.

    bytes -> inspect -> PhotoFacts (size as seen, format by content, warnings)          the original is never changed
    file  -> open_rgb -> RGB picture: upright, in sRGB, on white where it was transparent, 8 bit

Pillow only: the web process imports this for uploads. Sizes are checked before anything is decoded, and the threads of
a process share a budget of pixels, so that a dozen photos at once need no more memory than one.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from warnings import filterwarnings

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from core import files
from core.dataset import colour, decode_cost, formats, frames, hdr
from core.dataset.formats import ALIASES, EXTENSIONS, RAW_EXTENSIONS
from core.dataset.heif_boxes import CodePoints
from core.dataset.pixel_budget import PixelBudget
from core.device import malloc
from core.errors import DataProblem

BYTES_AT_MOST = 64 * 2**20
PIXELS_AT_MOST = 100_000_000
WEBP_PIXELS_AT_MOST = 40_000_000  # of photos that the studio is given
WEBP_COST = 4  # Pillow's decoder of WebP holds a pixel in 16 bytes; the others, in 4
SIDE_AT_MOST_PX = 20_000
SIDE_AT_LEAST_PX = 16
SMALL_SIDE_PX = 256
SHOWN_EXTENSION = 20  # characters of a file's ending in a sentence
SUFFIXES = frozenset(f".{name}" for name in [*EXTENSIONS.values(), *ALIASES])
"""Suffixes of files that count as photos when a folder is read."""

MASK_ENDINGS = (".mask.png", "-masklabel.png")
"""Names of masks that lie beside their photos (mask_files.py); they are no photos."""

BUDGET = PixelBudget(PIXELS_AT_MOST)
TRIM_FROM_PIXELS = 10**6  # after a photo of this many, freed memory is given back to the system

_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F"}
_ORIENTATION = 0x0112  # in EXIF; TIFF files are turned by Pillow itself
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF_BITS, _TIFF_PLANAR = 258, 284

# `_opened` checks sizes before decoding, with a message; Pillow's own limit would warn or raise.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns of damaged EXIF data in photos that are readable otherwise; the terminal's user needs no such warning.
filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """What can be said about a photo without training on it. Width and height are as seen, after the orientation."""

    width: int
    height: int
    format: str  # Pillow's name, by content: "JPEG", "PNG", ...
    extension: str  # by content, without the dot
    frames: int = 1  # counted to core/dataset/frames.py's limit
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A photo whose header is read and whose sizes are judged."""

    image: Image.Image
    file: BinaryIO
    format: str
    code_points: CodePoints | None

    def decode(self) -> None:
        """Raises DataProblem."""
        with self.decoder_trouble_as_sentence():
            self.image.load()

    @contextmanager
    def decoder_trouble_as_sentence(self) -> Iterator[None]:
        """Turn whatever Pillow and its decoders raise into a DataProblem."""
        try:
            yield
        except Exception as error:  # decoders raise all kinds for damaged files
            raise formats.problem_of(error, self.format, self.file) from error


def inspect(source: Path | bytes, name: str | None = None, *, webp_pixels: int = PIXELS_AT_MOST) -> PhotoFacts:
    """Decode the photo once and tell what it is. `name` is what the user calls the file, for the extension check.

    A WebP can have `webp_pixels`: the studio, which shares the computer with its jobs, takes WEBP_PIXELS_AT_MOST.

    Raises DataProblem with a sentence: not an image, cut off, empty, too large, a format that is not read.
    """
    name = name if name is not None else source.name if isinstance(source, Path) else ""
    claimed = Path(name).suffix.lower().lstrip(".")
    with _opened(source) as photo:
        if photo.format == "TIFF" and claimed in RAW_EXTENSIONS:
            raise DataProblem(formats.RAW)
        _judge_webp(photo, webp_pixels)
        photo.decode()
        image = photo.image
        with photo.decoder_trouble_as_sentence():
            width, height = _size_as_seen(image)
            warnings = _warnings(photo, (width, height))
            count = frames.count(image, photo.file)
        if count > 1:
            warnings.insert(0, f"has {frames.spoken(count)} frames; the first one is used")
        extension = EXTENSIONS[photo.format]
        if claimed and ALIASES.get(claimed, claimed) != extension:
            words = f"is called .{claimed[:SHOWN_EXTENSION]} but is a {formats.spoken(photo.format)} file"
            warnings.insert(0, f"{words}; it is read as that")
    return PhotoFacts(width, height, photo.format, extension, count, warnings)


def size_of(source: Path | bytes) -> tuple[int, int]:
    """Width and height as seen, from the header alone. Raises DataProblem as `inspect` does, but for damage within."""
    with _opened(source) as photo:
        return _size_as_seen(photo.image)


def open_rgb(source: Path | bytes) -> Image.Image:
    """The photo as a person sees it: upright, first frame, sRGB, 8-bit RGB, transparent parts on white.

    Raises DataProblem as `inspect` does.
    """
    with _opened(source) as photo:
        photo.decode()
        with photo.decoder_trouble_as_sentence():
            return _upright(photo.image, colour.to_rgb(photo.image, colour.coding_of(photo.image, photo.code_points)))


def open_small_rgb(source: Path | bytes, side_px: int) -> Image.Image:
    """`open_rgb`, scaled down into a square of `side_px`; a JPEG is decoded at a fraction of its size, which is faster.

    Raises DataProblem as `inspect` does.
    """
    with _opened(source) as photo:
        image = photo.image
        with photo.decoder_trouble_as_sentence():
            image.draft("RGB", (2 * side_px, 2 * side_px))
        photo.decode()
        with photo.decoder_trouble_as_sentence():
            coding = colour.coding_of(image, photo.code_points)
            small = colour.to_rgb(image, coding, shrink=max(1, max(image.size) // (2 * side_px)))
            small = _upright(image, small)
    small.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return small


def write_thumb(source: Path | bytes, to: Path, side_px: int) -> None:
    """Write a JPEG that fits a square of `side_px`, upright, at `to`. Raises DataProblem, DiskProblem."""
    content = io.BytesIO()
    open_small_rgb(source, side_px).save(content, "JPEG", quality=85)
    files.write_bytes(to, content.getvalue())


def find(folder: Path) -> list[Path]:
    """The files in `folder` with suffixes of photos, by name, without masks, hidden files and subfolders.

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
    files_there = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    return [p for p in files_there if p.name[0] != "." and not p.name.lower().endswith(MASK_ENDINGS)]


@contextmanager
def _opened(source: Path | bytes) -> Iterator[_Opened]:
    """The photo, not yet decoded; its pixels count in the budget until the block ends.

    Raises DataProblem for what is not read, and sizes that are not taken.
    """
    _register_heic()
    try:
        file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    except FileNotFoundError:
        raise  # callers know the photo by its name, and say that it is gone
    except OSError as error:
        raise DataProblem(f"cannot be opened ({error.strerror}); check that you may read this file.") from error
    with file:
        size = file.seek(0, io.SEEK_END)
        if size == 0:
            raise DataProblem("is empty (0 bytes); it was probably not copied to the end.")
        if size > BYTES_AT_MOST:
            raise DataProblem(f"has {size / 2**20:.0f} MB; at most {BYTES_AT_MOST // 2**20} MB. Save it smaller.")
        photo = _header(source, file)
        pixels = photo.image.width * photo.image.height
        try:
            _judge(photo)
            with BUDGET.taken(pixels * (WEBP_COST if photo.format == "WEBP" else 1)):
                try:
                    yield photo
                finally:
                    photo.image.close()
                    if pixels >= TRIM_FROM_PIXELS:
                        malloc.release_freed_pages()
        finally:
            photo.image.close()


def _header(source: Path | bytes, file: BinaryIO) -> _Opened:
    """The photo with its header read. Raises DataProblem for what is not read."""
    file.seek(0)
    head = file.read(formats.HEAD_BYTES)
    name = formats.readable(head)
    if not name:
        raise formats.problem_of_unknown(head)
    if name == "HEIF" and name not in Image.OPEN:
        raise DataProblem("is a HEIC photo, and no HEIC reader is installed (pip install pi-heif); or save it as JPEG.")
    formats.refuse_early(file, head)
    try:
        image = _image(source, name)
        colour.scale_transparent_colour(image)
        name = str(image.format)
        return _Opened(image, file, name, hdr.code_points(name, file))
    except Exception as error:  # decoders raise all kinds for damaged files
        raise formats.problem_of(error, name, file) from error


def _image(source: Path | bytes, name: str) -> Image.Image:
    """As Pillow opens it; where it does not, raise what the decoder of the format that it begins like has to say."""
    names = [name] if name not in ("HEIF", "AVIF") else ["AVIF", "HEIF"]  # they share brands
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=names)
    except UnidentifiedImageError:
        with io.BytesIO(source if isinstance(source, bytes) else source.read_bytes()) as content:
            Image.OPEN[name][0](content, "")
        raise


def _judge(photo: _Opened) -> None:
    """Raise DataProblem for colours that are not read, or a size that is not taken."""
    image = photo.image
    if image.mode.split(";")[0] not in _MODES:
        raise DataProblem(f"has colours of a kind ({image.mode}) that is not read; save it as an sRGB JPEG or PNG.")
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_TIFF_PLANAR) == 2:
        bits = image.tag_v2.get(_TIFF_BITS, (8,))
        if isinstance(bits, tuple) and max(bits) > 8 and len(image.getbands()) > 1:
            raise DataProblem(
                f"is a TIFF file of {max(bits)} bits in separate planes, which is not supported; save it as PNG."
            )
    width, height = image.size
    if max(width, height) > SIDE_AT_MOST_PX or width * height > PIXELS_AT_MOST:
        raise DataProblem(
            f"has {width:,} x {height:,} px; at most {SIDE_AT_MOST_PX:,} px a side and "
            f"{PIXELS_AT_MOST // 10**6} million pixels. Save it smaller."
        )
    if min(width, height) < SIDE_AT_LEAST_PX:
        raise DataProblem(f"has {width} x {height} px; at least {SIDE_AT_LEAST_PX} px a side are needed.")


def _judge_webp(photo: _Opened, pixels: int) -> None:
    """Raise DataProblem for a WebP of more pixels, whose decoder takes much memory."""
    width, height = photo.image.size
    if photo.format == "WEBP" and width * height > pixels:
        raise DataProblem(
            f"has {width:,} x {height:,} px; a WebP can have {pixels // 10**6} million pixels here. Save it as JPEG, "
            "or smaller."
        )


def _warnings(photo: _Opened, size: tuple[int, int]) -> list[str]:
    image, warnings = photo.image, []
    if colour.has_alpha(image):
        warnings.append("has transparent parts; they are shown on white")
    if image.mode == "CMYK":
        warnings.append("has print colours (CMYK); they are converted to screen colours")
    if image.mode.startswith(("I", "F")):
        warnings.append("has more than 8 bits per pixel; it is read with 8")
    if photo.code_points is not None:
        warnings.append("has colours of high dynamic range (HDR); they are converted to those of an ordinary screen")
    if min(size) < SMALL_SIDE_PX:
        warnings.append(f"is small: {size[0]} x {size[1]} px; it will look soft when enlarged")
    return warnings


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How the photo has to be turned to be upright; None where it is, or the EXIF data is damaged."""
    if isinstance(image, TiffImageFile):
        return None
    try:
        return _TURNS.get(decode_cost.exif_of(image).get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  the EXIF data is damaged, the picture is not
        return None


def _upright(image: Image.Image, picture: Image.Image) -> Image.Image:
    """`picture`, made of `image`, turned as the EXIF data of `image` asks."""
    turn = _turn(image)
    return picture if turn is None else picture.transpose(turn)


def _size_as_seen(image: Image.Image) -> tuple[int, int]:
    across = (
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    )
    return (image.height, image.width) if _turn(image) in across else image.size


def _register_heic() -> None:
    if "HEIF" in Image.OPEN:
        return
    try:
        import pi_heif
    except ImportError:
        return
    pi_heif.register_heif_opener()
