"""mlx-vlm in an environment of its own: it brings transformers and another OpenCV, which must not meet ours.

    HOME/captioner/env/             a virtual environment, made by this Python and filled by pip
    HOME/captioner/installed.json   written last; a folder without it is half made, and is removed

pip obeys the user's own settings: index, proxy, certificates. It installs wheels only, so no code of a package runs and
no compiler is needed. Light: the web process looks here, too.
"""

from __future__ import annotations

import importlib.util
import queue
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from core import files
from core.captioners.guarded_process import GuardedProcess
from core.device import hardware
from core.device.units import disk_size
from core.errors import CaptionerProblem, DiskProblem, ModelProblem, disk_errors_as_problem
from core.safetensors_file import read_json

VERSION = "0.7.10"
PROGRAM = f"mlx-vlm {VERSION}"
BYTES = 1_100_000_000  # of 64 packages with MLX's CPU build on Linux; CUDA's libraries take more
MARGIN_BYTES = 10**9  # for pip's own copies, and left free afterwards
CONSTRAINTS = ("transformers<6",)  # it asks for 5.14 or newer; 5.24 was tried
POLL_SECONDS = 0.1
PIP = (
    "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--only-binary", ":all:",
)  # fmt: skip
PASSWORD = re.compile(r"//[^/\s@]+@")
COLLECTING = re.compile(r"Collecting ([\w.-]+)|Processing \S*/([\w.]+)-")  # from an index; from a folder
DOWNLOADING = re.compile(r"\s*Downloading (?:\S*/)?([\w.]+)-\S+ \(([^)]+)\)")
UNPACKING = re.compile(r"Installing collected packages: (.+)")
UNREACHABLE = re.compile(r"connection broken by|ConnectTimeout|Failed to establish a new connection")


class Environment:
    """The environment of one home, installed or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def python(self) -> Path:
        return self.folder / "env" / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether it is complete and has the version that this program knows."""
        return self._record().get("version") == VERSION and self.python.exists()

    @property
    def bytes(self) -> int:
        """Its size on the disk when it was installed; 0 while it is not."""
        found = self._record().get("bytes")
        return found if isinstance(found, int) else 0

    @property
    def half_made(self) -> bool:
        """Whether something is here that is no complete environment, of this version or an earlier one."""
        return self.folder.exists() and not self._record()

    def install(self, report: Callable[[str], None], check: Callable[[], None], log: Callable[[str], None]) -> None:
        """Make it anew. `report` takes what pip does now, `log` its every line; `check` may raise to end it.

        Raises CaptionerProblem with pip's reason, DiskProblem; then, and when `check` raises, nothing is left of it.
        """
        try:
            self.remove()
            with disk_errors_as_problem(self.folder):
                self._check_space()
                self._create()
                for module, arguments in self._steps():
                    self._run(module, arguments, report, check, log)
                record = {"version": VERSION, "bytes": size_of(self.folder)}
                files.write_json(self.folder / "installed.json", record)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def remove(self) -> int:
        """Delete it; returns the bytes freed. The record goes first: a rest is half made. Raises DiskProblem."""
        freed = size_of(self.folder)
        with disk_errors_as_problem(self.folder), suppress(FileNotFoundError):
            (self.folder / "installed.json").unlink(missing_ok=True)
            shutil.rmtree(self.folder)
        return freed

    def _record(self) -> dict[str, Any]:
        try:
            return read_json(self.folder / "installed.json")
        except ModelProblem:
            return {}

    def _check_space(self) -> None:
        there = next(each for each in self.folder.parents if each.is_dir())
        free, needed = shutil.disk_usage(there).free, BYTES + MARGIN_BYTES
        if free < needed:
            raise DiskProblem(
                f"{PROGRAM} needs {disk_size(needed)} while it is installed; {disk_size(free)} are free. Make room, "
                "then try again."
            )

    def _create(self) -> None:
        import venv

        self.folder.mkdir(parents=True, mode=0o700)
        venv.EnvBuilder(with_pip=False, symlinks=True).create(self.folder / "env")
        lines = [*CONSTRAINTS, *(f"mlx=={version}" for version in [_version_of("mlx")] if version)]
        (self.folder / "constraints.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _steps(self) -> list[tuple[str, list[str]]]:
        """Modules and arguments: our pip, where there is one, else the one that comes with Python."""
        wanted = [*PIP, "--constraint", str(self.folder / "constraints.txt"), *requirements()]
        if importlib.util.find_spec("pip"):
            return [("pip", ["--python", str(self.python), *wanted])]
        return [("ensurepip", []), ("pip", wanted)]

    def _run(
        self,
        module: str,
        arguments: list[str],
        report: Callable[[str], None],
        check: Callable[[], None],
        log: Callable[[str], None],
    ) -> None:
        python = Path(sys.executable) if arguments[:1] == ["--python"] else self.python
        written: queue.SimpleQueue[str] = queue.SimpleQueue()
        troubles: list[str] = []
        with GuardedProcess(python, module, arguments, {"PIP_USER": "0"}, written.put) as process:
            ended = False
            while not ended:
                ended = process.wait(POLL_SECONDS)
                while not written.empty():
                    line = PASSWORD.sub("//", written.get())
                    log(line)
                    troubles += [line] if line.startswith("ERROR:") or UNREACHABLE.search(line) else []
                    if words := words_of(line):
                        report(words)
                check()
            if process.exit_code != 0:
                raise CaptionerProblem(_failure(troubles, PASSWORD.sub("//", process.last_words())))


def requirements() -> list[str]:
    """What pip is asked for: mlx-vlm, and on CUDA the build of MLX that this environment has."""
    builds = [build for build in hardware.CUDA_BUILDS if _version_of(build)]
    extra = [f"mlx[{build.removeprefix('mlx-').replace('-', '')}]" for build in builds[:1]]
    return [f"mlx-vlm=={VERSION}", *extra]


def words_of(line: str) -> str:
    """What a line of pip's output says that is done now; empty for the other lines."""
    if found := COLLECTING.match(line):
        return f"finding {found[1] or found[2].replace('_', '-')}"
    if found := DOWNLOADING.match(line):
        return f"downloading {found[1].replace('_', '-')}, {found[2]}"
    if found := UNPACKING.match(line):
        count = len(found[1].split(","))
        return f"unpacking {count} package{'s' if count > 1 else ''}"
    return ""


def size_of(folder: Path) -> int:
    """Bytes of every file below a folder, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _failure(troubles: list[str], last_words: str) -> str:
    errors = [line.removeprefix("ERROR:").strip().rstrip(".") for line in troubles if line.startswith("ERROR:")]
    reason = ". ".join(errors) or last_words.rstrip(".") or "it ended without a word"
    if any(UNREACHABLE.search(line) for line in troubles):
        where = "The package index could not be reached; go online, then try again."
        return f"{PROGRAM} could not be installed. {where} pip: {reason}."
    return f"{PROGRAM} could not be installed. pip: {reason}."
