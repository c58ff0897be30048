"""The Hugging Face cache, which all programs on this computer share.

    models--owner--name/
      refs/main                        the newest revision when "main" was last requested
      blobs/<hash>                     the files' contents, by SHA-256 (large ones) or git's hash (small ones)
      blobs/<hash>.incomplete          a partial download
      snapshots/<revision>/<path>      links to the blobs, in the layout of a model folder

Standard library only: every page of the catalog reads this. Source: huggingface_hub, "Understand caching".
"""

from __future__ import annotations

import os
from pathlib import Path

INCOMPLETE = ".incomplete"


def root() -> Path:
    """HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub, as huggingface_hub itself decides."""
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if own:
        return _path(own)
    home = os.environ.get("HF_HOME")
    return _path(home) / "hub" if home else _path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface/hub"


def folder(repo: str) -> Path:
    """The folder of a repository."""
    return root() / f"models--{repo.replace('/', '--')}"


def snapshots(repo: str) -> list[Path]:
    """The downloaded revisions, complete or not: "main" first, then the newest."""
    place = folder(repo)
    try:
        found = sorted((place / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return []
    try:
        main = (place / "refs" / "main").read_text().strip()
    except OSError:
        main = ""
    return sorted(found, key=lambda path: path.name != main)


def file(repo: str, name: str) -> Path | None:
    """A file of a repository, from the newest revision that has it; None when none has."""
    return next((found for place in snapshots(repo) if (found := place / name).is_file()), None)


def bytes_here(repo: str) -> int:
    """Downloaded bytes of a repository, partial files included."""
    try:
        with os.scandir(folder(repo) / "blobs") as files:
            return sum(file.stat().st_size for file in files if file.is_file())
    except OSError:
        return 0


def _path(text: str) -> Path:
    return Path(os.path.expandvars(text)).expanduser()
