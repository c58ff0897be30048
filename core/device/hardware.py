"""The device that MLX will compute on, and how much memory arrays may take there.

    metal    Apple silicon           0.9 of the unified memory that macOS grants the GPU (core/device/metal.py)
    cuda     an NVIDIA card          the card's memory, when MLX's CUDA build is installed
    cpu      anything else           the memory, or a container's limit, minus a reserve for the rest of the system

Found out without loading MLX, so that the web process can tell before a run whether it fits.
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

from core.device import metal

Device = Literal["metal", "cuda", "cpu"]
MIB, GIB = 2**20, 2**30
LARGE_MAC = 36 * GIB  # from here on macOS grants the GPU a larger share
RESERVED = 1.5 * GIB  # for the studio, a browser, the system
CUDA_BUILDS: tuple[str, ...] = ("mlx-cuda-13", "mlx-cuda-12")


@dataclass(frozen=True, slots=True)
class Computer:
    """The memory and disk that a run has to fit into, in bytes."""

    device: Device
    memory: int  # that arrays may take
    disk: int  # free where runs are kept

    @property
    def item(self) -> int:
        """Bytes of a number in the compute dtype: float32 on a CPU, else bfloat16."""
        return 4 if self.device == "cpu" else 2


def this_computer(folder: Path) -> Computer:
    """This computer, with the free disk of the folder for runs, which need not exist yet."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return Computer(*_device(os.environ.get("LIKENESS_DEVICE", "")), disk=shutil.disk_usage(there).free)


def device_kind(requested: str) -> Device:
    """The device that MLX will compute on; `requested` is LIKENESS_DEVICE."""
    return _device(requested)[0]


def array_bytes() -> int:
    """Bytes that arrays may take on this computer's device."""
    return _device(os.environ.get("LIKENESS_DEVICE", ""))[1]


def machine_bytes() -> int:
    """The machine's memory, or a container's limit when that is less."""
    total = psutil.virtual_memory().total
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no cgroup, or "max"
        return total


@cache
def _device(requested: str) -> tuple[Device, int]:
    """The device, and the bytes that arrays may take on it."""
    if requested != "cpu":
        if platform.system() == "Darwin" and platform.machine() == "arm64":
            return "metal", metal.limits(machine_bytes(), apple_bytes(machine_bytes(), wired_limit())).memory
        if card := _card_bytes():
            return "cuda", card
    return "cpu", int(max(machine_bytes() - RESERVED, machine_bytes() / 2))


def apple_bytes(memory: int, limit_mib: str) -> int:
    """The memory of a Mac's GPU: the user's `iogpu.wired_limit_mb`, or macOS's own limit where that is 0.

    Metal has been seen to recommend two thirds of less than 36 GiB and three quarters of more, slightly more on newer
    systems; beyond the limit a computation fails.
    """
    own = int(limit_mib) * MIB if limit_mib.strip().isdecimal() else 0
    return min(own, memory) or (memory * 3 // 4 if memory >= LARGE_MAC else memory * 2 // 3)


def wired_limit() -> str:
    """`iogpu.wired_limit_mb` as sysctl prints it; "" where there is none."""
    command = ["/usr/sbin/sysctl", "-n", "iogpu.wired_limit_mb"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _card_bytes() -> int:
    """Memory of the first NVIDIA card; 0 without one, or without MLX's CUDA build."""
    nvidia_smi = shutil.which("nvidia-smi")
    if nvidia_smi is None:
        return 0
    builds = {each.metadata["Name"].replace("_", "-") for each in metadata.distributions() if each.metadata["Name"]}
    if builds.isdisjoint(CUDA_BUILDS):
        return 0
    query = [nvidia_smi, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        return int(answer.split()[0]) * MIB
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0
