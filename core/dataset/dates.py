"""When a photo was taken, by its EXIF data. Pillow only, for the web process too."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from PIL import Image

from core.dataset import decode_cost

_EXIF, _TAKEN, _WRITTEN = 0x8769, 0x9003, 0x0132  # the sub-folder, DateTimeOriginal in it, DateTime beside it
_FORM = "%Y:%m:%d %H:%M:%S"


def taken(photo: Path) -> str | None:
    """The camera's clock, "2024-05-01T12:00:00"; None where the photo does not say, or not in the standard's form."""
    try:
        with Image.open(photo) as image:
            exif = decode_cost.exif_of(image)
            words = exif.get_ifd(_EXIF).get(_TAKEN) or exif.get(_WRITTEN)
        at = datetime.strptime(str(words).strip("\0 ")[:19], _FORM)
    except Exception:  # noqa: BLE001  damaged EXIF data raises all kinds, and the photo is good without a date
        return None
    return at.isoformat()
