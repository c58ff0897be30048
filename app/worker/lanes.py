"""Lock files of the lanes: as many jobs run in a lane as it has locks, whichever server started them.

The kernel drops a lock when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from app.jobs.states import Lane

PLACES = {Lane.MEMORY: 1, Lane.IO: 3}


def take(locks: Path, lane: Lane) -> int | None:
    """Hold a place in the lane until this process ends; None when all are held."""
    for place in range(PLACES[lane]):
        handle = hold(locks / f"{lane}-{place}.lock")
        if handle is not None:
            return handle
    return None


def hold(path: Path) -> int | None:
    """An open, locked file handle, or None when another process holds the lock."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
