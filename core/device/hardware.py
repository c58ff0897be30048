"""What this computer has: which device MLX will compute on, and how much memory arrays may take there.

    metal    Apple silicon           what macOS lets the GPU have of the memory, which it shares
    cuda     an NVIDIA card          the card's memory, when MLX's build for it is installed
    cpu      anything else           the memory, or a container's limit, less what the rest of the system wants

Pending without loading MLX, so that the web process can say before a run whether it fits.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

Device = Literal["metal", "cuda", "cpu"]
MIB, GIB = 2**20, 2**30
MUCH = 36 * GIB  # of a Mac's memory: from there on its GPU may have a larger share
OTHERS = 1.5 * GIB  # the studio, a browser, the system
CUDA_BUILDS = ("mlx-cuda-13", "mlx-cuda-12")


@dataclass(frozen=True, slots=True)
class Computer:
    """What a run has to fit into, in bytes."""

    device: Device
    memory: int  # that arrays may take
    disk: int  # free where runs are kept

    @property
    def item(self) -> int:
        """Bytes of a number as this device computes: float32 on a CPU, else bfloat16."""
        return 4 if self.device == "cpu" else 2


def this_computer(folder: Path) -> Computer:
    """This one; `folder` is where runs are kept, or will be."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return Computer(*_device(os.environ.get("LIKENESS_DEVICE", "")), disk=shutil.disk_usage(there).free)


def machine_bytes() -> int:
    """The machine's memory, less where a container has a limit."""
    total = psutil.virtual_memory().total
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no cgroup, or "max"
        return total


@cache
def _device(request: str) -> tuple[Device, int]:
    """The device, and the bytes that arrays may take on it."""
    if request != "cpu":
        if platform.system() == "Darwin" and platform.machine() == "arm64":
            return "metal", apple_bytes(machine_bytes(), _wired_limit())
        if card := _card_bytes():
            return "cuda", card
    return "cpu", int(max(machine_bytes() - OTHERS, machine_bytes() / 2))


def apple_bytes(memory: int, limit_mib: str) -> int:
    """What a Mac's GPU may have: the user's own `iogpu.wired_limit_mb`, or what macOS decides where that is 0.

    Two thirds of less than 36 GiB and three quarters of more is what others have seen Metal recommend, some a little
    more on newer systems; beyond it a computation fails.
    """
    own = int(limit_mib) * MIB if limit_mib.strip().isdecimal() else 0
    return min(own, memory) or (memory * 3 // 4 if memory >= MUCH else memory * 2 // 3)


def _wired_limit() -> str:
    command = ["/usr/sbin/sysctl", "-n", "iogpu.wired_limit_mb"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _card_bytes() -> int:
    """Memory of the first NVIDIA card; 0 where there is none, or MLX is not the build for it."""
    asked = shutil.which("nvidia-smi")
    if asked is None:
        return 0
    builds = {each.metadata["Name"].replace("_", "-") for each in metadata.distributions() if each.metadata["Name"]}
    if builds.isdisjoint(CUDA_BUILDS):
        return 0
    question = [asked, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=10, check=True).stdout
        return int(answer.split()[0]) * MIB
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0
