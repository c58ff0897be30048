"""The pages about the studio itself: its queue, its models, its settings."""

from __future__ import annotations

import platform
import sys

from app import settings, wording
from app.actions import disk, jobs, models
from app.actions import settings as settings_actions
from app.contents.lines import ALL, job_line, newest_event
from app.database import Database
from app.jobs.states import State
from app.knob_fields import Option
from app.page_parts import DiskLine, Line, ModelCard, SettingField
from app.pages import JobsPage, ModelsPage, SettingsPage
from app.tables import now
from core.config import knobs

THEMES = (Option("system", "As the computer"), Option("light", "Light"), Option("dark", "Dark"))


def queue(database: Database) -> JobsPage:
    after = newest_event(database)
    current = jobs.queue(database)
    ended = [job for job in jobs.list_jobs(database, limit=ALL) if job.ended_at and job not in current]
    ended.sort(key=lambda job: job.ended_at or now(), reverse=True)
    return JobsPage(
        after=after,
        running=tuple(job_line(job) for job in current if job.state is State.RUNNING),
        queued=tuple(job_line(job) for job in current if job.state is State.QUEUED),
        ended=tuple(job_line(job) for job in ended[:30]),
    )


def models_page() -> ModelsPage:
    cards = []
    for model in models.list_models():
        brought = ", ".join(
            f"{knobs()[name].label.lower()} {wording.number(value)}"
            for name, value in model.defaults.items()
            if name in ("steps", "side_px", "rank", "learning_rate")
        )
        size = f"{model.parameters / 1e6:,.1f} million parameters" if model.parameters else ""
        cards.append(
            ModelCard(
                name=model.name,
                title=model.title,
                what_for=model.what_for,
                licence=model.licence,
                on_disk=model.on_disk,
                parameters=size,
                problem=model.trouble or "",
                sets=brought,
            )
        )
    return ModelsPage(models=tuple(cards))


def settings_page(database: Database) -> SettingsPage:
    values = settings_actions.get_settings(database)
    drawn = {
        key: SettingField(key, one.label, one.sentence, one.kind, values[key], key.endswith("_prompt"))
        for key, one in settings.SETTINGS.items()
    }
    captioning = tuple(field for key, field in drawn.items() if key.startswith("caption"))
    used = disk.use(database)
    kinds = (
        ("Photos", "photos", used.photos),
        ("Runs: samples and checkpoints", "runs", used.runs),
        ("Pictures", "pictures", used.pictures),
        ("Imported adapters", "adapters", used.adapters),
        ("Cache, made again when needed", "cache", used.cache),
        ("Trash", "trash", used.trash),
        ("Database and the rest", "", used.other),
    )
    return SettingsPage(
        themes=THEMES,
        run_settings=tuple(field for field in drawn.values() if field not in captioning),
        caption_settings=captioning,
        home=used.home,
        free_words=f"{wording.size(used.total)} in all; {wording.size(used.free)} of the disk are free.",
        disk=tuple(DiskLine(label, folder, wording.size(count)) for label, folder, count in kinds),
        about=(
            Line("Python", platform.python_version()),
            Line("Computer", f"{platform.system()} {platform.machine()}"),
            Line("Program", sys.prefix),
        ),
    )
