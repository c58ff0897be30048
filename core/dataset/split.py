"""Which photos a run learns from, and which it only scores itself on: what the knob `held_out` asks for.

    auto            one photo, from eight on: of fewer, each is worth more learned than scored
    none            every photo is trained on
    3               so many, chosen by the run's seed (core/training/validation.py)
    a.jpg, b.jpg    these

Plain Python: the web process answers a wrong choice before a job is made.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import ConfigProblem, FieldProblem

AUTO_FROM = 8  # photos; one more held out would double what scoring costs: bench/readable_loss.py


def wanted(choice: str, names: Sequence[str]) -> int | tuple[int, ...]:
    """How many of the photos called `names` are held out, or the places of those that are.

    Raises ConfigProblem for a name that no photo has, and when nothing would be left to train on.
    """
    choice = choice.strip()
    found: int | tuple[int, ...]
    if choice in names:  # a name may have a comma in it, or be a number
        found = _places([choice], names)
    elif choice.lower() == "auto":
        return int(len(names) >= AUTO_FROM)
    elif choice.lower() == "none":
        return 0
    elif choice.isdecimal():
        found = int(choice)
    else:
        found = _places([part.strip() for part in choice.split(",") if part.strip()], names)
    held = found if isinstance(found, int) else len(found)
    if held >= len(names):
        photos = "1 photo" if len(names) == 1 else f"{len(names)} photos"
        raise _wrong(f"is {choice!r}, and there {'is' if len(names) == 1 else 'are'} {photos}; leave one to train on")
    return found


def _places(asked: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Where the named photos stand."""
    missing = [repr(name) for name in asked if name not in names]
    if missing or not asked:
        some = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        unknown = ", ".join(missing) or "no photo"
        raise _wrong(f"names {unknown}; it can be auto, none, a number, or photos by name, here {some}")
    return tuple(place for place, name in enumerate(names) if name in asked)


def _wrong(message: str) -> ConfigProblem:
    return ConfigProblem("Some settings need another look.", [FieldProblem("held_out", message)])
