"""The folder in which every program on this computer keeps what it downloaded from the hub.

    models--owner--name/
      refs/main                        the revision that "main" was when somebody asked last
      blobs/<hash>                     the files' contents, by SHA-256 (large ones) or git's hash (small ones)
      blobs/<hash>.incomplete          a file that is still coming
      snapshots/<revision>/<path>      links to the blobs: this is what a model folder looks like

Standard library only: the catalog looks here on each page. Source: huggingface_hub, "Understand caching".
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
    """Where everything of a repository lies."""
    return root() / f"models--{repo.replace('/', '--')}"


def snapshots(repo: str) -> list[Path]:
    """The revisions that are here, whole or not: "main" first, then the newest."""
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
    """A file of a repository, from the newest revision that has it here whole; None when none has."""
    return next((found for place in snapshots(repo) if (found := place / name).is_file()), None)


def bytes_here(repo: str) -> int:
    """How much of a repository is here, parts of files included."""
    try:
        with os.scandir(folder(repo) / "blobs") as files:
            return sum(file.stat().st_size for file in files if file.is_file())
    except OSError:
        return 0


def _path(text: str) -> Path:
    return Path(os.path.expandvars(text)).expanduser()
