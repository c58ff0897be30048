"""Which pictures a drawing consists of, and in which order they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SEEDS = 2**31  # after the last seed comes 0


@dataclass(frozen=True, slots=True)
class Planned:
    """One picture of a drawing."""

    place: int  # among those of its drawing
    seed: int
    strengths: tuple[float, ...]  # of each adapter; empty for a drawing without any

    @property
    def label(self) -> str:
        """ "0.8", "0.8 + 1" for two adapters, "without", or "base" where no adapter was chosen."""
        if not self.strengths:
            return "base"
        return " + ".join(f"{each:g}" for each in self.strengths) if any(self.strengths) else "without"


def plan(params: Mapping[str, Any]) -> list[Planned]:
    """The pictures of a SAMPLE job: for each seed one with each combination of strengths, then one without adapters.

    `params["strengths"]` lists the combinations; jobs of earlier versions have the adapters' own strengths alone.
    """
    adapters = params.get("adapters") or ()
    combinations = params.get("strengths") or [[each["strength"] for each in adapters]]
    variants = [tuple(float(each) for each in combination) for combination in combinations]
    if params.get("without"):
        variants.append((0.0,) * len(adapters))
    seeds = [(int(params.get("seed", 0)) + number) % SEEDS for number in range(int(params.get("count", 1)))]
    pictures = [(seed, strengths) for seed in seeds for strengths in variants]
    return [Planned(place, seed, strengths) for place, (seed, strengths) in enumerate(pictures)]
