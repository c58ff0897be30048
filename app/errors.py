"""What can go wrong on the way to an answer, beside the problems of `core/errors.py`.

Problem
+ NotFound       there is no such project, photo, run ...   HTTP 404   code "not_found"
+ Conflict       not now: the state does not allow it       HTTP 409   code "conflict"
+ TooLarge       more bytes than are taken                  HTTP 413   code "too_large"
+ HomeProblem    the home folder cannot be used             code "home"

LostJob          a job process finds that its claim is gone; it ends without writing anything more
"""

from __future__ import annotations

from core.errors import DiskProblem, Problem


class NotFound(Problem):
    """What was asked for is not there (any more)."""

    code = "not_found"


class Conflict(Problem):
    """The thing is there, but in a state in which this cannot be done; the message says what can."""

    code = "conflict"


class TooLarge(Problem):
    """More bytes than are taken."""

    code = "too_large"


class HomeProblem(Problem):
    """The home folder cannot be used: synced by a cloud service, on a network drive, or written by a newer version."""

    code = "home"


class LostJob(Exception):
    """The row is no longer running under this attempt: this process is a left-over and must write nothing more."""


def status_of(problem: Problem) -> int:
    """The HTTP status that a problem is answered with."""
    if isinstance(problem, NotFound):
        return 404
    if isinstance(problem, Conflict):
        return 409
    if isinstance(problem, TooLarge):
        return 413
    return 507 if isinstance(problem, DiskProblem) else 422
