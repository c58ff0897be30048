"""The words that knobs with a fixed choice may take."""

from __future__ import annotations

from typing import Literal

SigmaDraw = Literal["logit_normal", "uniform", "model_shift"]
Optimizer = Literal["adamw", "adafactor", "lion", "prodigy"]
Schedule = Literal["cosine", "cosine_restarts", "linear", "constant"]
Shapes = Literal["as_photographed", "square"]
Activations = Literal["as_fit", "all", "none"]
BasePrecision = Literal["full", "8-bit", "6-bit", "4-bit"]
BITS: dict[BasePrecision, int | None] = {"full": None, "8-bit": 8, "6-bit": 6, "4-bit": 4}
"""Bits of a quantized base weight; None keeps the compute dtype."""


def precision_of(bits: int | None) -> BasePrecision:
    """The choice for a base of so many bits; the inverse of `BITS`."""
    return next(name for name, each in BITS.items() if each == bits)
