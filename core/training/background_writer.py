"""Writes a run's files in a thread of its own while the run takes its next step.

    the run         submit(work)                and takes its next step
    the thread      work() -> event             copy, encode, hash, flush, rename: everything that needs no MLX
    the run         completed(), drain()        yields the events of completed work, or raises what the work raised

Work is done one piece at a time, in order of submission. MLX's default device and stream belong to the process or to a
thread, so the thread gets bytes, never an array.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from core import files
from core.training.events import ClassPicture, Progress, Sampled

Work = Callable[[], Progress]
"""Writes something completely and returns the event that reports it."""


class Writer:
    """One run's writer thread and its pending work."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "writer")
        self._pending: deque[Future[Progress]] = deque()

    def submit(self, work: Work) -> None:
        """Queue `work` behind everything submitted before."""
        self._pending.append(self._thread.submit(work))

    def completed(self) -> Iterator[Progress]:
        """The events of work completed since the last call, without waiting. Raises what the work raised."""
        while self._pending and self._pending[0].done():
            yield self._pending.popleft().result()

    def drain(self) -> Iterator[Progress]:
        """The events of all pending work, waiting for each. Raises what the work raised."""
        while self._pending:
            yield self._pending.popleft().result()

    def close(self) -> None:
        """Wait for pending work and end the thread."""
        self._thread.shutdown()


def writing(image: Image.Image | None, event: Sampled | ClassPicture) -> Work:
    """Work that writes a picture as a PNG to `event.file`; None if the file exists already. Raises DiskProblem."""

    def work() -> Progress:
        if image is not None:
            with files.atomic_file(event.file) as part:
                image.save(part, "PNG")
        return event

    return work
