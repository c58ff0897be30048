"""What one training example is made of, and a folder of photos read as examples.

Pillow only; nothing is decoded here but for the check.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core import files
from core.dataset import captions, photos
from core.dataset.crops import Box
from core.errors import DataProblem, FieldProblem


@dataclass(frozen=True, slots=True)
class Example:
    """One photo, the part of it that counts, and its caption."""

    photo: Path
    sha256: str  # of the photo file
    caption: str
    box: Box | None = None  # None: the centre
    name: str = ""  # what the user calls it


def read_folder(folder: Path, trigger: str, class_word: str) -> tuple[list[Example], list[FieldProblem]]:
    """The examples in a folder, and what is wrong with each file that had to be left out.

    Raises DataProblem when there are no photos, or none that can be read.
    """
    examples: list[Example] = []
    problems: list[FieldProblem] = []
    seen: dict[str, str] = {}
    for photo in photos.find(folder):
        try:
            photos.inspect(photo)
            caption = captions.for_photo(photo, trigger, class_word)
        except DataProblem as problem:
            problems += problem.problems or [FieldProblem(photo.name, problem.message)]
            continue
        digest = files.sha256_of(photo)
        if digest in seen:
            problems.append(FieldProblem(photo.name, f"is the same file as {seen[digest]}; it is counted once"))
            continue
        seen[digest] = photo.name
        examples.append(Example(photo, digest, caption, name=photo.name))
    if not examples:
        raise DataProblem(f"None of the files in {folder} can be trained on.", problems)
    return examples, problems
