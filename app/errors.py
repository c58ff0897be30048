"""What can go wrong on the way to an answer, beside the problems of `core/errors.py`.

Problem
+ NotFound       there is no such project, photo, run ...   HTTP 404   code "not_found"
+ Conflict       the current state does not allow it        HTTP 409   code "conflict"
+ TooLarge       more bytes than the limit                  HTTP 413   code "too_large"
+ HomeProblem    the home folder cannot be used             HTTP 500   code "home"
+ Busy           another program holds the database's lock  HTTP 503   code "busy"

ClaimLost        the job was claimed by a newer attempt; this process ends without writing anything more
"""

from __future__ import annotations

from core.errors import DiskProblem, Problem


class NotFound(Problem):
    """The project, photo, run ... does not exist, or not any more."""

    code = "not_found"


class Conflict(Problem):
    """The current state does not allow this action; the message says which states do."""

    code = "conflict"


class TooLarge(Problem):
    """More bytes than the limit."""

    code = "too_large"


class HomeProblem(Problem):
    """The home folder cannot be used: on a network drive, somebody else's, or its database is damaged or newer ..."""

    code = "home"


class Busy(Problem):
    """Another program has held the lock of the database for longer than a request waits."""

    code = "busy"


class ClaimLost(Exception):
    """The job no longer runs as this attempt: this process is a left-over and must write nothing more."""


def status_of(problem: Problem) -> int:
    """The HTTP status of the response to a problem."""
    if isinstance(problem, NotFound):
        return 404
    if isinstance(problem, Conflict):
        return 409
    if isinstance(problem, TooLarge):
        return 413
    if isinstance(problem, HomeProblem):
        return 500
    if isinstance(problem, Busy):
        return 503
    return 507 if isinstance(problem, DiskProblem) else 422
