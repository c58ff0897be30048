"""The sizes at which a run would train a project's photos: how many fall in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.actions import models, projects, versions
from app.actions.photo_views import active
from app.database import Database
from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.dataset import buckets, crops
from core.dataset.buckets import Bucket
from core.dataset.crops import Box
from core.dataset.subject_crops import subject_crop
from core.training.check import architecture_of

PIXEL_MULTIPLE = 16  # of a model whose files do not say


@dataclass(frozen=True, slots=True)
class BucketView:
    """A size in pixels, and how many photos (or crops of them) are trained at it."""

    width: int
    height: int
    count: int


@dataclass(frozen=True, slots=True)
class SizeView:
    """One picture size of a run."""

    side_px: int
    buckets: list[BucketView]  # the fullest first
    enlarged: int  # how many are enlarged so much that they are soft
    words: str


def sizes(database: Database, project_id: int, model: str, knobs: Mapping[str, Any]) -> list[SizeView]:
    """For each picture size of these knobs. Raises NotFound, ConfigProblem for sizes that cannot be."""
    entry = models.find(database, model)
    config = resolve(knobs, entry.defaults).config
    architecture = architecture_of(entry.folder) if entry.folder is not None else None
    multiple = architecture.pixel_multiple if architecture is not None else PIXEL_MULTIPLE
    with database.read() as session:
        project = projects.find(session, project_id)
        items = versions.frozen(session, project, session.exec(active(project_id)).all())
    cropped = [(item, _boxes(item, config, multiple)) for item in items]
    found = []
    for side_px in config.sides_px:
        one = replace(config, side_px=side_px, more_sides_px=())
        placed = [each for item, boxes in cropped for each in _placed(item, boxes, one, multiple)]
        soft = sum(times > buckets.ENLARGED_AT_MOST for _, times in placed)
        counted = Counter(bucket for bucket, _ in placed).most_common()
        views = [BucketView(bucket.width, bucket.height, count) for bucket, count in counted]
        words = buckets.counted(bucket for bucket, _ in placed) if placed else "no photos"
        found.append(SizeView(side_px, views, soft, words))
    return found


def _placed(
    item: Mapping[str, Any], boxes: Sequence[Box | None], config: TrainConfig, multiple: int
) -> Iterator[tuple[Bucket, float]]:
    """The bucket of each crop of a photo, and how much the crop is enlarged to it."""
    width, height = int(item["width"]), int(item["height"])
    for box in boxes:
        (bucket,) = buckets.of_photo(config, width, height, box, multiple)
        yield bucket, crops.enlargement(width, height, (bucket.width, bucket.height), box)


def _boxes(item: Mapping[str, Any], config: TrainConfig, multiple: int) -> list[Box | None]:
    """The crops of a photo; of one without, the crop that keeps its subject (core/vision/found.py), else all of it."""
    if item["crops"]:
        return [Box(**crop) for crop in item["crops"]]
    if not item["subject"] or not config.find_subjects:
        return [None]
    size = (int(item["width"]), int(item["height"]))
    bucket = buckets.of_photo(config, *size, None, multiple)[0]
    return [subject_crop(Box(*item["subject"]), size, bucket.width / bucket.height)]
