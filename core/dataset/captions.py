"""Captions of photos: from a file beside the photo (caption_files.py), else from a template.

a photo of {trigger} {class_word}   ->   a photo of sks can
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from core.errors import DataProblem

TEMPLATE = "a photo of {trigger} {class_word}"
PLACEHOLDERS = ("trigger", "class_word")
CHARACTERS_AT_MOST = 2000


def fill(template: str, trigger: str, class_word: str) -> str:
    """The template with its placeholders filled in and whitespace collapsed.

    Raises DataProblem for an unknown placeholder or an unclosed brace.
    """
    check(template)
    return " ".join(template.format(trigger=trigger, class_word=class_word).split())


def has_trigger(caption: str, trigger: str) -> bool:
    """Whether the trigger is in the caption as a word of its own, in any case."""
    return bool(trigger) and _word(trigger).search(caption) is not None


def replace_trigger(caption: str, trigger: str, replacement: str) -> str:
    """The caption with another word wherever it has the trigger as a word of its own."""
    return _word(trigger).sub(lambda _: replacement, caption) if trigger else caption


def without_trigger(caption: str, trigger: str) -> str:
    """The caption without the trigger as a separate word, in any case: "a photo of sks can" -> "a photo of can".

    Commas and spaces on both sides of it are merged.
    """
    left = _word(trigger).sub(" ", caption) if trigger else caption
    left = re.sub(r"\s+(?=[,.;:!?])", "", " ".join(left.split()))
    return re.sub(r",(\s*,)+", ",", left).strip(" ,")


def trigger_advice(captions: Sequence[str], trigger: str) -> str:
    """A sentence about captions without the trigger, from which a run does not learn what it means; else empty."""
    lacking = sum(not has_trigger(each, trigger) for each in captions)
    if not lacking:
        return ""
    if lacking == len(captions):
        return (
            f"No caption has the trigger word {trigger!r}: prompts with it will not bring the subject. Add it to them."
        )
    verb = "lacks" if lacking == 1 else "lack"
    words = f"{lacking} of {len(captions)} captions {verb} the trigger word {trigger!r}"
    return f"{words}: their photos do not teach what it means. Add it there."


def dropout_advice(share: float, class_pictures: bool, captions: Sequence[str], trigger: str) -> str:
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


def preservation_advice(weight: float, captions: Sequence[str], trigger: str) -> str:
    """A warning about class preservation with these captions, or ""."""
    same = sum(not has_trigger(each, trigger) for each in captions)
    if not weight or not same:
        return ""
    photos = "photo whose caption lacks" if same == 1 else "photos whose captions lack"
    return (
        f"Class preservation keeps {same} {photos} the trigger word {trigger!r} from being learned: there it draws the "
        "same caption to the base. Add the trigger."
    )


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


def _word(trigger: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(trigger)}(?!\w)", re.IGNORECASE)
