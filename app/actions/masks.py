"""Masks of photos: 8-bit grey PNGs of the photo's size as seen; 255 subject, 128 background, 0 ignored.

    the user's own    masks/<hash>.png as it was sent, of the three values alone        Photo.mask
    one that a review proposed    masks/<hash>.png, smaller than its photo              Subject.mask

A proposed one is enlarged to the photo's size where it is needed, into cache/masks/. Pillow only.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from app.actions import edits
from app.actions.photo_views import PhotoView, found_subjects, mask_of, views
from app.actions.photos import find
from app.database import Database
from app.errors import NotFound
from app.home import Home
from core import files
from core.dataset import masks
from core.errors import DataProblem, FieldProblem

BYTES_AT_MOST = 64 * 2**20


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask of its photo's size."""

    path: Path
    source: str  # "you" or "found"
    sha256: str  # of the mask that it was made from


@dataclass(frozen=True, slots=True)
class Drawn:
    """A mask of the user's own."""

    sha256: str | None  # None: no mask
    box: list[float] | None  # around its subject, in fractions; None where it has none
    png: bytes = b""  # its file


def get(database: Database, photo_id: int) -> MaskFile:
    """The mask in force. Raises NotFound when the photo has none."""
    with database.read() as session:
        row = find(session, photo_id)
        mask = mask_of(row, found_subjects(session, [photo_id]).get(photo_id))
    if mask is None:
        raise NotFound(f"{row.name} has no mask; draw one, or wait until the photo is reviewed.")
    return MaskFile(of_size(database.home, mask[1], (row.width, row.height)), mask[0], mask[1])


def put(database: Database, photo_id: int, content: Path | bytes) -> PhotoView:
    """Make this PNG the photo's own mask, as a step. Raises NotFound, DataProblem, DiskProblem."""
    with database.read() as session:
        row = find(session, photo_id)
    try:
        drawn = read(content, (row.width, row.height))
    except DataProblem as problem:
        words = [FieldProblem("mask", problem.message)]
        raise DataProblem(f"The mask of {row.name} {problem.message}", words) from None
    return _change(database, photo_id, drawn)


def delete(database: Database, photo_id: int) -> PhotoView:
    """Remove the photo's own mask, as a step; the one that was found counts again. Raises NotFound."""
    return _change(database, photo_id, Drawn(None, None))


def read(content: Path | bytes, size: tuple[int, int]) -> Drawn:
    """Check the mask of a photo of `size`. Raises DataProblem."""
    mask = masks.read(content, size)
    if masks.counts(mask)[masks.IGNORED] == size[0] * size[1]:
        raise DataProblem("ignores all of the photo (0 everywhere); paint the subject (255) or the background (128).")
    around = mask.point([255 * (grey == masks.SUBJECT) for grey in range(256)]).getbbox()
    box = [side / size[place % 2] for place, side in enumerate(around)] if around else None
    png = io.BytesIO()
    mask.save(png, "PNG")
    return Drawn(files.sha256_of(png.getvalue()), box, png.getvalue())


def keep(home: Home, png: bytes) -> str:
    """Write a grey picture of the three values under its hash, and return that.

    Called in the transaction that adds its row: nobody can move it away between the two. Raises DiskProblem.
    """
    sha256 = files.sha256_of(png)
    if not home.mask(sha256).is_file():
        files.write_bytes(home.mask(sha256), png)
    return sha256


def of_size(home: Home, sha256: str, size: tuple[int, int]) -> Path:
    """The file of the mask at its photo's size. Raises NotFound when it is gone, DiskProblem."""
    path = home.mask(sha256)
    if not path.is_file():
        raise NotFound("The file of a mask is no longer there; draw it again.")
    with Image.open(path) as small:
        if small.size == size:
            return path
        target = home.cache / "masks" / f"{sha256}-{size[0]}x{size[1]}.png"
        if target.is_file():
            return target
        large = masks.enlarged(small, size)
    png = io.BytesIO()
    large.save(png, "PNG")
    files.write_bytes(target, png.getvalue())
    return target


def _change(database: Database, photo_id: int, drawn: Drawn) -> PhotoView:
    with database.write() as session:
        row = find(session, photo_id)
        if drawn.png:
            keep(database.home, drawn.png)
        with edits.step(session, row.project_id, f"the mask of {row.name}", [photo_id]):
            row.mask, row.mask_box = drawn.sha256, drawn.box
            session.add(row)
        return views(session, [row])[0]
