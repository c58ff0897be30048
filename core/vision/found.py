"""Photos of a folder, each with the crop and the mask of its subject, found in all of them together.

your crop or mask   ->  as it is
none                ->  a crop that keeps the subject, in the shape of the bucket that will train it; its mask
unsure, nothing     ->  the centre, without a mask
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from core import files
from core.config.train import TrainConfig
from core.dataset import buckets, masks, photos
from core.dataset.examples import Example
from core.dataset.masks import Mask
from core.dataset.subject_crops import subject_crop
from core.errors import DataProblem
from core.vision import analysers, pictures, subject
from core.vision.results import UNSURE, Subject


def with_subjects(examples: Sequence[Example], config: TrainConfig, multiple: int, cache: Path) -> list[Example]:
    """The examples with what was found; `multiple` is the family's, of the sides of a bucket in pixels.

    Masks are written into cache/masks/. Raises DiskProblem.
    """
    found = find_subjects([example.photo for example in examples])
    return [
        _completed(example, one, config, multiple, cache) if one is not None and one.sure >= UNSURE else example
        for example, one in zip(examples, found, strict=True)
    ]


def find_subjects(paths: Sequence[Path]) -> list[Subject | None]:
    """The subject of each photo of a set; None where nothing stands out, and where the photo cannot be read."""
    analyser = analysers.best()
    analyses, small = {}, {}
    for number, path in enumerate(paths):
        try:
            photo_HW3, size = pictures.read(path)
        except (DataProblem, FileNotFoundError):  # the trainer names it
            continue
        analyses[number] = analyser.analyse(photo_HW3, size)
        small[number] = pictures.shrunk(photo_HW3, pictures.SMALL_SIDE_PX)
    found = subject.reconcile(analyses, small.__getitem__)
    return [found.get(number) for number in range(len(paths))]


def _completed(example: Example, found: Subject, config: TrainConfig, multiple: int, cache: Path) -> Example:
    size = photos.size_of(example.photo)
    box, mask = example.box, example.mask
    if box is None:
        bucket = buckets.of_photo(config, *size, None, multiple)[0]
        box = subject_crop(found.box, size, bucket.width / bucket.height)
    return replace(example, box=box, mask=mask or _mask_of(found.mask, size, cache))


def _mask_of(small_png: bytes, size: tuple[int, int], cache: Path) -> Mask:
    png = io.BytesIO()
    with Image.open(io.BytesIO(small_png)) as small:
        masks.enlarged(small, size).save(png, "PNG")
    sha256 = files.sha256_of(png.getvalue())
    file = cache / "masks" / f"{sha256}.png"
    if not file.is_file():
        files.write_bytes(file, png.getvalue())
    return Mask(file, sha256)
