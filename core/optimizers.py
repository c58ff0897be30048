"""What is known of each optimizer without running it: its learning rates, and how much it remembers.

    AdamW, Adafactor   a step moves each number by about the rate
    Lion               by the rate exactly, however small the gradient: AdamW's over 3 to 10, says the paper; here 5
    Prodigy            the rate is a factor on one that it finds itself: 1

The rules themselves are in core/training/rules.py.

Source: Chen et al. 2023, arXiv:2302.06675; Mishchenko and Defazio 2023, arXiv:2306.06101.
"""

from __future__ import annotations

from dataclasses import dataclass

LION_PART = 5
PRODIGY_FACTOR = 1.0


@dataclass(frozen=True, slots=True)
class Traits:
    """One optimizer."""

    title: str
    low: float  # the rates that adapters are trained with, on models small and large, lie between
    high: float
    remembered: int  # numbers that it remembers for each one of the adapter's; Adafactor's rows and columns are none


TRAITS: dict[str, Traits] = {
    "adamw": Traits("AdamW", 1e-6, 2e-2, 2),
    "adafactor": Traits("Adafactor", 1e-6, 2e-2, 0),
    "lion": Traits("Lion", 2e-7, 4e-3, 1),
    "prodigy": Traits("Prodigy", 0.1, 10.0, 4),
}
"""By the word of the knob `optimizer`."""


def own_rate(optimizer: str, adamw_rate: float) -> float:
    """The optimizer's rate where AdamW's is known and nobody has set another."""
    if optimizer == "prodigy":
        return PRODIGY_FACTOR
    if optimizer == "lion":
        return float(f"{adamw_rate / LION_PART:.6g}")  # a number that people can read
    return adamw_rate


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
