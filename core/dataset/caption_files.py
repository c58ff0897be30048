"""Which caption file belongs to which photo. The rule, for the photo `can/A.jpg`:

    1   can/A.txt              the photo's name without its ending
    2   can/A.jpg.txt          its whole name
    3   can/A.caption
    4   can/A.jpg.caption
    5   can/metadata.jsonl     a line {"file_name": "A.jpg", "text": "..."}; also of a folder above, with "can/A.jpg"

The first that is not blank counts. Folder and name are compared in Unicode's form NFC and without regard to case; where
files differ in case alone, the one spelled as the photo is comes first. Text is UTF-8, at most 2000 characters, read as
one line. A caption file without a photo, and one that another one goes before, is reported.

The browser follows the same table: static/js/project/caption_files.js. tests/caption_files.json holds cases that both
must pass.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from core.dataset.captions import CHARACTERS_AT_MOST
from core.errors import DataProblem, FieldProblem

ENDINGS = (".txt", ".caption")
METADATA = "metadata.jsonl"
BYTES_AT_MOST = 1_000_000  # of a caption file
METADATA_BYTES_AT_MOST = 64_000_000


class Caption(NamedTuple):
    """A photo's caption and where it comes from: ".txt", ".caption" or "metadata.jsonl"."""

    text: str
    source: str


@dataclass(slots=True)
class FolderCaptions:
    """What the caption files of a folder say, by the photo's file name."""

    captions: dict[str, Caption] = field(default_factory=dict)
    unreadable: dict[str, FieldProblem] = field(default_factory=dict)  # by photo: its caption file cannot be used
    unused: list[FieldProblem] = field(default_factory=list)  # caption files, or lines of metadata, of no photo


def comparable(path: str) -> str:
    """A path as it is compared: NFC, lower case, "/" between folders, no "./" before it."""
    parts = unicodedata.normalize("NFC", path).lower().replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def is_caption_file(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def match(photos: Iterable[str], files: Iterable[str]) -> dict[str, list[str]]:
    """The caption files of each photo, in the order of the rule. All are paths below one folder."""
    by_path: dict[str, list[str]] = {}
    for file in sorted(files):
        by_path.setdefault(comparable(file), []).append(file)
    matches = {}
    for photo in photos:
        own, path = _without_ending(photo), comparable(photo)
        names = [f"{name}{ending}" for ending in ENDINGS for name in (_without_ending(path), path)]
        beside = [sorted(by_path.get(name, ()), key=lambda file: not file.startswith(own)) for name in names]
        matches[photo] = [file for group in beside for file in group]
    return matches


def read_folder(folder: Path, photos: Sequence[Path]) -> FolderCaptions:
    """Read the caption files beside the photos of one folder. Raises DataProblem when metadata.jsonl cannot be read."""
    names = sorted(each.name for each in folder.iterdir() if each.name[0] != "." and each.is_file())
    files = [name for name in names if is_caption_file(name)]
    found = FolderCaptions()
    table: dict[str, str] = {}
    for name in names:
        if name.lower() == METADATA:
            lines, problems = read_metadata(folder / name)
            table |= lines
            found.unused += problems
    matches = match([photo.name for photo in photos], files)
    for photo, beside in matches.items():
        try:
            texts = [(file, text) for file in beside if (text := read(folder / file))]
        except DataProblem as problem:
            found.unreadable[photo] = problem.problems[0]
            continue
        if texts:
            (file, text), *others = texts
            found.captions[photo] = Caption(text, PurePosixPath(file).suffix.lower())
            found.unused += [
                FieldProblem(other, f"is not used: {photo} has its caption from {file}") for other, _ in others
            ]
        elif text := table.get(comparable(photo)):
            found.captions[photo] = Caption(text, METADATA)
    used = {file for beside in matches.values() for file in beside}
    found.unused += [
        FieldProblem(file, "is a caption without a photo of that name") for file in files if file not in used
    ]
    found.unused += _strangers(table, {comparable(photo) for photo in matches})
    return found


def _strangers(table: Mapping[str, str], photos: Collection[str]) -> list[FieldProblem]:
    """One sentence about the names in metadata that no photo of the folder has; subfolders are not read."""
    names = [name for name in table if "/" not in name and name not in photos]
    if not names:
        return []
    files = "1 file that is" if len(names) == 1 else f"{len(names)} files that are"
    return [FieldProblem(METADATA, f"names {files} not among the photos: {_listed(names)}")]


def read(file: Path) -> str | None:
    """The caption in a caption file, in one line; None when the file is missing or blank.

    Raises DataProblem when it is not UTF-8 text, or too long.
    """
    if not file.is_file():
        return None
    text = " ".join(_text_of(file, BYTES_AT_MOST).split())
    if trouble := trouble_with(text):
        raise DataProblem("A caption is too long.", [FieldProblem(file.name, trouble)])
    return text or None


def trouble_with(text: str) -> str:
    """A sentence, continuing the file's name, when the text is too long for a caption."""
    return f"has {len(text)} characters; at most {CHARACTERS_AT_MOST}" if len(text) > CHARACTERS_AT_MOST else ""


def read_metadata(file: Path) -> tuple[dict[str, str], list[FieldProblem]]:
    """Captions by comparable path from a metadata.jsonl, and a sentence about the lines that cannot be used.

    Raises DataProblem when the file is not UTF-8 text, or too large.
    """
    table: dict[str, str] = {}
    wrong: list[str] = []
    for number, line in enumerate(_text_of(file, METADATA_BYTES_AT_MOST).split("\n"), 1):
        if not line.strip():
            continue
        name, text, trouble = _metadata_line(line)
        if trouble:
            wrong.append(f"line {number} {trouble}")
        elif text:
            table[name] = text
    return table, [FieldProblem(file.name, f"{_listed(wrong, '; ')}")] if wrong else []


def _metadata_line(line: str) -> tuple[str, str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "", "", "is not JSON"
    name, text = (row.get("file_name"), row.get("text")) if isinstance(row, Mapping) else (None, None)
    if not isinstance(name, str) or not isinstance(text, str) or not comparable(name):
        return "", "", 'has no "file_name" and "text"'
    text = " ".join("".join(c for c in text if not "\ud800" <= c <= "\udfff").split())
    return comparable(name), text, trouble_with(text)


def _text_of(file: Path, at_most: int) -> str:
    try:
        with file.open("rb") as content:
            data = content.read(at_most + 1)
        if len(data) > at_most:
            raise DataProblem("A caption is too long.", [FieldProblem(file.name, f"has more than {at_most:,} bytes")])
        return data.decode("utf-8-sig")
    except OSError as error:
        problem = FieldProblem(file.name, f"cannot be read: {error.strerror}")
        raise DataProblem("A caption cannot be read.", [problem]) from None
    except UnicodeDecodeError:
        problem = FieldProblem(file.name, "is not UTF-8 text; save it again as plain UTF-8")
        raise DataProblem("A caption cannot be read.", [problem]) from None


def _without_ending(path: str) -> str:
    return re.sub(r"\.[^./]*$", "", path)


def _listed(words: Sequence[str], between: str = ", ") -> str:
    more = f"{between}and {len(words) - 3} more" if len(words) > 3 else ""
    return between.join(words[:3]) + more
