"""One folder for all executions of a process: making and removing folders takes longer than the rest."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

MEMORY = Path("/dev/shm")


def parent() -> Path:
    """Where scratch files go: into memory where Linux has such a folder, unless TMPDIR is in it already."""
    usual = Path(tempfile.gettempdir())
    return MEMORY if os.access(MEMORY, os.W_OK) and MEMORY not in usual.parents else usual


@cache
def folder() -> Path:
    """Gone when the process ends; empty at first."""
    made = Path(tempfile.mkdtemp(prefix="likeness-fuzz-", dir=parent()))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
