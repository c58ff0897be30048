"""The page of the studio's settings, its use of the disk, and where it is installed."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from typing import Any

from app import settings
from app.actions import disk
from app.actions.settings import get_settings
from app.database import Database
from app.knob_fields import Option
from app.pages.lines import Line
from app.pages.render import Page

THEMES = (Option("system", "As the computer"), Option("light", "Light"), Option("dark", "Dark"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsPage(Page):
    """The studio's settings."""

    template = "settings.html"
    here = "settings"
    themes: tuple[Option, ...]
    run_settings: tuple[SettingField, ...]
    caption_settings: tuple[SettingField, ...]
    model_settings: tuple[SettingField, ...]
    send_settings: tuple[SettingField, ...]
    home: str  # the home folder
    used_bytes: int
    free_bytes: int
    disk: tuple[DiskLine, ...]
    about: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class SettingField:
    """One setting."""

    key: str
    label: str
    sentence: str
    kind: str  # of app.settings.Choice
    value: Any
    long: bool  # takes several lines


@dataclass(frozen=True, slots=True)
class DiskLine:
    """What one kind of file takes."""

    label: str
    folder: str  # below the home folder; empty for the rest
    bytes: int


def settings_page(database: Database) -> SettingsPage:
    values = get_settings(database)
    fields = {
        key: SettingField(key, choice.label, choice.sentence, choice.kind, values[key], _is_long(key))
        for key, choice in settings.SETTINGS.items()
    }
    caption_settings = tuple(field for key, field in fields.items() if key.startswith("caption"))
    model_settings = tuple(field for key, field in fields.items() if key.startswith("model"))
    send_settings = tuple(field for key, field in fields.items() if key.startswith("send"))
    elsewhere = (*caption_settings, *model_settings, *send_settings)
    used = disk.use(database)
    return SettingsPage(
        themes=THEMES,
        run_settings=tuple(field for field in fields.values() if field not in elsewhere),
        caption_settings=caption_settings,
        model_settings=model_settings,
        send_settings=send_settings,
        home=used.home,
        used_bytes=used.total,
        free_bytes=used.free,
        disk=(
            DiskLine("Photos", "photos", used.photos),
            DiskLine("Runs: samples and checkpoints", "runs", used.runs),
            DiskLine("Pictures", "pictures", used.pictures),
            DiskLine("Imported adapters", "adapters", used.adapters),
            DiskLine("Cache, made again when needed", "cache", used.cache),
            DiskLine("Trash", "trash", used.trash),
            DiskLine("Database and the rest", "", used.other),
        ),
        about=(
            Line("Python", platform.python_version()),
            Line("Computer", f"{platform.system()} {platform.machine()}"),
            Line("Program", sys.prefix),
        ),
    )


def _is_long(key: str) -> bool:
    return key.endswith(("_prompt", "_folders"))
