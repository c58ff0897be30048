"""Who writes captions: a template, or a vision model that this computer already serves.

caption(photo) -> text          `template.py` needs nothing; `openai.py` asks a server at a loopback address
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from core.errors import CaptionerProblem


class Unreachable(CaptionerProblem):
    """No server listens at the address: there is no use in asking about the next photo."""


class Captioner(Protocol):
    """Anything that can say what a photo shows."""

    origin: str  # kept beside the caption: "template" or the model's name

    def caption(self, photo: Path) -> str:
        """One line of text. Raises CaptionerProblem, Unreachable, DataProblem."""
        ...
