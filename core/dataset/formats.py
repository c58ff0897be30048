"""What a file is, by its first bytes and its damage: the sentences for files that are no photo that is read.

The name of a file says what its owner took it for, its content what it is. A format that is merely not supported is
named, and never called damaged.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from core.dataset import decode_cost, heif_boxes, tiff_tags
from core.errors import DataProblem

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
ALIASES = {"jpeg": "jpg", "jpe": "jpg", "jfif": "jpg", "tiff": "tif", "heif": "heic", "hif": "heic", "apng": "png"}
RAW_EXTENSIONS = {"3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "gpr", "iiq", "kdc", "mef", "mos",
                  "mrw", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw",
                  "x3f"}  # fmt: skip
READ = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC are read"
RAW = "is a camera raw file; export it as JPEG."
CUT_OFF = "is cut off: the end of the file is missing; copy it again."
HEAD_BYTES = 512

HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
OTHER_HEIF_BRANDS = {b"mif2", b"mif3", b"miaf", b"avci", b"avcs", b"j2ki", b"j2is", b"jpeg", b"jpgs", b"vvic", b"vvis",
                     b"evbi", b"evmi", b"unif", b"1pic", b"MA1A", b"MA1B", b"tmap", b"MiHE", b"MiHB"}  # fmt: skip

_READ_HEADS = [
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    *((head, "TIFF") for head in tiff_tags.HEADS),
]
_RAW_HEADS = (b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
_UNSUPPORTED_HEADS = [
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xffO\xffQ", "JPEG 2000"),
    (b"II\xbc", "JPEG XR"),
    (b"8BPS", "Photoshop"),
    (b"gimp xcf", "GIMP"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"%!PS", "PostScript (EPS)"),
    (b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (b"\0\0\1\0", "Windows icon (ICO)"),
    (b"\0\0\2\0", "Windows cursor (CUR)"),
    (b"icns", "Apple icon (ICNS)"),
    (b"DDS ", "DirectDraw (DDS)"),
    (b"qoif", "QOI"),
    (b"SIMPLE  =", "FITS"),
    (b"FLIF", "FLIF"),
    (b"BPG\xfb", "BPG"),
    (b"\xd7\xcd\xc6\x9a", "Windows metafile (WMF)"),
    (b"\x8aMNG", "MNG"),
    (b"\x8bJNG", "JNG"),
    (b"AT&TFORM", "DjVu"),
]
_OTHER_HEADS = [
    (b"%PDF", "a PDF document"),
    (b"PK\3\4", "a zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"FLV\1", "a video"),
    (b"\0\0\1\xba", "a video"),
    (b"0&\xb2u", "a video"),
    (b"ID3", "a sound file"),
    (b"OggS", "a sound or video file"),
    (b"fLaC", "a sound file"),
]
_UNSUPPORTED_WORDS = re.compile(
    r"unsupported|not (yet )?(supported|implemented)|cannot handle|unknown (?!error)|no codec", re.IGNORECASE
)


def spoken(format_name: str) -> str:
    """Pillow's name of a format as people write it."""
    return {"MPO": "JPEG", "HEIF": "HEIC", "WEBP": "WebP"}.get(format_name, format_name)


def readable(head: bytes) -> str:
    """Pillow's name of the format that a file begins like, "" where it is none that is read."""
    if head[4:8] == b"ftyp":
        return "HEIF" if head[8:12] in HEIC_BRANDS else "AVIF" if head[8:12] in AVIF_BRANDS else ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return next((name for start, name in _READ_HEADS if head.startswith(start)), "")


def refuse_early(file: BinaryIO, head: bytes) -> None:
    """Raise DataProblem for files that Pillow would read, but not as the photo that they are."""
    name = readable(head)
    if name == "TIFF" and tiff_tags.is_raw(file):
        raise DataProblem(RAW)
    if name in ("HEIF", "AVIF") and heif_boxes.is_cut_off(file):
        raise DataProblem(CUT_OFF)
    if crowd := decode_cost.too_many(name, file):
        raise DataProblem(f"is a {spoken(name)} file with {crowd}; save it {'again' if name == 'PNG' else 'as PNG'}.")


