"""States, requests, lanes and kinds of jobs. `TRANSITIONS` lists the allowed changes of state:

                   claim                      end
    enqueue --> QUEUED ------> RUNNING ----------------> SUCCEEDED   all of it is done
                 |  ^            |  |------------------> FAILED      `error` says why
                 |  |            |  '------------------> STOPPED     ended by the user
                 |  |            |
                 |  |            |  release: the server shuts down, or a run goes first; STOPPED if a stop was
                 |  |            |           pending, or at a shutdown if automatic resume is off
                 |  |<-----------'  record_death: the process died; STOPPED if a stop was pending, FAILED at
                 |  |                             MAX_DEATHS deaths without a new checkpoint, and at once when
                 |  |                             automatic resume is off
                 |  |
                 |  '-- requeue, from SUCCEEDED (with more steps), FAILED or STOPPED
                 |
                 '-- stop -----> CANCELLED if it never ran, STOPPED if it did

The verbs beside the arrows are functions of `store.py`.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"  #: waits for a free slot in its lane
    RUNNING = "running"  #: a process has claimed it
    SUCCEEDED = "succeeded"  #: all of it is done
    FAILED = "failed"  #: `error` says why; can be queued again
    STOPPED = "stopped"  #: ended by the user; resumes from its last checkpoint, if it has one
    CANCELLED = "cancelled"  #: removed before it ever ran


class Stop(StrEnum):
    """The user's request to end a running job: a column of the row, not a state.

    The heartbeat thread of the job's process reads it every 0.5 s. STOP takes effect after the current step; NOW ends
    the process from the heartbeat thread.
    """

    NONE = "none"
    STOP = "stop"  #: finish the current step, save, end
    NOW = "now"  #: drop the current step; the last checkpoint stays


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


TRANSITIONS: frozenset[tuple[State, State]] = frozenset(
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

MAX_DEATHS = 3  # the job fails at this many deaths without a new checkpoint
