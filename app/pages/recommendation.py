"""The one model that suits this computer, and why in a sentence: by memory, disk and licence.

    fits         at the model's own picture size in some precision, the rest of its download included
    free         its licence allows commercial use
    made for it  not distilled: no assistant needed
    here         already on this computer
    exact        the fewest bits taken off the base
    order        of the catalog

Each decides among models that are equal in those above it. Pocket, which comes with Likeness, is for computers that no
other model fits, and for those without a GPU, where a large model takes hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.actions.models import ModelView
from app.wording import size
from core.config.choices import BITS
from core.device.units import memory_size
from core.estimate import memory
from core.estimate.requirements import ModelNeeds, Need
from core.hub.catalog import POCKET

PRECISIONS = list(BITS)  # from the most exact on
USE = {"commercial": "allows commercial use", "non-commercial": "is for non-commercial use only", "": "is its own"}


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A model of the catalog by name, and why it is recommended."""

    name: str
    reason: str


def recommendation(views: Sequence[ModelView]) -> Recommendation:
    """The model to begin with on this computer. `views` are those of the catalog, Pocket among them."""
    trained = [view for view in views if view.page is not None and view.supported and view.trains and view.needs]
    if any(view.needs and view.needs.device == "cpu" for view in views):
        return Recommendation(
            POCKET, "Likeness finds no GPU here, and without one a large model takes hours. Pocket takes minutes."
        )
    fitting = [(view, best) for view in trained if (best := best_settings(view.needs)) is not None]
    if not fitting:
        return Recommendation(POCKET, _why_pocket([view.needs for view in trained if view.needs]))
    view, best = min(fitting, key=lambda pair: _rank(*pair))
    return Recommendation(view.name, _reason(view, best))


def best_settings(needs: ModelNeeds | None) -> Need | None:
    """The recommended precision and picture size; None where nothing fits."""
    return next((need for need in needs.table if need.recommended), None) if needs is not None else None


def _rank(view: ModelView, best: Need) -> tuple[bool, bool, bool, int]:
    """Smaller is better; `min` takes the first of equals."""
    return view.use != "commercial", view.assisted, not view.usable, PRECISIONS.index(best.base_precision)


def _reason(view: ModelView, best: Need) -> str:
    needs = view.needs
    if needs is None:
        return ""
    base = memory.BASES[best.base_precision]
    takes = f"{memory_size(best.memory)} of the {memory_size(needs.memory_there)} {memory.WHOSE[needs.device]}"
    room = "it is here already"
    if view.bytes and not view.on_disk:
        room = f"its download takes {size(view.bytes)} of the {size(needs.disk_there)} that are free on the disk"
    return f"Trained at {best.side_px} px with {base} it takes {takes}, {room}, and its licence {USE[view.use]}."


def _why_pocket(all_needs: Sequence[ModelNeeds]) -> str:
    """Why none of the others: memory, or disk."""
    least = min((min(need.memory for need in needs.table) for needs in all_needs), default=0)
    there = next((needs.memory_there for needs in all_needs), 0)
    if least > there:
        return (
            f"The larger models take at least {memory_size(least)} of memory, and {memory_size(there)} are there: "
            "Pocket shows the way."
        )
    free = next((needs.disk_there for needs in all_needs), 0)
    return f"The larger models find no room beside their download: {size(free)} are free. Free some, and they fit."
