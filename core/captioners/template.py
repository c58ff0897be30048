"""Captions from a template: the same text for every photo."""

from __future__ import annotations

from pathlib import Path

from core.dataset import captions


class TemplateCaptioner:
    """`a photo of {trigger} {class_word}`, filled in."""

    origin = "template"

    def __init__(self, template: str, trigger: str, class_word: str) -> None:
        """Raises DataProblem for an unknown placeholder."""
        self._text = captions.fill(template, trigger, class_word)

    def caption(self, photo: Path, mask: Path | None = None) -> str:
        return self._text
