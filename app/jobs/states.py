"""States, requests, lanes and kinds of jobs. `store.py` draws the life of a job; `ARROWS` is that drawing as data."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"  #: waits for a free place in its lane
    RUNNING = "running"  #: a process has claimed it
    SUCCEEDED = "succeeded"  #: all of it is done
    FAILED = "failed"  #: `error` says why; can be queued again
    STOPPED = "stopped"  #: the user stopped it; what was done is saved, and it can be queued again
    CANCELLED = "cancelled"  #: removed before it ever ran


class Stop(StrEnum):
    """The user's request to end a running job. It is not a state: the job reads it after each step."""

    NONE = "none"
    STOP = "stop"  #: finish the step, save, end
    NOW = "now"  #: drop the step and end with the last checkpoint


class Lane(StrEnum):
    MEMORY = "memory"  #: holds a model in memory: one job at a time
    IO = "io"  #: reads, writes, downloads: a few at a time, beside the memory lane


class Kind(StrEnum):
    TRAIN = "train"
    CAPTION = "caption"
    SAMPLE = "sample"
    DOWNLOAD = "download"
    EXPORT = "export"
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

DEATHS_ALLOWED = 3  # without a new checkpoint in between: the job itself may be what kills its process
