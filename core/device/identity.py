"""Which computer this is: the device, its chip, the system and MLX's version, and where its cache lies.

Found out without loading MLX, because what depends on it (core/device/capabilities.py) must be known before MLX is
loaded.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from core.device import hardware
from core.device.hardware import Device

SYSCTL = "/usr/sbin/sysctl"
HALF_ONLY = re.compile(r"Apple M[12]\b")  # chips whose GPU has no native bfloat16


@dataclass(frozen=True, slots=True)
class Identity:
    """What the results of a self-test belong to."""

    device: Device
    chip: str  # "Apple M2 Max", "NVIDIA H200", "AMD EPYC ..."
    system: str  # "macOS 15.1 (24B83)", "Linux 6.1.0"
    mlx: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def lacks_bfloat16(self) -> bool:
        """Whether the GPU computes bfloat16 by converting to float32 and back."""
        return self.device == "metal" and bool(HALF_ONLY.match(self.chip))


@cache
def this_machine(requested: str | None = None) -> Identity:
    """This computer; `requested` is LIKENESS_DEVICE unless it is given."""
    device = hardware.device_kind(os.environ.get("LIKENESS_DEVICE", "") if requested is None else requested)
    return Identity(device, _chip(device), _system(), _mlx_version())


def cache_folder() -> Path:
    """The folder for files that belong to no project and can be made again."""
    named = os.environ.get("LIKENESS_CACHE")
    if named:
        return Path(named).expanduser()
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Caches" / "likeness"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "likeness"


def answer(command: Sequence[str]) -> str:
    """What a program of the system prints; "" when it is missing, fails or takes longer than 10 s."""
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _chip(device: Device) -> str:
    if device == "cuda":
        query = ["--query-gpu=name", "--format=csv,noheader"]
        names = answer([shutil.which("nvidia-smi") or "nvidia-smi", *query]).splitlines()
        return names[0].strip() if names else "NVIDIA"
    if platform.system() == "Darwin":
        return answer([SYSCTL, "-n", "machdep.cpu.brand_string"]) or platform.machine()
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _system() -> str:
    if platform.system() == "Darwin":
        build = answer([SYSCTL, "-n", "kern.osversion"])
        return f"macOS {platform.mac_ver()[0]}{f' ({build})' if build else ''}"
    return f"{platform.system()} {platform.release()}"


def _mlx_version() -> str:
    try:
        return metadata.version("mlx")
    except metadata.PackageNotFoundError:
        return ""
