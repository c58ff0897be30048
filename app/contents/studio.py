"""The pages about the studio itself: its queue and its settings."""

from __future__ import annotations

import platform
import sys

from app import settings, wording
from app.actions import disk, jobs
from app.actions import settings as settings_actions
from app.contents.lines import ALL, job_line, newest_event
from app.database import Database
from app.jobs.states import State
from app.knob_fields import Option
from app.page_parts import DiskLine, Line, SettingField
from app.pages import JobsPage, SettingsPage
from app.tables import now

THEMES = (Option("system", "As the computer"), Option("light", "Light"), Option("dark", "Dark"))


def queue(database: Database) -> JobsPage:
    after = newest_event(database)
    current = jobs.queue(database)
    ended = [job for job in jobs.list_jobs(database, limit=ALL) if job.ended_at and job not in current]
    ended.sort(key=lambda job: job.ended_at or now(), reverse=True)
    return JobsPage(
        after=after,
        running=tuple(job_line(database, job) for job in current if job.state is State.RUNNING),
        queued=tuple(job_line(database, job) for job in current if job.state is State.QUEUED),
        ended=tuple(job_line(database, job) for job in ended[:30]),
    )


def settings_page(database: Database) -> SettingsPage:
    values = settings_actions.get_settings(database)
    drawn = {
        key: SettingField(key, one.label, one.sentence, one.kind, values[key], key.endswith(("_prompt", "_folders")))
        for key, one in settings.SETTINGS.items()
    }
    captioning = tuple(field for key, field in drawn.items() if key.startswith("caption"))
    about_models = tuple(field for key, field in drawn.items() if key.startswith("model"))
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
        run_settings=tuple(field for field in drawn.values() if field not in (*captioning, *about_models)),
        caption_settings=captioning,
        model_settings=about_models,
        home=used.home,
        free_words=f"{wording.size(used.total)} in all; {wording.size(used.free)} of the disk are free.",
        disk=tuple(DiskLine(label, folder, wording.size(count)) for label, folder, count in kinds),
        about=(
            Line("Python", platform.python_version()),
            Line("Computer", f"{platform.system()} {platform.machine()}"),
            Line("Program", sys.prefix),
        ),
    )
