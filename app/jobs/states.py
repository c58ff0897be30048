"""The life of a job.

    queued --> running --> succeeded ------.
       |          |------> failed -----------+--> queued   the user resumes, continues with more steps, or retries
       |          |------> stopped -----------'
       |          '------> queued      its process died, or the studio was closed: resumes by itself from its last
       |                               checkpoint; failed after three deaths with no new checkpoint in between
       |--> cancelled                  taken out before it ran (stop on a queued job)
       '--> stopped                    taken out while it waited to go on: what it had saved stays, and can be resumed

`store.py` is the only module that writes `Job.state`. Each of its writes names the state and the attempt that it
expects to find, so a row can only move along an arrow and a left-over process can write nothing.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"  #: waits for its lane to be free
    RUNNING = "running"  #: a process has claimed it
    SUCCEEDED = "succeeded"  #: done, all of it
    FAILED = "failed"  #: ended with a sentence in `error`; can be queued again
    STOPPED = "stopped"  #: the user asked; what was done is saved
    CANCELLED = "cancelled"  #: taken out before it ran


class Stop(StrEnum):
    """What the user requests of a running job. A request is not a state: the job reads it after each step."""

    NONE = "none"
    STOP = "stop"  #: finish the step, save, end
    NOW = "now"  #: drop the step and end with the last checkpoint


class Lane(StrEnum):
    MEMORY = "memory"  #: holds a model: one at a time
    IO = "io"  #: reads, writes, downloads: beside it, a few at a time


class Kind(StrEnum):
    TRAIN = "train"
    CAPTION = "caption"
    SAMPLE = "sample"
    DOWNLOAD = "download"
    EXPORT = "export"
    IMPORT = "import"
    CHECK = "check"
    REPORT = "report"

    @property
    def lane(self) -> Lane:
        return Lane.MEMORY if self in (Kind.TRAIN, Kind.CAPTION, Kind.SAMPLE) else Lane.IO


ARROWS: frozenset[tuple[State, State]] = frozenset(
    {
        (State.QUEUED, State.RUNNING),
        (State.QUEUED, State.CANCELLED),
        (State.QUEUED, State.STOPPED),
        (State.RUNNING, State.SUCCEEDED),
        (State.RUNNING, State.FAILED),
        (State.RUNNING, State.STOPPED),
        (State.RUNNING, State.QUEUED),
        (State.SUCCEEDED, State.QUEUED),
        (State.FAILED, State.QUEUED),
        (State.STOPPED, State.QUEUED),
    }
)

ENDED: frozenset[State] = frozenset({State.SUCCEEDED, State.FAILED, State.STOPPED, State.CANCELLED})

DEATHS_ALLOWED = 3  # without a new checkpoint in between; the job may be what kills its process
