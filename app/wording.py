"""Numbers, times and states as words on a page. Pure functions; the scripts in static/js/dom.js say the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app.jobs.states import Kind, State
from app.tables import now

STATES: dict[State, str] = {
    State.QUEUED: "waiting",
    State.RUNNING: "running",
    State.SUCCEEDED: "done",
    State.FAILED: "failed",
    State.STOPPED: "stopped",
    State.CANCELLED: "taken out",
}

KINDS: dict[Kind, str] = {
    Kind.TRAIN: "Training",
    Kind.CAPTION: "Captions",
    Kind.SAMPLE: "Picture",
    Kind.DOWNLOAD: "Download",
    Kind.EXPORT: "Export",
    Kind.CHECK: "Check",
    Kind.REPORT: "Report",
}


def plural(count: int, one: str, many: str = "") -> str:
    """ "1 photo", "6 photos"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def size(count: float) -> str:
    """Bytes in decimal units, as disks and file managers count them: "9.1 MB"."""
    if count < 1000:
        return f"{count:.0f} B"
    units = ("kB", "MB", "GB", "TB")
    unit = -1
    while count >= 999.5 and unit < len(units) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.1f} {units[unit]}" if count < 10 else f"{count:.0f} {units[unit]}"


def ago(at: datetime, reference: datetime | None = None) -> str:
    """How long ago: "just now", "5 minutes ago", then the date."""
    seconds = ((reference or now()) - at).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{plural(int(seconds // 60), 'minute')} ago"
    if seconds < 86_400:
        return f"{plural(int(seconds // 3600), 'hour')} ago"
    if seconds < 7 * 86_400:
        return f"{plural(int(seconds // 86_400), 'day')} ago"
    return f"{at.day} {at:%B %Y}"


def number(value: Any) -> str:
    """A knob's value as typed into its field: 0.0001, 300, on, 512 768, one line a prompt."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        short = f"{value:.10f}".rstrip("0").rstrip(".")
        return short if float(short or 0) == value else repr(value)
    if isinstance(value, list | tuple):
        return (" " if all(isinstance(each, int) for each in value) else "\n").join(str(each) for each in value)
    return str(value)


def error(kept: Mapping[str, Any] | None) -> str:
    """The sentence of a job's error; empty without one."""
    return str(kept.get("message", "")) if kept else ""
