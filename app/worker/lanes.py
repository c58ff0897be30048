"""Lock files of the lanes: a lane runs as many jobs as it has lock files, whichever server started them.

The kernel releases a lock when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from app.jobs.states import Lane

MAX_JOBS = {Lane.MEMORY: 1, Lane.IO: 3}


def take_slot(locks: Path, lane: Lane) -> int | None:
    """Lock a slot of the lane until this process ends; None when all are taken."""
    for slot in range(MAX_JOBS[lane]):
        handle = lock(locks / f"{lane}-{slot}.lock")
        if handle is not None:
            return handle
    return None


def lock(path: Path) -> int | None:
    """An open, locked file handle, or None when another process holds the lock."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
