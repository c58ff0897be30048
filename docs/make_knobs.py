"""Writes docs/knobs.md from core/config/train.py: `make knobs`. A test holds the two together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("knobs.md")
sys.path.insert(0, str(PAGE.parents[1]))

from core.config.knob import Knob
from core.config.presets import GOALS, TIMES, Change, time_changes
from core.config.train import GROUPS, default_of, kind_of, knobs

TOP = """# Every setting of a run

Made from `core/config/train.py` by `make knobs`; change it there. The same table draws the form on the new-run page and
checks what `likeness train --config FILE` reads: JSON or TOML with these names, such as `{"rank": 8}`. Settings that
are saved in the studio are downloaded as such files. A model has better defaults for some (`likeness models` names the
models), then come the presets below, then saved settings; what you set always wins. A run records which it was.
"""
PRESETS = """## Presets

What the page of a new run sets by goal and by time, from `core/config/presets.py`; a time for a model of 512 px for
which 1000 steps suit the photos.

| preset | sets | on | why |
|---|---|---|---|"""
EXAMPLE = {"side_px": 512}, 1000


def page() -> str:
    """The whole page, as Markdown."""
    parts = [TOP]
    for group, title in GROUPS.items():
        parts.append(f"## {title}\n\n| name | default | may be | what it does |\n|---|---|---|---|")
        parts += [row(name, one) for name, one in knobs().items() if one.group == group]
        parts.append("")
    parts.append(PRESETS)
    for goal in GOALS.values():
        changes = (*goal.all_changes("")[:1], *goal.changes)
        parts += [preset_row(goal.label, change) for change in changes]
    for name, time in TIMES.items():
        parts += [preset_row(time.label, change) for change in time_changes(name, *EXAMPLE)]
    parts.append("")
    return "\n".join(parts)


def row(name: str, one: Knob) -> str:
    unit = f" {one.unit}" if one.unit and default_of(name) != () else ""
    cells = [f"`{name}`", f"{shown(default_of(name))}{unit}", span(name, one), f"**{one.label}.** {one.sentence}"]
    return "| " + " | ".join(cells) + " |"


def preset_row(label: str, change: Change) -> str:
    families = ", ".join(change.families) or "every family"
    return f"| {label} | `{change.knob}` {shown(change.value)} | {families} | {change.reason} |"


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return "<br>".join(f"`{line}`" for line in value) or "none"
    return f"{value:g}" if isinstance(value, float) else f"{value}" or "none"


def span(name: str, one: Knob) -> str:
    kind = kind_of(name)
    if kind in ("int", "float", "sizes"):
        low = f"{one.at_least:g}" if one.at_least is not None else f"more than {one.above:g}"
        return f"{low} to {one.at_most:.10g}" if one.at_most is not None else f"at least {low}"
    if kind == "bool":
        return "on, off"
    if one.choices:
        return ", ".join(one.choices)
    return "up to 8 lines" if kind == "lines" else "text, or none" if one.may_be_empty else "a name"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
