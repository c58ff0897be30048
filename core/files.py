"""Atomic file writing: a reader sees the complete old content or the complete new one.

    write to a temporary name beside the target  ->  flush to the disk  ->  rename over the target

Standard library only: the web process uses it too. On a full or read-only disk a `DiskProblem` names the file; the
temporary file is removed and the old content stays.
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
from core.errors import disk_errors_as_problem


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block succeeds, it is renamed to `path`.

    The temporary name has the suffix of `path`, for writers that depend on it.

    Raises DiskProblem when the disk is full, read-only or forbidden.
    """
    with disk_errors_as_problem(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            flush_file(part)
            part.chmod(0o666 & ~_umask())
            os.replace(part, path)
            flush_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block succeeds, the file gets the name `path`, which must be free.

    Raises FileExistsError when it is not, and then changes nothing; DiskProblem as `atomic_file`.
    """
    with disk_errors_as_problem(path):
        handle, name = tempfile.mkstemp(prefix=".part-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            flush_file(part)
            part.chmod(0o666 & ~_umask())
            _name_once(part, path)
            flush_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)


def _name_once(part: Path, path: Path) -> None:
    """Give a file a name that is free, in one step. Raises FileExistsError."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as exFAT: reserve the name, then replace what reserves it
        path.open("xb").close()
        os.replace(part, path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; when the block succeeds, it replaces `path`.

    Raises DiskProblem when the disk is full, read-only or forbidden.
    """
    with disk_errors_as_problem(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=path.parent))
        try:
            yield part
            for each in part.iterdir():
                flush_file(each)
            flush_folder(part)
            part.chmod(0o777 & ~_umask())
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=".old-", dir=path.parent))
                os.replace(path, old / path.name)
                os.replace(part, path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(part, path)
            flush_folder(path.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def remove_partial_writes(folder: Path) -> None:
    """Clean up after a process that was killed while writing in `folder`, where nobody else writes.

    Partial files are deleted, and folders that were moved away for a replacement that never came are restored.

    Raises DiskProblem when the disk is read-only or forbidden.
    """
    with disk_errors_as_problem(folder):
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
    """Write `content` to `path` atomically. Raises DiskProblem."""
    with atomic_file(path) as part:
        part.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text to `path` atomically. Raises DiskProblem."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON to `path` atomically. Raises DiskProblem."""
    write_text(path, strict_json.dumps(content, indent=1) + "\n")


def sha256_of(source: Path | bytes) -> str:
    """The SHA-256 of a file or of bytes, in hex."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_file(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Make a rename durable, where the system can flush folders (not on Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    """The process's umask, because mkstemp makes files private and folders may be shared."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
