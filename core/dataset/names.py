"""File names of uploads, made safe for every file system."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from pathlib import PurePosixPath

CHARACTERS_AT_MOST = 120
BYTES_AT_MOST = 240  # most file systems take 255
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}


def clean(name: str, extension: str) -> str:
    """`name` in NFC without folders, control and bidirectional characters, and characters that some system forbids.

    The suffix becomes `.extension` unless it is an equivalent one. At most 120 characters and 240 bytes.
    """
    text = "".join("_" if c in '<>:"|?*' else c for c in _plain(name))
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


def shown(name: str) -> str:
    """`name` as a sentence names it: in one line, without folders, and in the middle shortened when it is long."""
    text = _plain(name) or "photo"
    if len(text) <= CHARACTERS_AT_MOST:
        return text
    return f"{text[: CHARACTERS_AT_MOST - 20]}...{text[-16:]}"


def _plain(name: str) -> str:
    """In NFC and one line, without folders and what cannot be seen."""
    text = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    # Cc control, Cf formatting (bidirectional marks, zero width), Cs surrogates, Zl and Zp line and paragraph breaks
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
    return " ".join(text.split())


def _endings(extension: str) -> set[str]:
    more = {"jpg": {"jpeg", "jpe", "jfif"}, "tif": {"tiff"}, "heic": {"heif", "hif"}}
    return {f".{each}" for each in {extension} | more.get(extension, set())}


def _shortened(stem: str, tail: str) -> str:
    """As much of `stem` as fits before `tail`; file systems count bytes (255), people characters."""
    stem = stem[: max(CHARACTERS_AT_MOST - len(tail), 0)]
    while stem and len((stem + tail).encode()) > BYTES_AT_MOST:
        stem = stem[:-1]
    return stem.rstrip()