def problem_of_unknown(head: bytes) -> DataProblem:
    """For a file that begins like no format that is read."""
    if head.startswith(_RAW_HEADS) or head[4:12] == b"ftypcrx ":
        return DataProblem(RAW)
    if head[4:8] == b"ftyp":
        return _problem_of_brand(head)
    for start, name in _UNSUPPORTED_HEADS:
        if head.startswith(start):
            return _unsupported(f"is a {name} file")
    kind = next((words for start, words in _OTHER_HEADS if head.startswith(start)), "")
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WAVE"):
        kind = "a video" if head[8:12] == b"AVI " else "a sound file"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        kind = "an SVG drawing"
    elif text.startswith((b"<?xml", b"<!doctype", b"<html")):
        kind = "a web page" if b"html" in text else "an XML file"
    what = f"is {kind}, not a photo" if kind else "is not an image, or its beginning is missing"
    return DataProblem(f"{what}; {READ}.")


def problem_of(error: BaseException, format_name: str, file: BinaryIO) -> DataProblem:
    """For what a decoder of `format_name` raised: cut off, not supported, or damaged."""
    reason = (str(error).splitlines() or [""])[0][:120].strip() or type(error).__name__
    spoken_name = spoken(format_name)
    if isinstance(error, MemoryError):
        return DataProblem("needs more memory than is free; close other programs, or save it smaller.")
    if isinstance(error, EOFError) or re.search(r"truncated|unexpected end", str(error), re.IGNORECASE):
        return DataProblem(CUT_OFF)
    if format_name == "TIFF" and tiff_tags.ends_early(file):
        return DataProblem(CUT_OFF)
    if format_name == "JPEG" and (kind := _unsupported_jpeg(file)):
        return _unsupported(f"is a {kind} JPEG file", "an ordinary 8-bit JPEG or PNG")
    if _UNSUPPORTED_WORDS.search(str(error)) or (format_name == "TIFF" and isinstance(error, KeyError)):
        return _unsupported(f"is a {spoken_name} file of a kind ({reason})")
    return DataProblem(f"is damaged and cannot be read as {spoken_name} ({reason}); copy it again.")


def _unsupported(what: str, instead: str = "JPEG or PNG") -> DataProblem:
    which = " that" if what.endswith(")") else ", which"
    return DataProblem(f"{what}{which} is not supported; save it as {instead}.")


def _problem_of_brand(head: bytes) -> DataProblem:
    """For a file of ISO boxes: HEIF, video and others, as its brands say."""
    size = int.from_bytes(head[:4], "big")
    brand = head[8:12]
    brands = {head[at : at + 4] for at in (8, *range(16, min(size, len(head)), 4))}
    shown = "".join(chr(each) if 32 <= each < 127 else "?" for each in brand).strip()
    if brand in (b"jp2 ", b"jpx "):
        return _unsupported("is a JPEG 2000 file")
    if brands & (HEIC_BRANDS | AVIF_BRANDS | OTHER_HEIF_BRANDS):
        return _unsupported(f"is a HEIF file of the brand “{shown}”")
    if brand in (b"M4A ", b"M4B "):
        return DataProblem(f"is a sound file, not a photo; {READ}.")
    return DataProblem(f"is a video, not a photo; {READ}.")


def _unsupported_jpeg(file: BinaryIO) -> str:
    """What is unusual about a JPEG file's coding; "" when it is an ordinary one."""
    file.seek(2)
    for _ in range(1000):
        marker = file.read(2)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] == 0xDA:
            return ""
        body = int.from_bytes(file.read(2), "big") - 2
        if marker[1] in range(0xC0, 0xD0) and marker[1] not in (0xC4, 0xC8, 0xCC):
            bits = (file.read(1) or b"\x08")[0]
            kind = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical"}
            return f"{bits}-bit" if bits != 8 else kind.get(marker[1], "arithmetic-coded" if marker[1] > 0xC8 else "")
        if marker[1] == 0xF7:
            return "JPEG-LS"
        file.seek(max(body, 0), 1)
    return ""
