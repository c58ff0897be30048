"""Captioners: a template, or a vision model that is served on this computer.

caption(photo, mask) -> text    `template.py` needs nothing; `openai.py` calls a server at a loopback address;
                                `built_in.py` starts one of its own, from the environment of `environment.py`
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from core.errors import CaptionerProblem


class Unreachable(CaptionerProblem):
    """No server listens at the address: there is no use in asking about the next photo."""


class Captioner(Protocol):
    """Anything that writes a caption for a photo."""

    origin: str  # saved with the caption: "template" or the model's name

    def caption(self, photo: Path, mask: Path | None = None) -> str:
        """One line of text about the photo, without what its mask ignores.

        Raises CaptionerProblem, Unreachable, DataProblem.
        """
        ...
