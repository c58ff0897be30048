"""After which steps a run scores, saves and draws samples.

Pure arithmetic without MLX: the trainer follows it, and the web process forecasts with it.
"""

from __future__ import annotations


def early_scores(every: int) -> tuple[int, ...]:
    """Additional steps with a score around the first interval, a factor sqrt 2 apart, since most happens early.

    40 -> 5, 7, 10, 14, 20, 28, 57.
    """
    return tuple(round(every * 2 ** (half / 2)) for half in (-6, -5, -4, -3, -2, -1, 1))


def scores(step: int, steps: int, every: int) -> bool:
    """Whether the photos are scored after `step`."""
    return step % every == 0 or step in early_scores(every) or step == steps


def draws(step: int, steps: int, every: int) -> bool:
    """Whether sample pictures are drawn after `step` without a request; never where `every` is 0."""
    return every > 0 and (step % every == 0 or step == steps)


def saves(step: int, steps: int, every: int) -> bool:
    """Whether a checkpoint is written after `step` without a request."""
    return step > 0 and (step % every == 0 or step == steps)
