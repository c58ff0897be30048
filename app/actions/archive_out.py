"""The photos of a project as a zip, with captions and masks, in the layout of another trainer. Originals are untouched.

    ai-toolkit    A.jpg  A.txt  masks/A.png           folder_path, and mask_path: masks
    kohya         img/1_sks dog/A.jpg  A.txt          image_dir, and conditioning_data_dir: mask
                  mask/A.png

White is trained in both, black is not. likeness.json holds crops and boxes, for an archive that comes back to Likeness.
Photos that are set aside are left out.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from app.actions import masks, projects, versions
from app.actions.photo_views import active
from app.actions.runs import file_word
from app.database import Database
from app.errors import Conflict, NotFound
from app.home import Home
from core.dataset import names
from core.dataset.archives import FACTS
from core.errors import disk_errors_as_problem


class Layout(StrEnum):
    AI_TOOLKIT = "ai-toolkit"
    KOHYA = "kohya"


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A zip that was made, to be sent and then deleted."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Places:
    """Where a layout has its files."""

    photos: str  # folders, with a slash at the end where there are any
    masks: str


def write(database: Database, project_id: int, layout: Layout) -> ArchiveFile:
    """Make the zip among the uploads; who sends it deletes it.

    Raises NotFound, Conflict when there are no photos, DiskProblem.
    """
    with database.read() as session:
        project = projects.find(session, project_id)
        rows = session.exec(active(project_id)).all()
        items = versions.frozen(session, project, rows)
        boxes = {row.sha256: row.subject for row in rows}
    if not items:
        raise Conflict(f"There are no photos in {project.name} to pack.")
    class_folder = names.clean(f"1_{project.trigger} {project.class_word}.x", "x").removesuffix(".x")
    places = Places(f"img/{class_folder}/", "mask/") if layout is Layout.KOHYA else Places("", "masks/")
    home = database.home
    with disk_errors_as_problem(home.uploads):
        handle, temporary = tempfile.mkstemp(prefix="archive-", suffix=".zip", dir=home.uploads)
        try:
            with (
                open(handle, "wb") as file,
                zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, strict_timestamps=False) as packed,
            ):
                _pack(packed, home, items, boxes, places)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return ArchiveFile(Path(temporary), f"{file_word(project.name)}-{layout}.zip")


def _pack(
    packed: zipfile.ZipFile,
    home: Home,
    items: Sequence[Mapping[str, Any]],
    boxes: Mapping[str, list[float] | None],
    places: Places,
) -> None:
    facts: dict[str, Any] = {}
    used: list[str] = []
    for item in items:
        # A caption and a mask have their photo's name without its ending, so no two photos may share that.
        stem = names.free(PurePosixPath(item["name"]).stem, used)
        used.append(stem)
        path = f"{places.photos}{stem}.{item['extension']}"
        photo = home.photo(item["sha256"], item["extension"])
        if not photo.is_file():
            raise NotFound(f"The file of {item['name']} is no longer there.")
        packed.write(photo, path)
        packed.writestr(f"{places.photos}{stem}.txt", item["caption"] + "\n", zipfile.ZIP_DEFLATED)
        if item["mask"]:
            mask = masks.of_size(home, item["mask"], (item["width"], item["height"]))
            packed.write(mask, f"{places.masks}{stem}.png")
        facts[path] = {"crops": item["crops"], "subject": boxes[item["sha256"]]}
    packed.writestr(FACTS, json.dumps({"photos": facts}, indent=1), zipfile.ZIP_DEFLATED)
