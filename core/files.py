"""Writing files so that a reader sees the old whole or the new whole, never a part.

    write to a temporary name beside the target  ->  flush to the disk  ->  rename over the target

Standard library only: the web process uses it too. A full or read-only disk is a `DiskProblem` that names the file;
the temporary file is gone then, and what was there before still is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core import strict_json
from core.errors import disk_trouble_as_sentence


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block ends well, it becomes `path`.

    The temporary name keeps the suffix of `path`, for writers that look at it.

    Raises DiskProblem when the disk is full, read-only or forbidden.
    """
    with disk_trouble_as_sentence(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            _flush_file(part)
            part.chmod(0o666 & ~_umask())
            os.replace(part, path)
            _flush_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; when the block ends well, it becomes `path`, in place of what was there.

    Raises DiskProblem when the disk is full, read-only or forbidden.
    """
    with disk_trouble_as_sentence(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=path.parent))
        try:
            yield part
            for each in part.iterdir():
                _flush_file(each)
            _flush_folder(part)
            part.chmod(0o777 & ~_umask())
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=".old-", dir=path.parent))
                os.replace(path, old / path.name)
                os.replace(part, path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(part, path)
            _flush_folder(path.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def clear_parts(folder: Path) -> None:
    """Tidy up after a process that was killed while it wrote in `folder`, where nobody else writes.

    What is half-written goes. What was moved away for something that never came comes back.

    Raises DiskProblem when the disk is read-only or forbidden.
    """
    with disk_trouble_as_sentence(folder):
        for old in folder.glob(".old-*"):
            for each in old.iterdir():
                if not (folder / each.name).exists():
                    os.replace(each, folder / each.name)
            shutil.rmtree(old, ignore_errors=True)
        for part in folder.glob(".part-*"):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all. Raises DiskProblem."""
    with written_whole(path) as part:
        part.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text to `path`, whole or not at all. Raises DiskProblem."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON to `path`, whole or not at all. Raises DiskProblem."""
    write_text(path, strict_json.dumps(content, indent=1) + "\n")


def sha256_of(source: Path | bytes) -> str:
    """The SHA-256 of a file or of bytes, in hex."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    """Make a rename durable; systems that cannot flush a folder (Windows) do without."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    """The permissions mask; mkstemp makes files private to the user, whom others may share a folder with."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
