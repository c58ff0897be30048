"""From a page to HTML: the template environment with its filters, and what every page has around it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, ClassVar

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app import __version__, resources, wording
from app.jobs.states import State
from core.device.units import memory_size
from core.training.diagnosis import Kind

THEMES = ("system", "light", "dark")


@dataclass(frozen=True, slots=True)
class NavItem:
    """One entry of the main navigation."""

    name: str
    label: str
    url: str


NAV_ITEMS = (
    NavItem("projects", "Projects", "/"),
    NavItem("pictures", "Pictures", "/pictures"),
    NavItem("queue", "Queue", "/queue"),
    NavItem("models", "Models", "/models"),
    NavItem("settings", "Settings", "/settings"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page has around it."""

    here: str  # name of the current page's navigation item
    theme: str  # system, light or dark: this browser's choice, from its cookie
    active_jobs: int  # how many run or wait
    version: str = __version__
    nav_items: tuple[NavItem, ...] = NAV_ITEMS
    words: Mapping[str, Any] = dataclasses.field(default_factory=lambda: wording.SCRIPT_WORDS)  # for the scripts


class Page:
    """A page knows its template and its item in the navigation. Subclasses are frozen dataclasses."""

    template: ClassVar[str]
    here: ClassVar[str] = "projects"


def state_word(state: State) -> str:
    """ "waiting", "running", "done" ..."""
    return wording.STATES[state]


def source_word(source: str) -> str:
    """Where a knob's value comes from: "default", "from the model", "yours"."""
    return wording.SOURCES[source]


def tone(kind: Kind) -> str:
    """The CSS class of a diagnosis: empty, warn or bad."""
    return wording.TONES[kind]


def parameter_count(count: int) -> str:
    """A count of parameters: "17.8 million", "11.9 billion"."""
    return f"{count / 1e9:.1f} billion" if count >= 1e9 else f"{count / 1e6:.1f} million"


def clock_time(at: datetime) -> str:
    """The time of day on this computer: "14:03:59"."""
    return f"{at.astimezone():%H:%M:%S}"


FILTERS: dict[str, Callable[..., str]] = {
    "ago": wording.ago,
    "clock_time": clock_time,
    "parameter_count": parameter_count,
    "memory_size": memory_size,
    "number": wording.number,
    "plural": wording.plural,
    "size": wording.size,
    "source_word": source_word,
    "state_word": state_word,
    "tone": tone,
}


@cache
def templates() -> Environment:
    """The templates; a name that no page declares is an error, not an empty place."""
    environment = Environment(
        loader=FileSystemLoader(resources.folder("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def render(request: Request, page: Any, *, active_jobs: int = 0, status: int = 200) -> HTMLResponse:
    """The page (an instance of a `Page` dataclass) as HTML."""
    theme = request.cookies.get("likeness-theme", "system")
    frame = Frame(page.here, theme if theme in THEMES else "system", active_jobs)
    fields = {field.name: getattr(page, field.name) for field in dataclasses.fields(page)}
    text = templates().get_template(page.template).render(frame=frame, **fields)
    return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})
