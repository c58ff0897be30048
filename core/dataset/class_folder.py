"""The user's own class pictures: a folder of pictures of the class, trained on as drawn class pictures are.

    check    the folder is there and has pictures: cheap, for each look at a form
    read     every picture's header and hash: when a run is requested, and when it begins

Pillow only, for the web process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core import files
from core.dataset import photos
from core.dataset.examples import Example
from core.errors import ConfigProblem, DataProblem, FieldProblem

KNOB = "class_folder"
PICTURES_AT_MOST = 2000
SHOWN_CHARACTERS = 200  # of a wrong path
SHOWN = 5  # unreadable pictures in a sentence


def check(folder: str) -> list[Path]:
    """The pictures in the folder, by name. Raises ConfigProblem."""
    shown = repr(folder if len(folder) <= SHOWN_CHARACTERS else f"{folder[:SHOWN_CHARACTERS]} …")
    try:
        path = Path(folder).expanduser()
        if not path.is_absolute():
            raise _problem(f"is {shown}; give the whole path of the folder, from the root on")
        if not path.is_dir():
            raise _problem(f"is {shown}, which is not a folder on this computer; give the one that the pictures are in")
        found = photos.find(path)
    except DataProblem as problem:
        raise _problem(f"cannot be used: {problem.message}") from None
    except (OSError, RuntimeError, ValueError):  # too long, of an unknown user, not allowed
        raise _problem(f"is {shown}, which cannot be read; give another folder, or allow reading it") from None
    if len(found) > PICTURES_AT_MOST:
        raise _problem(f"has {len(found)} pictures; at most {PICTURES_AT_MOST} are taken, so move some elsewhere")
    return found


def read(folder: str, prompt: str) -> list[Example]:
    """The pictures with the class prompt as their caption; of equal files the first.

    Raises ConfigProblem that names the pictures that cannot be read.
    """
    found: dict[str, Example] = {}
    wrong: list[str] = []
    for path in check(folder):
        try:
            photos.size_of(path)
            digest = files.sha256_of(path)
            found.setdefault(digest, Example(path, digest, prompt, name=path.name))
        except DataProblem as problem:
            wrong.append(f"{path.name} {problem.message}")
        except OSError:
            wrong.append(f"{path.name} cannot be opened")
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise _problem(f"has pictures that cannot be used; replace or remove them. {'; '.join(wrong[:SHOWN])}{more}")
    return list(found.values())


def changed(pinned: Sequence[str], now: Sequence[Example]) -> str:
    """A sentence if the pictures, by hash, are other ones than those that a run was created with; else empty."""
    here = {each.sha256 for each in now}
    gone, new = len(set(pinned) - here), len(here - set(pinned))
    if not gone and not new:
        return ""
    words = [f"{count} {what}" for count, what in ((gone, "missing or changed"), (new, "new")) if count]
    return (
        f"The folder of class pictures has changed since this run was created ({', '.join(words)}). Put back what was "
        "there, or start a new run."
    )


def _problem(words: str) -> ConfigProblem:
    return ConfigProblem("Some settings need another look.", [FieldProblem(KNOB, words)])
