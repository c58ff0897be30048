"""Learning rates and state sizes of the optimizers, known without running them.

    AdamW, Adafactor   a step moves each parameter by about the rate
    Lion               by exactly the rate, however small the gradient: AdamW's rate over 3 to 10 in the paper; here 3
    Prodigy            the rate is a factor on one that it estimates itself: it must be 1, and constant

The optimizers themselves are in core/training/optimizers.py.

Source: Chen et al. 2023, arXiv:2302.06675; Mishchenko and Defazio 2023, arXiv:2306.06101.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LION_DIVISOR = 3
FOLLOWING = ("learning_rate", "schedule", "warmup_steps")  # knobs whose defaults depend on the optimizer


@dataclass(frozen=True, slots=True)
class Traits:
    """One optimizer: its name, the range of its learning rate, and the size of its state."""

    title: str
    low: float  # least and greatest rate in use for adapters, over small and large models
    high: float
    state_per_weight: int  # numbers of optimizer state for each weight of the adapter
    factored: bool = False  # whether it also has one for each row and each column of A and B


TRAITS: dict[str, Traits] = {
    "adamw": Traits("AdamW", 1e-6, 2e-2, 2),
    "adafactor": Traits("Adafactor", 1e-6, 2e-2, 0, factored=True),
    "lion": Traits("Lion", 2e-7, 4e-3, 1),
    "prodigy": Traits("Prodigy", 0.1, 10.0, 4),
}
"""By the value of the knob `optimizer`."""


def own_settings(optimizer: str, adamw_rate: float) -> dict[str, Any]:
    """The optimizer's defaults for knobs that the user has not set; `adamw_rate` is the rate for AdamW."""
    if optimizer == "prodigy":
        return {"learning_rate": 1.0, "schedule": "constant", "warmup_steps": 0}
    if optimizer == "lion":
        return {"learning_rate": float(f"{adamw_rate / LION_DIVISOR:.2g}")}  # two digits, for people to read
    return {"learning_rate": adamw_rate}


def rate_advice(optimizer: str, rate: float) -> str:
    """A warning about a rate outside of the optimizer's usual range, or ""."""
    traits = TRAITS[optimizer]
    if traits.low <= rate <= traits.high:
        return ""
    if optimizer == "prodigy":
        why = "it finds the rate itself, and this is a factor on it; leave it at 1"
    else:
        why = f"adapters are trained with {traits.low:g} to {traits.high:g}"
    return f"A learning rate of {rate:g} does not suit {traits.title}: {why}."
