"""Folders of caption files: each is used, reported or refused by name, and every caption is one line of text."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import unicodedata
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from core.dataset import caption_files
from core.dataset.captions import CHARACTERS_AT_MOST
from core.errors import DataProblem

STEMS = ("a", "A", "b.1", "caf\u00e9", "cafe\u0301", "İ", "1", "a.jpg")
PHOTOS = tuple(f"{stem}{ending}" for stem in STEMS for ending in (".jpg", ".PNG"))
NAMES = tuple(
    f"{stem}{ending}" for stem in (*STEMS, *PHOTOS, "stray") for ending in (".txt", ".TXT", ".caption", ".jpg.txt")
)
TEXT = st.text(st.characters(), max_size=12) | st.just("x" * 2100)
ROW = st.fixed_dictionaries(
    {}, optional={"file_name": st.sampled_from((*PHOTOS, "./a.jpg", "sub/a.jpg", "")) | TEXT, "text": TEXT | st.none()}
)
LINE = st.one_of(
    ROW.map(json.dumps), ROW.map(lambda row: json.dumps(row, ensure_ascii=False)), TEXT, st.just("[" * 5000)
)
METADATA = st.lists(LINE, max_size=3).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))
CONTENT = st.one_of(
    TEXT.map(lambda text: text.encode("utf-8", "replace")),
    TEXT.map(lambda text: text.encode("utf-16") if not any("\ud800" <= c <= "\udfff" for c in text) else b""),
    st.binary(max_size=20),
)


class Folder(NamedTuple):
    """What lies in a folder."""

    photos: list[str]
    files: dict[str, bytes]
    metadata: bytes | None


DATA: st.SearchStrategy[Folder] = st.builds(
    Folder,
    st.lists(st.sampled_from(PHOTOS), max_size=5, unique=True),
    st.dictionaries(st.sampled_from(NAMES), CONTENT, max_size=4),
    METADATA | st.binary(max_size=20) | st.none(),
)


@cache
def _folder() -> Path:
    """One for all executions: making and removing folders takes longer than the rest."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def check(data: Folder) -> None:
    """One execution."""
    folder = _folder()
    for left in folder.iterdir():
        left.unlink()
    for file, content in data.files.items():
        (folder / file).write_bytes(content)
    if data.metadata is not None:
        (folder / caption_files.METADATA).write_bytes(data.metadata)
    try:
        found = caption_files.read_folder(folder, [folder / photo for photo in data.photos])
    except DataProblem as problem:
        _assert_names(problem, caption_files.METADATA)
        return
    assert set(found.captions) | set(found.unreadable) <= set(data.photos)
    for caption in found.captions.values():
        assert 0 < len(caption.text) <= CHARACTERS_AT_MOST
        assert caption.text == " ".join(caption.text.split())
        assert not any(unicodedata.category(c) == "Cs" for c in caption.text)
    matched = {file for beside in caption_files.match(data.photos, data.files).values() for file in beside}
    assert set(data.files) - matched <= {problem.field for problem in found.unused}


def _assert_names(problem: DataProblem, file: str) -> None:
    assert [each.field for each in problem.problems] == [file]
