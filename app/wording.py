"""States, kinds, sources, sizes and times in words. Pure functions and tables.

Pages hand `SCRIPT_WORDS` to their scripts (templates/base.html), which define none of these words themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app.jobs.states import Kind, State
from app.tables import now
from core.device.units import disk_size
from core.training import diagnosis

STATES: dict[State, str] = {
    State.QUEUED: "waiting",
    State.RUNNING: "running",
    State.SUCCEEDED: "done",
    State.FAILED: "failed",
    State.STOPPED: "stopped",
    State.CANCELLED: "removed",
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

SOURCES = {
    "default": "default",
    "model": "from the model",
    "preset": "from the preset",
    "configuration": "from the configuration",
    "user": "yours",
    "photos": "for your photos",
    "optimizer": "the optimizer's",
}
"""Where the value of a knob comes from: core.config.resolve.Source, and two that the new-run form adds."""

TONES: dict[diagnosis.Kind, str] = {"early": "", "learning": "", "flat": "", "memorising": "warn", "diverged": "bad"}
"""The CSS class of the note that shows a diagnosis."""

QUEUED = "Waiting for its turn"
STOPPING = {"stop": "Finishing this step, then saving", "now": "Stopping; the last checkpoint stays"}
"""The phase of a running job that is asked to stop, by the value of `Job.stop`."""

NO_CHECKPOINT: dict[State, str] = {
    State.QUEUED: f"{QUEUED}. The first pictures show what the base makes of your prompts.",
    State.RUNNING: "Too early to say. The first checkpoint comes at step {}, or with Save now.",
    State.STOPPED: "It stopped before its first checkpoint.",
    State.FAILED: "It failed before its first checkpoint.",
    State.SUCCEEDED: "It has no checkpoint.",
    State.CANCELLED: "It was removed before it started.",
}
"""What the page of a run says instead of which checkpoint is best."""

SETTINGS_CODES = ("config", "data", "model", "adapter", "training", "memory")
"""Codes of core/errors.py for which a failed run offers to edit its settings: photos and model are chosen with them."""

SCRIPT_WORDS: dict[str, Any] = {
    "states": STATES,
    "sources": SOURCES,
    "tones": TONES,
    "queued": QUEUED,
    "stopping": STOPPING,
    "editable": SETTINGS_CODES,
    "unsaved": NO_CHECKPOINT,
}
"""What scripts need of the above, as JSON; read by static/js/lib/wording.js."""


def plural(count: int, one: str, many: str = "") -> str:
    """ "1 photo", "6 photos"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


size = disk_size  # of files and disks; memory has core.device.units.memory_size


def duration(seconds: float) -> str:
    """A measured duration: "8.4 s", "1 min 15 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def rough_duration(seconds: float) -> str:
    """An estimated duration: "40 seconds", "12 minutes", "1.5 hours"."""
    if seconds < 90:
        return f"{max(round(seconds / 10) * 10, 10)} seconds"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"


def ago(at: datetime, reference: datetime | None = None) -> str:
    """How long ago: "just now", "5 minutes ago"; after a week, the date."""
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
    """A knob's value as typed into its field: 0.0001, 300, on, 512 768; lists of texts with one line each."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        short = f"{value:.10f}".rstrip("0").rstrip(".")
        return short if float(short or 0) == value else repr(value)
    if isinstance(value, list | tuple):
        return (" " if all(isinstance(each, int) for each in value) else "\n").join(str(each) for each in value)
    return str(value)


def is_of_settings(saved: Mapping[str, Any] | None) -> bool:
    """Whether a job's error is one that other settings of a new run may avoid."""
    return saved is not None and saved.get("code") in SETTINGS_CODES


def error(saved: Mapping[str, Any] | None) -> str:
    """The sentence of a job's error; empty without one."""
    return str(saved.get("message", "")) if saved else ""
