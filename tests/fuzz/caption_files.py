"""Folders of caption files: each is used, reported or refused by name, and every caption is one line of text."""

from __future__ import annotations

import json
import unicodedata
from typing import Any, NamedTuple

from core.dataset import caption_files
from core.dataset.captions import CHARACTERS_AT_MOST
from core.errors import DataProblem
from tests.fuzz import scratch
from tests.fuzz.plan import Plan, made_by

STEMS = ("a", "A", "b.1", "caf\u00e9", "cafe\u0301", "İ", "1", "a.jpg")
PHOTOS = tuple(f"{stem}{ending}" for stem in STEMS for ending in (".jpg", ".PNG"))
NAMES = tuple(
    f"{stem}{ending}" for stem in (*STEMS, *PHOTOS, "stray") for ending in (".txt", ".TXT", ".caption", ".jpg.txt")
)
FILE_NAMES = (*PHOTOS, "./a.jpg", "sub/a.jpg", "")
LONG = "x" * 2100
DEEP = "[" * 5000


class Folder(NamedTuple):
    """What lies in a folder."""

    photos: list[str]
    files: dict[str, bytes]
    metadata: bytes | None


def _text(plan: Plan) -> str:
    return LONG if plan.rarely(12) else plan.text(12)


def _row(plan: Plan) -> dict[str, Any]:
    return plan.chosen({
        "file_name": lambda each: _text(each) if each.rarely(6) else each.one_of(FILE_NAMES),
        "text": lambda each: None if each.rarely(6) else _text(each),
    })  # fmt: skip


def _line(plan: Plan) -> str:
    kind = plan.number(8)
    if kind < 6:
        return json.dumps(_row(plan), ensure_ascii=kind < 3)
    return _text(plan) if kind == 6 else DEEP if plan.rarely(4) else ""


def _metadata(plan: Plan) -> bytes | None:
    kind = plan.number(3)
    if kind == 0:
        return None
    if kind == 1 and plan.rarely():
        return plan.some_bytes(20)
    return "\n".join(plan.many(3, _line)).encode("utf-8", "replace")


def _content(plan: Plan) -> bytes:
    kind = plan.number(4)
    if kind == 3:
        return plan.some_bytes(20)
    return _text(plan).encode("utf-16" if kind == 2 else "utf-8", "replace")


def _filled(plan: Plan) -> Folder:
    photos = list(dict.fromkeys(plan.many(5, lambda each: each.one_of(PHOTOS))))
    files = {plan.one_of(NAMES): _content(plan) for _ in range(plan.number(5))}
    return Folder(photos, files, _metadata(plan))


DATA = made_by(_filled, 224)


def check(data: Folder) -> None:
    """One execution."""
    folder = scratch.folder()
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
