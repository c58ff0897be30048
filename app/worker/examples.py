"""From the frozen list of a run to what the trainer takes: photos with their crops and masks.

crops of the user    ->  as they are; each is a training example
none, but a subject  ->  the crop that keeps it, in the shape of the bucket that will train it
neither              ->  the centre
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlmodel import select

from app.actions import check_jobs, masks, versions
from app.actions.photo_views import found_subjects
from app.home import Home
from app.jobs.states import State
from app.tables import Photo, Version
from app.worker.work import Work
from core.config.train import TrainConfig
from core.dataset import buckets
from core.dataset.crops import Box
from core.dataset.examples import Example
from core.dataset.masks import Mask
from core.dataset.subject_crops import subject_crop

QUEUED_SECONDS = 60.0  # that a run waits for a review that has not begun
LOOK_SECONDS = 0.2


def completed(work: Work, version: Version) -> list[dict[str, Any]]:
    """The items of the version, with the subjects of photos whose review was pending when it was frozen.

    Waits for that review, and writes what it found into the version, once. Raises Stopped.
    """
    items: list[dict[str, Any]] = [dict(item) for item in version.items]
    pending = {item["photo_id"]: item for item in items if item.get("pending")}
    if not pending:
        return items
    _wait_for_review(work, version.project_id)
    with work.transaction() as session:
        found = found_subjects(session, pending)
        for row in session.exec(select(Photo).where(Photo.project_id == version.project_id)):
            number = int(row.id or 0)
            if number in pending and number in found:
                seen = versions.seen_in(row, found[number])
                item = pending[number]
                item |= {name: item[name] or value for name, value in seen.items()}
        for item in items:
            item.pop("pending", None)
        fresh = session.get_one(Version, version.id)
        fresh.items = items
        session.add(fresh)
    return items


def example_of(home: Home, item: Mapping[str, Any], config: TrainConfig, multiple: int) -> Example:
    """One photo of the frozen list. `multiple` is the family's, of the sides of a bucket in pixels."""
    photo = home.photo(item["sha256"], item["extension"])
    boxes = [Box(**each) for each in item.get("crops", [item["crop"]] if item["crop"] else [])]
    if not boxes and item.get("subject") and config.find_subjects:
        size = item["width"], item["height"]
        bucket = buckets.of_photo(config, *size, None, multiple)[0]
        boxes = [subject_crop(Box(*item["subject"]), size, bucket.width / bucket.height)]
    mask = None
    if item.get("mask"):
        mask = Mask(masks.of_size(home, item["mask"], (item["width"], item["height"])), item["mask"])
    first, further = (boxes[0], tuple(boxes[1:])) if boxes else (None, ())
    return Example(photo, item["sha256"], item["caption"], first, item["name"], further_boxes=further, mask=mask)


def _wait_for_review(work: Work, project_id: int) -> None:
    """Until no `check` job of the project is at work; for one that waits, QUEUED_SECONDS at most. Raises Stopped."""
    deadline = time.monotonic() + QUEUED_SECONDS
    work.report_phase("looking at the photos", 0, 1)
    while True:
        work.raise_if_stopped()
        with work.database.read() as session:
            job = check_jobs.pending(session, project_id)
        if job is None or (job.state is State.QUEUED and time.monotonic() > deadline):
            return
        time.sleep(LOOK_SECONDS)
