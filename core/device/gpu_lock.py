"""One process at a time computes on a Mac's GPU: kernel panics have been reported where several did.

    with gpu_lock(waiting): ...      a lock file in the cache folder, which the kernel releases when its holder dies

The file holds the process id of its holder, for the sentence that others get. On CUDA cards and CPUs there is no lock:
several processes may share them.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.device.hardware import Device
from core.device.identity import cache_folder, this_machine
from core.errors import GpuProblem

EXCLUSIVE: frozenset[Device] = frozenset({"metal"})
CHECK_SECONDS = 1.0


@contextmanager
def gpu_lock(
    waiting: Callable[[str], bool] = lambda sentence: True,
    *,
    device: Device | None = None,
    wait_seconds: float = CHECK_SECONDS,
) -> Iterator[None]:
    """Hold the GPU within the block. While another process has it, `waiting` gets a sentence at each check; False ends
    the wait.

    Raises GpuProblem when the wait ends without the GPU.
    """
    device = device or this_machine().device
    if device not in EXCLUSIVE:
        yield
        return
    path = cache_folder() / f"{device}.lock"
    handle = _opened(path)
    try:
        while not _locked(handle):
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
            sentence = f"Another process of Likeness{f' ({holder})' if holder else ''} uses the GPU."
            if not waiting(f"{sentence} Waiting until it has finished."):
                raise GpuProblem(f"{sentence} Start this again when it has finished.")
            time.sleep(wait_seconds)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)  # which releases the lock


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise GpuProblem(
            f"The lock file {path} cannot be opened ({error.strerror}); LIKENESS_CACHE names another folder."
        ) from None


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
