"""A zip of photos, captions and masks: what is in it, checked before anything is unpacked. Standard library only.

    kohya's scripts   img/10_sks dog/A.jpg  A.txt     mask/A.png, or a folder that ends in _mask
    ai-toolkit        A.jpg  A.txt                    masks/A.png
    ours              any folders; captions as caption_files.py has it, masks as mask_files.py has it

Nothing is unpacked under a name of the archive, so none can lead out of a folder; such names are left out with a
sentence. Sizes come from the archive's directory, and zipfile reads no more of a file than that says, so a zip bomb is
refused by its numbers. What is read into memory at once is the directory, of a limited size.
"""

from __future__ import annotations

import errno
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from core.dataset import caption_files, mask_files, photos
from core.dataset.caption_files import METADATA, comparable
from core.errors import DataProblem, FieldProblem, disk_errors_as_problem

ENTRIES_AT_MOST = 20_000
DIRECTORY_AT_MOST = 32 * 2**20  # bytes
UNPACKED_AT_MOST = 32 * 2**30
TIMES_AT_MOST = 100  # the archive's own size, unpacked
FREE_BYTES = 256 * 2**20  # that may be unpacked from an archive however small
FACTS = "likeness.json"  # crops and boxes, in archives of our own

DAMAGED = "is damaged in the archive; pack it again."

_END, _END_64, _LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_MASK_FOLDER = re.compile(r"(?:^|[ _.-])(?:masks?|conditioning)(?:$|[ _.-])")
_ENCRYPTED = 0x1


@dataclass(slots=True)
class Contents:
    """The files of an archive by kind, and a sentence about each that is left out."""

    photos: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    facts: str = ""
    left_out: list[FieldProblem] = field(default_factory=list)


class Archive:
    """An open zip whose directory is read and judged."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self.contents = _sorted_out(file.infolist())

    def unpack(self, name: str, to: Path, at_most: int) -> None:
        """Write one file of the archive to `to`. Raises DataProblem, whose message continues the file's name."""
        info = self._file.getinfo(name)
        if info.file_size > at_most:
            raise DataProblem(f"has {info.file_size / 2**20:,.0f} MB; at most {at_most / 2**20:,.0f} MB.")
        try:
            with disk_errors_as_problem(to), self._file.open(info) as source, to.open("wb") as target:
                shutil.copyfileobj(source, target, 2**20)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
            raise DataProblem(DAMAGED) from None
        except OSError as error:
            if error.errno != errno.EINVAL:  # a place in the archive that no file can have
                raise
            raise DataProblem(DAMAGED) from None


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open a zip. Raises DataProblem for what is no zip, cut off, or unpacks to too much."""
    _judge_directory(path)
    try:
        file = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error):
        raise DataProblem("The archive is damaged, or cut off; pack it again, or send it again.") from None
    with file:
        infos = file.infolist()
        if len(infos) > ENTRIES_AT_MOST:
            raise DataProblem(f"The archive has {len(infos):,} files; at most {ENTRIES_AT_MOST:,}. Split it.")
        unpacked, packed = sum(info.file_size for info in infos), path.stat().st_size
        if unpacked > UNPACKED_AT_MOST or unpacked > max(TIMES_AT_MOST * packed, FREE_BYTES):
            raise DataProblem(
                f"The archive unpacks from {packed / 1e6:,.1f} MB to {unpacked / 1e6:,.0f} MB; photos do not shrink "
                "like that, so nothing of it was read."
            )
        yield Archive(file)


def captions_of(contents: Contents) -> dict[str, list[str]]:
    """The caption files of each photo, in the order of the rule."""
    return caption_files.match(contents.photos, contents.captions)


def masks_of(contents: Contents) -> tuple[dict[str, str], list[FieldProblem]]:
    """The mask of each photo that has one, and the problem of each mask that fits no photo or several."""
    found: dict[str, str] = {}
    used: set[str] = set()
    for photo, beside in mask_files.match(contents.photos, contents.masks).items():
        if beside:
            found[photo] = beside[0]
            used.update(beside)
    problems = []
    by_stem: dict[str, list[str]] = {}
    for photo in contents.photos:
        by_stem.setdefault(_stem(photo), []).append(photo)
    for mask in contents.masks:
        if mask in used:
            continue
        ranked = sorted(by_stem.get(_stem(mask), ()), key=lambda photo: -_shared_end(photo, mask))
        if not ranked:
            problems.append(FieldProblem(mask, "is a mask without a photo of that name"))
        elif len(ranked) > 1 and _shared_end(ranked[0], mask) == _shared_end(ranked[1], mask):
            problems.append(FieldProblem(mask, f"may be the mask of {ranked[0]} or of {ranked[1]}; it was left out"))
        elif ranked[0] in found:
            problems.append(FieldProblem(mask, f"is not used: {ranked[0]} has its mask from {found[ranked[0]]}"))
        else:
            found[ranked[0]] = mask
    return found, problems


def _sorted_out(infos: Sequence[zipfile.ZipInfo]) -> Contents:
    contents, seen = Contents(), set[str]()
    for info in infos:
        name, path = info.filename, PurePosixPath(info.filename.replace("\\", "/"))
        if info.is_dir() or "__MACOSX" in path.parts or path.name.startswith(".") or path.name.lower() == "thumbs.db":
            continue
        if trouble := _trouble_with(info, path) or ("is there twice; the first one counts" if name in seen else ""):
            contents.left_out.append(FieldProblem(name, trouble))
            continue
        seen.add(name)
        _place(contents, name, path)
    if not contents.photos:  # the subject itself is a mask
        contents.photos, contents.masks = contents.masks, []
    return contents


def _is_mask_folder(name: str) -> bool:
    """Not "10_sks mask", in which kohya's scripts have photos of a mask."""
    return bool(_MASK_FOLDER.search(name.lower())) and not re.match(r"\d+_", name)


