"""Ranks by layer: the knob `ranks`, such as "attention=32, *.ff.*=8:4".

    <layers>=<rank>[:<alpha>], ...        layers: a preset's name or a glob of module paths, as in the knob `targets`

When two entries name the same layer, the later one wins. An entry without alpha uses the run's alpha / rank.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

RANK_AT_MOST = 256
ALPHA_AT_MOST = 1024
ENTRY = re.compile(r"(?P<layers>[^=\s]+)\s*=\s*(?P<rank>\d{1,9})\s*(:\s*(?P<alpha>\d*\.?\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class LayerRank:
    """One entry: layers, and the rank and alpha of their adapter."""

    layers: str
    rank: int
    alpha: float | None  # None keeps the run's alpha / rank

    def alpha_at(self, scale: float) -> float:
        """Its alpha in a run whose other layers are scaled by `scale`, alpha / rank."""
        return self.rank * scale if self.alpha is None else self.alpha


def read(text: str) -> tuple[tuple[LayerRank, ...], list[str]]:
    """Parse the knob: the entries, and a message for each malformed one."""
    entries, problems = [], []
    for part in (each.strip() for each in text.split(",")):
        match = ENTRY.fullmatch(part)
        if part and match is None:
            problems.append(
                f"has {part!r}; an entry is layers=rank or layers=rank:alpha, such as attention=32 or *.ff.*=8:4"
            )
        elif match is not None:
            rank, alpha = int(match["rank"]), float(match["alpha"]) if match["alpha"] else None
            if not 1 <= rank <= RANK_AT_MOST:
                problems.append(f"has {part!r}; a rank can be 1 to {RANK_AT_MOST}")
            elif alpha is not None and not 0 < alpha <= ALPHA_AT_MOST:
                problems.append(f"has {part!r}; an alpha can be more than 0 to {ALPHA_AT_MOST}")
            entries.append(LayerRank(match["layers"], rank, alpha))
    return tuple(entries), problems
