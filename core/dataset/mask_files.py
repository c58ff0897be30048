"""Which mask file belongs to which photo. The rule, for the photo `can/A.jpg`:

    1   can/A.mask.png
    2   can/A-masklabel.png       as OneTrainer writes it
    3   can/masks/A.png           a folder of masks, as for kohya's scripts and ai-toolkit

The first that is there counts. Folder and name are compared in Unicode's form NFC and without regard to case. In those
programs white is trained and black is ignored, as it is here: see core/dataset/masks.py. Files named by 1 and 2 are
never photos. A mask without a photo, and one that another one goes before, is reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from core.dataset.caption_files import comparable
from core.dataset.photos import MASK_ENDINGS
from core.errors import FieldProblem

FOLDER = "masks"


def is_mask_file(path: str) -> bool:
    """Whether a path below the folder of photos names a mask."""
    one = PurePosixPath(comparable(path))
    return one.name.endswith(MASK_ENDINGS) or (one.parent.name == FOLDER and one.suffix == ".png")


def match(photos: Iterable[str], masks: Iterable[str]) -> dict[str, list[str]]:
    """The masks of each photo, in the order of the rule. All are paths below one folder."""
    by_path: dict[str, list[str]] = {}
    for mask in sorted(masks):
        by_path.setdefault(comparable(mask), []).append(mask)
    found: dict[str, list[str]] = {photo: [] for photo in photos}
    for photo in found:
        path = PurePosixPath(comparable(photo))
        names = [path.with_name(path.stem + ending) for ending in MASK_ENDINGS]
        names.append(path.parent / FOLDER / f"{path.stem}.png")
        stem = PurePosixPath(photo).stem
        for name in names:
            beside = by_path.get(str(name), [])
            found[photo] += sorted(beside, key=lambda mask: not PurePosixPath(mask).name.startswith(stem))
    return found


def find(folder: Path, photos: Sequence[Path]) -> tuple[dict[str, Path], list[FieldProblem]]:
    """The mask of each photo of a folder, by the photo's file name, and the masks that are not used."""
    names = [each.name for each in _below(folder) if each.is_file()]
    inside = [below for below in _below(folder) if below.name.lower() == FOLDER and below.is_dir()]
    readable = [below for below in inside if os.access(below, os.R_OK | os.X_OK)]
    names += [f"{below.name}/{each.name}" for below in readable for each in _below(below) if each.is_file()]
    candidates = [name for name in names if is_mask_file(name)]
    matches = match([photo.name for photo in photos], candidates)
    unused = [
        FieldProblem(other, f"is not used: {photo} has its mask from {first}")
        for photo, (first, *others) in ((photo, beside) for photo, beside in matches.items() if beside)
        for other in others
    ]
    closed = "cannot be opened; check that you may read this folder"
    unused += [FieldProblem(below.name, closed) for below in inside if below not in readable]
    used = {name for beside in matches.values() for name in beside}
    unused += [FieldProblem(name, "is a mask without a photo of that name") for name in candidates if name not in used]
    return {photo: folder / beside[0] for photo, beside in matches.items() if beside}, unused


def _below(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.name[0] != ".")
