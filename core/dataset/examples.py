"""A photo to train on, and a folder of photos read as such.

Pillow only; photos are decoded only to validate them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core import files
from core.dataset import caption_files, captions, mask_files, masks, photos
from core.dataset.crops import Box
from core.dataset.masks import Mask
from core.errors import DataProblem, FieldProblem


@dataclass(frozen=True, slots=True)
class Example:
    """One photo, its crops, its caption and its mask. Each crop is a training example of its own."""

    photo: Path
    sha256: str  # of the photo file
    caption: str
    box: Box | None = None  # None: the centre
    name: str = ""  # the user's file name
    caption_source: str = ""  # ".txt", ".caption" or "metadata.jsonl"; empty for the template
    further_boxes: tuple[Box, ...] = ()  # further crops, such as a close-up beside the whole
    mask: Mask | None = None

    @property
    def label(self) -> str:
        """What a sentence calls it."""
        return self.name or self.photo.name

    @property
    def crops(self) -> list[Example]:
        """One for each crop, in order; the photo itself where it has no further ones."""
        return [replace(self, box=box, further_boxes=()) for box in (self.box, *self.further_boxes)]


def read_folder(folder: Path, trigger: str, class_word: str) -> tuple[list[Example], list[FieldProblem]]:
    """The examples in a folder, and the problem of each photo, caption file or mask that was left out.

    core/dataset/caption_files.py says which caption belongs to which photo; those without one get the template.
    core/dataset/mask_files.py does so for masks.

    Raises DataProblem when there are no photos, or none that can be read, or when metadata.jsonl cannot be read.
    """
    examples: list[Example] = []
    problems: list[FieldProblem] = []
    seen: dict[str, str] = {}
    template = captions.fill(captions.TEMPLATE, trigger, class_word)
    found = photos.find(folder)
    beside = caption_files.read_folder(folder, found)
    with_mask, unused_masks = mask_files.find(folder, found)
    for photo in found:
        try:
            facts = photos.inspect(photo)
            file, mask = with_mask.get(photo.name), None
            if file is not None:
                masks.read_of_photo(file, (facts.width, facts.height))
                mask = Mask(file, files.sha256_of(file))
        except DataProblem as problem:
            problems += problem.problems or [FieldProblem(photo.name, problem.message)]
            continue
        if photo.name in beside.unreadable:
            problems.append(beside.unreadable[photo.name])
            continue
        digest = files.sha256_of(photo)
        if digest in seen:
            problems.append(FieldProblem(photo.name, f"is the same file as {seen[digest]}; it is counted once"))
            continue
        seen[digest] = photo.name
        caption = beside.captions.get(photo.name) or caption_files.Caption(template, "")
        examples.append(Example(photo, digest, caption.text, name=photo.name, caption_source=caption.source, mask=mask))
    problems += [*beside.unused, *unused_masks]
    if not examples:
        raise DataProblem(f"None of the files in {folder} can be trained on.", problems)
    return examples, problems


def masks_counted(examples: Sequence[Example], background_weight: float) -> str:
    """A sentence about the masks, such as "Masks: 5 of 10 photos; the background counts 0.3."; "" without any."""
    count = sum(example.mask is not None for example in examples)
    if not count:
        return ""
    counts = f"counts {background_weight:g}" if background_weight else "does not count"
    if background_weight == 1:
        counts = "counts as much as the subject, so they only leave out what they ignore"
    return f"Masks: {count} of {len(examples)} photos; the background {counts}."


def caption_sources(examples: Sequence[Example]) -> str:
    """A sentence about where the captions come from: "3 of 10 captions from .txt; the other photos have ..."."""
    counts = Counter(example.caption_source for example in examples)
    template = next((example.caption for example in examples if not example.caption_source), "")
    named = [(source, count) for source, count in counts.items() if source]
    if not named:
        return f"No caption files: every photo has “{template}”."
    (source, count), *others = named
    words = f"{count} of {len(examples)} captions from {source}" + "".join(
        f", {more} from {name}" for name, more in others
    )
    return f"{words}; the other photos have “{template}”." if template else f"{words}."
