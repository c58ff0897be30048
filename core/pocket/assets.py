"""Pocket: a genuine FLUX.1-architecture text-to-image model, small enough to live in the repository.

`WEIGHTS` is a diffusers folder (MODEL_CARD.md describes it); `EXAMPLES` has eight captioned photos of a subject that
Pocket has never seen, to train on without photos of one's own.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent

WEIGHTS: Path = _HERE / "weights"
EXAMPLES: Path = _HERE / "examples"
EXAMPLE_TRIGGER = "sks"
EXAMPLE_CLASS_WORD = "toy"
