"""The example project: the photos that come with Pocket, with their captions, ready to train."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from app.actions import photo_changes, photos, projects
from app.actions.projects import ProjectView
from app.database import Database
from app.errors import NotFound
from core import files
from core.dataset import caption_files
from core.dataset import photos as reading
from core.pocket import assets

NAME = "Example"


def names() -> list[str]:
    """The files of the example photos; none while Pocket is incomplete."""
    complete = assets.EXAMPLES.is_dir() and assets.WEIGHTS.is_dir()
    return [path.name for path in reading.find(assets.EXAMPLES)] if complete else []


def file_of(name: str) -> Path:
    """One of the example photos. Raises NotFound."""
    if name not in names():
        raise NotFound(f"There is no example photo called {name}.")
    return assets.EXAMPLES / name


def create(database: Database) -> ProjectView:
    """Create the project; after an error, nothing of it stays. Raises DataProblem, DiskProblem."""
    found = reading.find(assets.EXAMPLES)
    project = projects.create(database, NAME, assets.EXAMPLE_TRIGGER, assets.EXAMPLE_CLASS_WORD)
    try:
        for path in found:
            with tempfile.TemporaryDirectory(dir=database.home.uploads) as folder:
                copy = Path(shutil.copyfile(path, Path(folder) / path.name))
                photo, _ = photos.add(database, project.id, path.name, copy, files.sha256_of(copy), batch=NAME)
            if text := caption_files.read(path.with_suffix(".txt")):
                photo_changes.change(database, photo.id, {"caption": text})
    except Exception:
        projects.delete(database, project.id)
        raise
    return projects.get_project(database, project.id)
