"""Which caption file belongs to which photo, and what is said about the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.dataset import caption_files
from core.dataset.caption_files import Caption
from core.dataset.examples import caption_sources, read_folder
from core.errors import DataProblem
from tests.app.conftest import picture

CASES = json.loads((Path(__file__).parents[1] / "caption_files.json").read_text(encoding="utf-8"))


def write(folder: Path, **files: str | bytes) -> list[Path]:
    """Files by name, "__" for a dot; those without text are photos. Returns the photos."""
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".png"]


@pytest.mark.parametrize("case", CASES, ids=[case["why"] for case in CASES])
def test_captions_are_matched_as_the_table_says(case: dict[str, Any]) -> None:
    assert caption_files.match(case["photos"], case["files"]) == case["matches"]


def test_a_caption_is_read_from_beside_the_photo(tmp_path: Path) -> None:
    photos = write(tmp_path, a__png=b"", b__png=b"", a__txt="\ufeffein Foto  von\nsks Dose\n")
    found = caption_files.read_folder(tmp_path, photos)
    assert found.captions == {"a.png": Caption("ein Foto von sks Dose", ".txt")}
    assert (found.unreadable, found.unused) == ({}, [])


def test_a_blank_caption_counts_as_none(tmp_path: Path) -> None:
    photos = write(tmp_path, a__png=b"", a__txt="  \n", a__caption="red", b__png=b"", b__txt="")
    assert caption_files.read_folder(tmp_path, photos).captions == {"a.png": Caption("red", ".caption")}


def test_a_caption_that_is_not_text_or_too_long_is_named(tmp_path: Path) -> None:
    photos = write(tmp_path, a__png=b"", a__txt="caf\u00e9".encode("cp1252"), b__png=b"", b__txt="x" * 3000)
    found = caption_files.read_folder(tmp_path, photos)
    assert found.unreadable["a.png"].field == "a.txt"
    assert found.unreadable["a.png"].message == "is not UTF-8 text; save it again as plain UTF-8"
    assert found.unreadable["b.png"].message == "has 3000 characters; at most 2000"


def test_metadata_holds_captions_too_and_a_file_beside_the_photo_goes_first(tmp_path: Path) -> None:
    lines = [
        '{"file_name": "A.png", "text": "from  metadata"}',
        '{"file_name": "./b.png", "text": "not this"}',
        "",
        '{"file_name": "gone.png", "text": "nobody"}',
        "nonsense",
        '{"file_name": "c.png", "caption": "another column"}',
        "[" * 20_000,
    ]
    photos = write(tmp_path, a__png=b"", b__png=b"", b__txt="beside", metadata__jsonl="\n".join(lines))
    found = caption_files.read_folder(tmp_path, photos)
    assert found.captions == {"a.png": Caption("from metadata", "metadata.jsonl"), "b.png": Caption("beside", ".txt")}
    assert [problem.message for problem in found.unused] == [
        'line 5 is not JSON; line 6 has no "file_name" and "text"; line 7 is not JSON',
        "names 1 file that is not among the photos: gone.png",
    ]
    (tmp_path / "metadata.jsonl").write_bytes(b'{"file_name": "a.png", "text": "caf\xe9"}')
    with pytest.raises(DataProblem, match=r"metadata\.jsonl: is not UTF-8"):
        caption_files.read_folder(tmp_path, photos)


def test_a_caption_without_a_photo_and_a_second_one_are_reported(tmp_path: Path) -> None:
    photos = write(tmp_path, a__png=b"", a__txt="one", a__caption="two", stray__txt="three")
    found = caption_files.read_folder(tmp_path, photos)
    assert [(problem.field, problem.message) for problem in found.unused] == [
        ("a.caption", "is not used: a.png has its caption from a.txt"),
        ("stray.txt", "is a caption without a photo of that name"),
    ]


def test_a_folder_says_how_many_captions_come_from_where(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(picture((40 * number, 90, 200)))
    write(tmp_path, **{"0__TXT": "zero", "1__png__txt": "one", "2__caption": "two", "stray__txt": "x"})
    examples, left_out = read_folder(tmp_path, "sks", "can")
    assert [example.caption for example in examples] == ["zero", "one", "two", *["a photo of sks can"] * 2]
    assert [problem.field for problem in left_out] == ["stray.txt"]
    rest = "the other photos have “a photo of sks can”."
    assert caption_sources(examples) == f"2 of 5 captions from .txt, 1 from .caption; {rest}"
    assert caption_sources(examples[:3]) == "2 of 3 captions from .txt, 1 from .caption."
    assert caption_sources(examples[3:]) == "No caption files: every photo has “a photo of sks can”."


def test_a_folder_whose_photos_are_in_subfolders_says_so(tmp_path: Path) -> None:
    (tmp_path / "10_sks can").mkdir()
    (tmp_path / "10_sks can" / "1.png").write_bytes(picture())
    with pytest.raises(DataProblem, match=r"subfolders are not read.*10_sks can"):
        read_folder(tmp_path, "sks", "can")
