"""Ranks of their own for some layers, as the knob `ranks` has them: "attention=32, *.ff.*=8:4".

    <layers>=<rank>[:<alpha>], ...        layers: a preset's name or a glob of module paths, as in the knob `targets`

Where two entries name a layer, the later one counts. An entry without an alpha has the scale of all other layers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

RANK_AT_MOST = 256
ALPHA_AT_MOST = 1024
ENTRY = re.compile(r"(?P<layers>[^=\s]+)\s*=\s*(?P<rank>\d{1,9})\s*(:\s*(?P<alpha>\d*\.?\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class LayerRank:
    """One entry."""

    layers: str
    rank: int
    alpha: float | None  # None keeps the run's alpha / rank

    def alpha_at(self, scale: float) -> float:
        """Its alpha in a run whose other layers are scaled by `scale`."""
        return self.rank * scale if self.alpha is None else self.alpha


def read(text: str) -> tuple[tuple[LayerRank, ...], list[str]]:
    """The entries, and a sentence for each one that is none."""
    found, troubles = [], []
    for part in (each.strip() for each in text.split(",")):
        match = ENTRY.fullmatch(part)
        if part and match is None:
            troubles.append(
                f"has {part!r}; an entry is layers=rank or layers=rank:alpha, such as attention=32 or *.ff.*=8:4"
            )
        elif match is not None:
            rank, alpha = int(match["rank"]), float(match["alpha"]) if match["alpha"] else None
            if not 1 <= rank <= RANK_AT_MOST:
                troubles.append(f"has {part!r}; a rank can be 1 to {RANK_AT_MOST}")
            elif alpha is not None and not 0 < alpha <= ALPHA_AT_MOST:
                troubles.append(f"has {part!r}; an alpha can be more than 0 to {ALPHA_AT_MOST}")
            found.append(LayerRank(match["layers"], rank, alpha))
    return tuple(found), troubles
