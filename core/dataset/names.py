"""File names of uploads, made safe for every file system."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from pathlib import PurePosixPath

CHARACTERS_AT_MOST = 120
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}


def clean(name: str, extension: str) -> str:
    """`name` in NFC without folders, control and bidirectional characters, and characters that some system forbids.

    The suffix becomes `.extension` unless it is an equivalent one. At most 120 characters and 240 bytes.
    """
    text = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    # Cc control, Cf formatting (bidirectional marks, zero width), Cs surrogates, Zl and Zp line and paragraph breaks
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
    text = "".join("_" if c in '<>:"|?*' else c for c in text)
    text = " ".join(text.split())
    stem = text[: -len(ending)] if (ending := PurePosixPath(text).suffix) else text
    stem = stem.strip(" .") or "photo"
    if stem.casefold() in _RESERVED:
        stem = f"{stem}_"
    kept = ending if ending.lower() in _endings(extension) else f".{extension}"
    return _shortened(stem, kept) + kept


def free(name: str, taken: Collection[str]) -> str:
    """`name`, or with " (2)", " (3)" ... when it is taken; case-insensitive."""
    used = {other.casefold() for other in taken}
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, dot + ending) if stem else (name, "")
    number, candidate = 1, name
    while candidate.casefold() in used:
        number += 1
        tail = f" ({number}){ending}"
        candidate = _shortened(stem, tail) + tail
    return candidate


def _endings(extension: str) -> set[str]:
    more = {"jpg": {"jpeg", "jpe", "jfif"}, "tif": {"tiff"}, "heic": {"heif", "hif"}}
    return {f".{each}" for each in {extension} | more.get(extension, set())}


def _shortened(stem: str, tail: str) -> str:
    """As much of `stem` as fits before `tail`, in characters and in bytes (file systems allow 255)."""
    stem = stem[: CHARACTERS_AT_MOST - len(tail)]
    while len((stem + tail).encode()) > 240:
        stem = stem[:-1]
    return stem.rstrip()
