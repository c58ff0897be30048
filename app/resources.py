"""Where templates and static files are: beside `app` in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder `name` ("templates", "static") that belongs to this installation.

    Raises FileNotFoundError when the installation is damaged.
    """
    for base in (HERE, HERE.parent):
        if (base / name).is_dir():
            return base / name
    raise FileNotFoundError(f"{name} is neither in {HERE} nor beside it; install Likeness again")
