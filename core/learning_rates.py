"""Which learning rates suit which optimizer: a rate that was found for AdamW is wrong for the others.

    AdamW, Adafactor   a step moves each number by about the rate
    Lion               by the rate exactly, however small the gradient: AdamW's over 3 to 10, says the paper; here 5
    Prodigy            the rate is a factor on one that it finds itself: 1

Source: Chen et al. 2023, arXiv:2302.06675; Mishchenko and Defazio 2023, arXiv:2306.06101.
"""

from __future__ import annotations

from dataclasses import dataclass

LION_PART = 5
PRODIGY_FACTOR = 1.0


@dataclass(frozen=True, slots=True)
class Span:
    """The rates that adapters are trained with, on models small and large."""

    title: str
    low: float
    high: float


SPANS: dict[str, Span] = {
    "adamw": Span("AdamW", 1e-6, 2e-2),
    "adafactor": Span("Adafactor", 1e-6, 2e-2),
    "lion": Span("Lion", 2e-7, 4e-3),
    "prodigy": Span("Prodigy", 0.1, 10.0),
}


def own_rate(optimizer: str, adamw_rate: float) -> float:
    """The optimizer's rate where AdamW's is known and nobody has set another."""
    if optimizer == "prodigy":
        return PRODIGY_FACTOR
    return (
        float(f"{adamw_rate / LION_PART:.6g}") if optimizer == "lion" else adamw_rate
    )  # a number that people can read


def advice(optimizer: str, rate: float) -> str:
    """A sentence about a rate that does not suit the optimizer; empty where it does."""
    span = SPANS[optimizer]
    if span.low <= rate <= span.high:
        return ""
    if optimizer == "prodigy":
        why = "it finds the rate itself, and this is a factor on it; leave it at 1"
    else:
        why = f"adapters are trained with {span.low:g} to {span.high:g}"
    return f"A learning rate of {rate:g} does not suit {span.title}: {why}."
