"""Files of this installation, and the command that other machines of a run start.

Templates and static files are beside `app` in a checkout, inside it in an installed wheel.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
JOIN = (sys.executable, "-m", "app.cli", "join")  # in ROOT, on every machine of a distributed run


def folder(name: str) -> Path:
    """The folder `name` ("templates", "static") of this installation.

    Raises FileNotFoundError when the installation is damaged.
    """
    for base in (HERE, HERE.parent):
        if (base / name).is_dir():
            return base / name
    raise FileNotFoundError(f"{name} is neither in {HERE} nor beside it; install Likeness again")