def _place(contents: Contents, name: str, path: PurePosixPath) -> None:
    if path.name == FACTS and len(path.parts) == 1:
        contents.facts = name
    elif path.name.lower() == METADATA:
        contents.metadata.append(name)
    elif caption_files.is_caption_file(path.name):
        contents.captions.append(name)
    elif path.suffix.lower() in photos.SUFFIXES:
        is_mask = any(map(_is_mask_folder, path.parts[:-1])) or mask_files.is_mask_file(name)
        (contents.masks if is_mask else contents.photos).append(name)
    else:
        contents.left_out.append(FieldProblem(name, "is no photo, caption or mask; it was left out"))


def _trouble_with(info: zipfile.ZipInfo, path: PurePosixPath) -> str:
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", info.filename):
        return "has a path that leads out of the archive; it was left out"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted; unpack the archive with its password, and pack it without one"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others may need gigabytes of memory
        return "is packed in a way that is not read; pack the archive as an ordinary zip"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link to another file; it was left out"
    return ""


def _stem(path: str) -> str:
    """What a photo and its mask have in common: the name without its ending."""
    name = PurePosixPath(comparable(path)).name
    for ending in photos.MASK_ENDINGS:
        name = name.removesuffix(ending)
    return name.rpartition(".")[0] or name


def _shared_end(photo: str, mask: str) -> int:
    """How many folders above the two files are the same, from the files upward."""
    folders = [PurePosixPath(comparable(path)).parts[-2::-1] for path in (photo, mask)]
    shared = 0
    for one, other in zip(*folders, strict=False):
        if one != other and _MASK_FOLDER.sub("", other) != one:
            break
        shared += 1
    return shared


def _judge_directory(path: Path) -> None:
    """Raise DataProblem where the directory is missing, or larger than what is read into memory."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            raise DataProblem("This is not a zip; pack the photos, captions and masks as one.")
        file.seek(max(size - 2**16 - 22, 0))
        tail = file.read()
        at = tail.rfind(_END)
        if at < 0 or len(tail) - at < 22:
            raise DataProblem("The archive is cut off: its directory, which is at the end, is missing. Send it again.")
        length = struct.unpack_from("<I", tail, at + 12)[0]
        locator = tail[at - 20 : at] if at >= 20 else b""
        if locator[:4] == _LOCATOR_64:
            file.seek(min(struct.unpack_from("<Q", locator, 8)[0], size))
            record = file.read(56)
            if record[:4] == _END_64 and len(record) == 56:
                length = struct.unpack_from("<Q", record, 40)[0]
    if length > DIRECTORY_AT_MOST:
        raise DataProblem(f"The archive's directory has {length / 2**20:,.0f} MB; split the archive into smaller ones.")
