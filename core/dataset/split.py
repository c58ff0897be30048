"""The split into training and held-out photos, as the knob `held_out` requests.

    auto            hold out one photo of eight or more; of fewer, each is worth more in training
    none            train on every photo
    3               hold out so many, chosen by the run's seed (core/training/validation.py)
    a.jpg, b.jpg    hold out these; a name may have a comma in it: the longest name that is there counts

Plain Python, so that the web process rejects a wrong choice before it creates a job.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import ConfigProblem, FieldProblem

NAMED_AT_MOST, SHOWN_CHARACTERS = 6, 80  # photos, and characters of one, in a message
DIGITS_AT_MOST = 9  # a longer number is too many photos
AUTO_FROM = 8  # photos; a second held-out photo would double the cost of scoring (bench/readable_loss.py)


def held_out(choice: str, names: Sequence[str]) -> int | tuple[int, ...]:
    """How many of the photos with these `names` are held out, or the indices of those that are.

    Raises ConfigProblem for an unknown name, and when no photo would be left to train on.
    """
    choice = choice.strip()
    found: int | tuple[int, ...]
    if choice in names:  # a name may have a comma in it, or be a number
        found = _indices([choice], names)
    elif choice.lower() == "auto":
        return int(len(names) >= AUTO_FROM)
    elif choice.lower() == "none":
        return 0
    elif choice.isdecimal():
        found = int(choice) if len(choice) <= DIGITS_AT_MOST else len(names)
    else:
        found = _indices(_named(choice, names), names)
    held = found if isinstance(found, int) else len(found)
    if held >= len(names):
        photos = "1 photo" if len(names) == 1 else f"{len(names)} photos"
        raise _wrong(
            f"is {_short(choice)!r}, and there {'is' if len(names) == 1 else 'are'} {photos}; leave one to train on"
        )
    return found


def _named(choice: str, names: Sequence[str]) -> list[str]:
    """The names in a list with commas, also those that have commas themselves; unknown ones part by part."""
    known, parts, found = set(names), choice.split(","), []
    start = 0
    while start < len(parts):
        joined = ((end, ",".join(parts[start:end]).strip()) for end in range(len(parts), start, -1))
        end, name = next((pair for pair in joined if pair[1] in known), (start + 1, parts[start].strip()))
        found += [name] if name else []
        start = end
    return found


def _indices(requested: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """The indices of the named photos."""
    missing = [repr(_short(name)) for name in requested if name not in names][:NAMED_AT_MOST]
    if missing or not requested:
        some = ", ".join(names[:NAMED_AT_MOST]) + (", ..." if len(names) > NAMED_AT_MOST else "")
        unknown = ", ".join(missing) or "no photo"
        raise _wrong(f"names {unknown}; it can be auto, none, a number, or photos by name, here {some}")
    return tuple(index for index, name in enumerate(names) if name in requested)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …"


def _wrong(message: str) -> ConfigProblem:
    return ConfigProblem("Some settings need another look.", [FieldProblem("held_out", message)])
