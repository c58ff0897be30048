"""Where the built-in captioner can run. Light: the web process offers it, or says why it does not.

macOS 14 or newer, Apple silicon      as mlx-vlm is meant to run
Linux with an NVIDIA card             where MLX's CUDA build is installed
a processor alone                     mlx-vlm works there, at minutes a photo: not offered
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from core.device.hardware import Device, this_computer
from core.device.units import memory_size

MACOS_AT_LEAST = 14
OTHERS = "Ollama, LM Studio or llama.cpp can caption instead."


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides whether it can run; `system` and `processor` as Python's `platform` names them."""

    system: str
    processor: str
    macos: str  # its version; empty elsewhere
    device: Device
    memory: int  # bytes that arrays may take


def this_machine(home: Path) -> Machine:
    computer = this_computer(home)
    return Machine(platform.system(), platform.machine(), platform.mac_ver()[0], computer.device, computer.memory)


def why_not(machine: Machine, needed: int) -> str:
    """Why a model that needs so many bytes cannot run there, in a sentence; empty where it can."""
    if machine.system not in ("Darwin", "Linux"):
        return f"The built-in captioner runs on macOS and Linux, not on {machine.system}. {OTHERS}"
    if machine.system == "Darwin" and machine.processor != "arm64":
        return f"The built-in captioner needs a Mac with Apple silicon; this one has {machine.processor}. {OTHERS}"
    if machine.system == "Darwin" and int(machine.macos.partition(".")[0] or 0) < MACOS_AT_LEAST:
        return f"The built-in captioner needs macOS {MACOS_AT_LEAST} or newer; this Mac has {machine.macos}. {OTHERS}"
    if machine.system == "Linux" and machine.device != "cuda":
        return (
            "On Linux the built-in captioner needs an NVIDIA card and MLX for CUDA: a processor alone would take "
            f"minutes a photo. {OTHERS}"
        )
    if machine.memory < needed:
        whose = "this Mac gives its GPU" if machine.device == "metal" else "there are"
        return (
            f"The built-in captioner needs {memory_size(needed)} of memory; {whose} {memory_size(machine.memory)}. "
            f"{OTHERS}"
        )
    return ""
