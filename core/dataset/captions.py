"""Captions of photos: from the .txt beside a photo, else from a template.

a photo of {trigger} {class_word}   ->   a photo of sks can
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path

from core.errors import DataProblem, FieldProblem

TEMPLATE = "a photo of {trigger} {class_word}"
PLACEHOLDERS = ("trigger", "class_word")
CHARACTERS_AT_MOST = 2000


def fill(template: str, trigger: str, class_word: str) -> str:
    """The template with its placeholders filled in and whitespace collapsed.

    Raises DataProblem for an unknown placeholder or an unclosed brace.
    """
    check(template)
    return " ".join(template.format(trigger=trigger, class_word=class_word).split())


def without_trigger(caption: str, trigger: str) -> str:
    """The caption without the trigger as a separate word, in any case: "a photo of sks can" -> "a photo of can".

    Commas and spaces on both sides of it are merged.
    """
    left = re.sub(rf"(?<!\w){re.escape(trigger)}(?!\w)", " ", caption, flags=re.IGNORECASE) if trigger else caption
    left = re.sub(r"\s+(?=[,.;:!?])", "", " ".join(left.split()))
    return re.sub(r",(\s*,)+", ",", left).strip(" ,")


def dropout_advice(share: float, class_pictures: int, captions: Sequence[str], trigger: str) -> str:
    """Warnings about trigger dropout with these captions, or ""."""
    found = []
    if share and class_pictures:
        found.append(
            "Trigger dropout teaches that the class word alone brings the subject, and class pictures teach the "
            "opposite: set one of them to 0."
        )
    if share and captions and all(without_trigger(each, trigger) == without_trigger(each, "") for each in captions):
        found.append(f"Trigger dropout does nothing here: no caption has the word {trigger!r}.")
    return " ".join(found)


def check(template: str) -> None:
    """Raise DataProblem unless every `{...}` of the template is one of `PLACEHOLDERS`."""
    allowed = " and ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    try:
        fields = [(name, spec, how) for _, name, spec, how in string.Formatter().parse(template) if name is not None]
    except ValueError:
        raise DataProblem(f"{template!r} has an unmatched brace; {allowed} are filled in.") from None
    for name, spec, how in fields:
        if name not in PLACEHOLDERS or spec or how:
            raise DataProblem(f"{template!r} has {{{name}}}, which is not known; {allowed} are filled in.")


def read(text_file: Path) -> str | None:
    """The caption in a .txt file, in one line; None when the file is missing or blank.

    Raises DataProblem when it is not UTF-8 text, or too long.
    """
    if not text_file.is_file():
        return None
    try:
        text = text_file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        problem = FieldProblem(text_file.name, "is not UTF-8 text; save it again as plain UTF-8")
        raise DataProblem("A caption cannot be read.", [problem]) from None
    caption = " ".join(text.split())
    if len(caption) > CHARACTERS_AT_MOST:
        problem = FieldProblem(text_file.name, f"has {len(caption)} characters; at most {CHARACTERS_AT_MOST}")
        raise DataProblem("A caption is too long.", [problem])
    return caption or None


def for_photo(photo: Path, trigger: str, class_word: str, template: str = TEMPLATE) -> str:
    """The caption beside the photo (`beach.txt` for `beach.jpg`), else the template."""
    return read(photo.with_suffix(".txt")) or fill(template, trigger, class_word)
