"""A run and its caller: events go out, requests come in.

    yield from reporter.report(event)        the caller receives it, and whatever was written to disk meanwhile
    reporter.request                         what the caller has requested since

Whatever takes long (encoding, drawing) goes through `forward` or `draw`, which end early when a stop is requested.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from itertools import chain
from typing import TypeVar

from core.models.base import Family
from core.training.background_writer import Work, Writer
from core.training.events import Phase, Progress, Request
from core.training.group import Group

T = TypeVar("T")
Events = Generator[Progress, Request | None, None]
"""Yields progress; the caller may answer each with a request."""

SECONDS_BETWEEN_REPORTS = 1.0  # while one picture is drawn, so that the caller can stop in the middle of it


class Reporter:
    """Yields a run's events, including those of the background writer, and collects the caller's requests."""

    def __init__(self, family: Family, group: Group, writer: Writer) -> None:
        self.request = Request.NONE
        self.writer = writer
        self._family, self._group = family, group

    @property
    def stopping(self) -> bool:
        return Request.STOP in self.request

    def report(self, event: Progress) -> Events:
        """Yield the event, then one for each file that the writer has completed."""
        for each in chain([event], self.writer.completed()):
            self.request |= (yield each) or Request.NONE

    def flush(self) -> Events:
        """Wait until everything submitted to the writer is on disk, and report it."""
        for event in self.writer.drain():
            yield from self.report(event)

    def forward(self, work: Generator[Progress, Request | None, T]) -> Generator[Progress, Request | None, T | None]:
        """Report what `work` yields and return what it returns; None when a stop interrupts it. Raises MachineLost."""
        while not self.stopping:
            try:
                event = next(work)
            except StopIteration as done:
                result: T = done.value
                return result
            yield from self.report(event)
            self._group.check()
        self._family.free("text", "vae")  # one of them was in use
        return None

    def draw(self, phase: str, count: int, pictures: Iterable[Work | None], *, more: bool = False) -> Events:
        """Submit each picture to the writer; a None comes between two sampler steps. Raises MachineLost.

        With `more` to be drawn at once, the decoder stays in memory.
        """
        done, reported = 0, time.monotonic()
        yield from self.report(Phase(phase, 0, count))
        for picture in pictures:
            if picture is not None:
                done += 1
                self.writer.submit(picture)
            if picture is not None or time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
                reported = time.monotonic()
                yield from self.report(Phase(phase, done, count))
            self._group.check()
            if self.stopping:
                break
        if not more or self.stopping:
            self._family.free("vae")
