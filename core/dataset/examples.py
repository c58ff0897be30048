"""A training example, and a folder of photos read as examples.

Pillow only; photos are decoded only to validate them.
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
    """One photo, its crop, and its caption."""

    photo: Path
    sha256: str  # of the photo file
    caption: str
    box: Box | None = None  # None: the centre
    name: str = ""  # the user's file name


def read_folder(folder: Path, trigger: str, class_word: str) -> tuple[list[Example], list[FieldProblem]]:
    """The examples in a folder, and the problem of each file that was left out.

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
