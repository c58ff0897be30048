"""What a run writes while it goes on: files are finished in a thread of their own, and said when they are whole.

    the run         give(work)             and takes its next step
    the thread      work() -> progress     copy, encode, hash, flush, rename: all that needs no MLX
    the run         written(), rest()      says what is whole by now, or raises what went wrong

One piece of work at a time, in the order in which it was given. MLX's default device and stream are of the process, or
of a thread: so the thread gets bytes, and never an array.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from core import files
from core.training.events import ClassPicture, Progress, Sampled

Work = Callable[[], Progress]
"""Makes something whole on the disk, and is what to say of it then."""


class Writer:
    """The thread of one run, and what it was given."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "writer")
        self._given: deque[Future[Progress]] = deque()

    def give(self, work: Work) -> None:
        """Have `work` done, after all that was given before."""
        self._given.append(self._thread.submit(work))

    def written(self) -> Iterator[Progress]:
        """What became whole since somebody last asked; waits for nothing. Raises what the work raised."""
        while self._given and self._given[0].done():
            yield self._given.popleft().result()

    def rest(self) -> Iterator[Progress]:
        """All that was given and not yet said; waits for each. Raises what the work raised."""
        while self._given:
            yield self._given.popleft().result()

    def end(self) -> None:
        """Wait for what was given, and let the thread go."""
        self._thread.shutdown()


def writing(image: Image.Image | None, said: Sampled | ClassPicture) -> Work:
    """The work of writing a picture as a PNG to where `said` says it is; None is there already. Raises DiskProblem."""

    def work() -> Progress:
        if image is not None:
            with files.atomic_file(said.file) as part:
                image.save(part, "PNG")
        return said

    return work
