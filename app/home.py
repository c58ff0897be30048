"""The home folder: everything of one user's studio, readable by this user only.

LIKENESS_HOME (default ~/Likeness)/
  likeness.db   locks/   logs/   cache/   trash/   photos/<sha256>.<ext>   thumbs/   masks/<sha256>.png
  pictures/   adapters/   exports/   models/<name>/   captioner/env/
  runs/<id>/config.json  log.txt  samples/  checkpoints/<step>/
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.errors import HomeProblem
from core.errors import disk_errors_as_problem

RESERVE_BYTES = 4 * 2**20  # freed when the disk is full, so that the error can still be written to the database

OURS = {"locks", "logs", "cache", "trash", "photos", "thumbs", "masks"}
OURS |= {"pictures", "adapters", "exports", "models", "captioner", "runs", "token"}
OF_SYSTEMS = {"lost+found", "Icon\r", "desktop.ini", "Thumbs.db"}  # in any folder
CLOUD_FOLDERS = (
    "Mobile Documents",
    "CloudStorage",
    "Dropbox",
    "OneDrive",
    "Google Drive",
    "iCloud Drive",
    "iCloudDrive",
)
NETWORK_FILESYSTEMS = {"nfs", "nfs4", "cifs", "smbfs", "smb3", "afpfs", "webdav", "fuse.sshfs", "9p"}


@dataclass(frozen=True)
class Home:
    """Paths in the home folder."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "likeness.db"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def uploads(self) -> Path:
        return self.cache / "uploads"

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    @property
    def photos(self) -> Path:
        return self.root / "photos"

    @property
    def thumbs(self) -> Path:
        return self.root / "thumbs"

    @property
    def masks(self) -> Path:
        return self.root / "masks"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def exports(self) -> Path:
        return self.root / "exports"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def captioner(self) -> Path:
        return self.root / "captioner"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def reserve(self) -> Path:
        return self.locks / "reserve"

    def run(self, run_id: int) -> Path:
        return self.runs / str(run_id)

    def photo(self, sha256: str, extension: str) -> Path:
        return self.photos / f"{sha256}.{extension}"

    def thumb(self, sha256: str) -> Path:
        return self.thumbs / f"{sha256}.jpg"

    def mask(self, sha256: str) -> Path:
        return self.masks / f"{sha256}.png"

    def relative(self, path: Path) -> str:
        """The path as the database stores it."""
        return path.relative_to(self.root).as_posix()

    def file(self, relative: str) -> Path:
        """The path of a stored relative path. Raises HomeProblem for one that leads out of the home."""
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise HomeProblem(f"{relative} is outside {self.root}.")
        return path

    def create_folders(self) -> None:
        """Create the folders with mode 700; a home that is there keeps its own. Raises HomeProblem, DiskProblem."""
        refuse_shared_folder(self.root)
        folders = (self.locks, self.logs, self.cache, self.uploads, self.trash, self.photos, self.thumbs)
        with disk_errors_as_problem(self.root):
            if self.root.exists() and not self.root.is_dir():
                raise HomeProblem(f"{self.root} is a file; the home must be a folder.")
            if self.root.is_dir():
                self._refuse_foreign_folder()
            else:
                if self.root.is_symlink():
                    raise HomeProblem(f"{self.root} leads to {self.root.readlink()}, which is not there.")
                self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (*folders, self.masks, self.pictures, self.adapters, self.exports, self.runs):
                folder.mkdir(mode=0o700, exist_ok=True)

    def _refuse_foreign_folder(self) -> None:
        """Raise HomeProblem for a folder with somebody else's files, and for a home whose database is gone."""
        if self.database.is_file() and self.database.stat().st_size:
            return
        filled = [
            each.name for each in (self.photos, self.runs, self.adapters) if each.is_dir() and any(each.iterdir())
        ]
        if filled:
            raise HomeProblem(
                f"{self.root} has files in {' and '.join(filled)}, but its database, {self.database.name}, is missing "
                "or empty. Put it back from a backup, or move the folder away to begin anew."
            )
        names = {each.name for each in self.root.iterdir()} - OURS - OF_SYSTEMS
        others = sorted(name for name in names if not name.startswith(("likeness", ".")))
        if others:
            raise HomeProblem(
                f"{self.root} is not empty, and no home of Likeness: it has {others[0]!r}. Choose a new or an empty "
                "folder: likeness --home FOLDER."
            )

    def create_reserve(self) -> None:
        """Reserve a few megabytes of disk, if there is room for them."""
        if not self.reserve.exists():
            try:
                self.reserve.write_bytes(bytes(RESERVE_BYTES))
            except OSError:
                self.reserve.unlink(missing_ok=True)

    def release_reserve(self) -> None:
        """Give the reserve back to a disk that is full."""
        self.reserve.unlink(missing_ok=True)

    def clear_uploads(self) -> None:
        """Remove unfinished uploads of a server that was killed."""
        for path in self.uploads.iterdir():
            if path.is_file():
                path.unlink(missing_ok=True)


def home_folder() -> Path:
    """LIKENESS_HOME, else ~/Likeness."""
    return Path(os.environ.get("LIKENESS_HOME") or "~/Likeness").expanduser().resolve()


def refuse_shared_folder(root: Path) -> None:
    """Raise HomeProblem for a folder where SQLite's locks fail: synced by a cloud service, or on a network drive."""
    resolved = root.expanduser().absolute().resolve()
    for part in resolved.parts:
        if any(part == name or part.startswith((f"{name} (", f"{name} -")) for name in CLOUD_FOLDERS):
            raise HomeProblem(
                f"{root} is synced by a cloud service ({part}), which would damage the database. "
                "Choose a folder on this computer only: likeness --home FOLDER."
            )
    mounts = [part for part in psutil.disk_partitions(all=True) if resolved.is_relative_to(part.mountpoint)]
    mount = max(mounts, key=lambda part: len(part.mountpoint), default=None)
    if mount is not None and mount.fstype.lower() in NETWORK_FILESYSTEMS:
        raise HomeProblem(
            f"{root} is on a network drive ({mount.fstype}), where the database's locks do not work. "
            "Choose a folder on this computer: likeness --home FOLDER."
        )
