"""The --out folder of a run: one process at a time, and never the photos' folder.

A lock file in the folder is held while the command runs. The kernel releases the lock when its holder dies, however it
dies; a lock file that is left behind is no obstacle.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import ConfigProblem, FieldProblem, disk_errors_as_problem

LOCK = ".likeness.lock"
NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS)  # of some network drives


@contextmanager
def reserved(out: Path, photos: Path) -> Iterator[None]:
    """Within the block this process alone uses `out`. Of folders made for the lock, those still empty are removed.

    Raises ConfigProblem if another process uses `out`, or if it is a file, or is or contains `photos`; nothing is
    written then.
    """
    if out.is_dir() and any(out.samefile(each) for each in (photos.resolve(), *photos.resolve().parents)):
        raise _refused(f"{out} is or contains the folder of the photos; use another folder")
    made = [each for each in (out, *out.parents) if not each.exists()]
    try:
        with disk_errors_as_problem(out):
            handle = _lock(out)
    except (FileExistsError, NotADirectoryError):
        raise _refused(f"{out} is a file, or is inside one; it must be a folder") from None
    if handle is None:
        raise _refused(f"{out} is in use by another process; wait until it ends, or use another folder")
    try:
        yield
    finally:
        with suppress(OSError):
            (out / LOCK).unlink()  # while it is locked: who opened it meanwhile finds it gone, and tries again
        os.close(handle)
        with suppress(OSError):
            for each in made:
                each.rmdir()


def _lock(folder: Path) -> int | None:
    """An open, locked handle of the folder's lock file, or None when another process holds the lock."""
    path = folder / LOCK
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return handle
            os.close(handle)
            if isinstance(error, BlockingIOError):
                return None
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)  # its holder removed it before we had the lock


def _refused(words: str) -> ConfigProblem:
    return ConfigProblem("Nothing was trained.", [FieldProblem("--out", words)])
