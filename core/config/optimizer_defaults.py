"""What is known of each optimizer without running it: its learning rates, and how much it remembers.

    AdamW, Adafactor   a step moves each number by about the rate
    Lion               by the rate exactly, however small the gradient: AdamW's over 3 to 10, says the paper; here 3
    Prodigy            the rate is a factor on one that it finds itself: 1, and the same all along, or it finds little

The rules themselves are in core/training/optimizers.py.

Source: Chen et al. 2023, arXiv:2302.06675; Mishchenko and Defazio 2023, arXiv:2306.06101.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LION_PART = 3
FOLLOWING = ("learning_rate", "schedule", "warmup_steps")  # knobs that an optimizer may bring along


@dataclass(frozen=True, slots=True)
class Traits:
    """One optimizer."""

    title: str
    low: float  # the rates that adapters are trained with, on models small and large, lie between
    high: float
    remembered: int  # numbers that it remembers for each one of the adapter's
    sides: bool = False  # whether it remembers one for each row and each column of A and B


TRAITS: dict[str, Traits] = {
    "adamw": Traits("AdamW", 1e-6, 2e-2, 2),
    "adafactor": Traits("Adafactor", 1e-6, 2e-2, 0, sides=True),
    "lion": Traits("Lion", 2e-7, 4e-3, 1),
    "prodigy": Traits("Prodigy", 0.1, 10.0, 4),
}
"""By the word of the knob `optimizer`."""


def own_settings(optimizer: str, adamw_rate: float) -> dict[str, Any]:
    """Knobs that the optimizer brings along where nobody has set them; `adamw_rate` is what would suit AdamW."""
    if optimizer == "prodigy":
        return {"learning_rate": 1.0, "schedule": "constant", "warmup_steps": 0}
    if optimizer == "lion":
        return {"learning_rate": float(f"{adamw_rate / LION_PART:.2g}")}  # a number that people can read
    return {"learning_rate": adamw_rate}


def rate_advice(optimizer: str, rate: float) -> str:
    """A sentence about a rate that does not suit the optimizer; empty where it does."""
    traits = TRAITS[optimizer]
    if traits.low <= rate <= traits.high:
        return ""
    if optimizer == "prodigy":
        why = "it finds the rate itself, and this is a factor on it; leave it at 1"
    else:
        why = f"adapters are trained with {traits.low:g} to {traits.high:g}"
    return f"A learning rate of {rate:g} does not suit {traits.title}: {why}."
