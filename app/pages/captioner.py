"""The card of the built-in captioner on the Models page."""

from __future__ import annotations

from dataclasses import dataclass

from app import wording
from app.actions.captioner import CaptionerView
from app.jobs.states import State
from app.pages.lines import Fetching, fetching

GOING = (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionerCard:
    """What of it is here, and what can be done."""

    captioner: CaptionerView
    badge: State  # its icon and colour
    badge_words: str
    problem: str  # why the last installation failed
    verb: str  # the label of the button that installs; empty for no button
    fetching: Fetching | None  # None while no installation waits or runs
    removable: bool


def captioner_card(view: CaptionerView) -> CaptionerCard:
    job = view.job
    going = job is not None and job.state in GOING
    failed = job is not None and job.state is State.FAILED and not view.ready
    badge, words = _badge(view)
    return CaptionerCard(
        captioner=view,
        badge=badge,
        badge_words=words,
        problem=wording.error(job.error) if job is not None and failed else "",
        verb="" if view.ready or view.why_not or going else _verb(view, failed=failed),
        fetching=fetching(job) if job is not None and going else None,
        removable=view.removable and not going,
    )


def _verb(view: CaptionerView, *, failed: bool) -> str:
    if failed:
        return "Try again"
    if view.installed:
        return "Go on" if view.model_bytes_here else "Download its model"
    return "Update" if view.removable else "Install"


def _badge(view: CaptionerView) -> tuple[State, str]:
    if view.ready:
        return State.SUCCEEDED, "ready"
    if view.job is not None and view.job.state in (*GOING, State.FAILED, State.STOPPED):
        running = view.job.state is State.RUNNING
        return view.job.state, "installing" if running else wording.STATES[view.job.state]
    if view.why_not:
        return State.QUEUED, "cannot run here"
    return (State.STOPPED, "incomplete") if view.installed else (State.QUEUED, "not here yet")
