"""What an error of the GPU means, told apart by the system's own words in it.

    [METAL] Command buffer execution failed: Impacting Interactivity (0000000e:kIOGPUCommandBufferCallback...)

MLX raises these as RuntimeError since 0.32.0. `retries` says whether smaller command buffers can help: macOS ends a
buffer that keeps the GPU from drawing the screen, and MLX_MAX_OPS_PER_BUFFER and MLX_MAX_MB_PER_BUFFER set how much
goes into one. MLX reads both when it is loaded, so they are chosen for a process, before that.

    attempt      0       1       2
    operations   MLX's   10      4          MLX's own: 20 to 50, by chip
    MB           MLX's   20      8          MLX's own: 40 or 50
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass

from core.errors import GpuProblem

RETRIES = 2
BUFFERS = ((10, 20), (4, 8))  # operations and MB of a command buffer, at the first and the second retry
METAL = re.compile(r"\[METAL\]|kIOGPUCommandBuffer|command buffer", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of GPU error: how it is recognised, what it means, and what helps."""

    name: str
    pattern: re.Pattern[str]
    means: str
    helps: str
    retries: bool


KINDS = (
    Kind(
        "watchdog",
        re.compile(r"Impacting\s*Interactivity|kIOGPUCommandBufferCallbackErrorHang|Caused GPU Hang", re.I),
        "macOS ended a computation because it kept the GPU from drawing the screen.",
        "Smaller pieces of work help, and so does a smaller picture size, or a Mac whose screen is off or elsewhere.",
        retries=True,
    ),
    Kind(
        "timeout",
        re.compile(r"ErrorTimeout|timed?\s?out", re.I),
        "A computation took longer than macOS allows on the GPU.",
        "Smaller pieces of work help, and so does a smaller picture size.",
        retries=True,
    ),
    Kind(
        "page fault",
        re.compile(r"Page\s*Fault|ErrorInvalidResource|Invalid Resource", re.I),
        "The GPU read memory that was not there: a fault of MLX or of the driver, not of your settings.",
        "Restart the Mac; if it happens again, update macOS and Likeness, and report it with likeness doctor's file.",
        retries=True,
    ),
    Kind(
        "device lost",
        re.compile(
            r"DeviceRemoved|Device\s*(Removed|Lost)|AccessRevoked|SubmissionsIgnored|CUDA.*(launch failure|illegal)",
            re.I,
        ),
        "The system took the GPU away from Likeness after earlier errors, or it was disconnected.",
        "Restart the computer, then resume.",
        retries=True,
    ),
)  # fmt: skip
OTHER = Kind(
    "other",
    METAL,
    "The GPU could not finish a computation.",
    "Restart the Mac, then resume; if it happens again, report it with likeness doctor's file.",
    retries=True,
)


def kind_of(error: BaseException) -> Kind | None:
    """The kind of a GPU error; None for others, and for too little memory, which core.errors recognises."""
    words = str(error)
    if re.search(r"insufficient memory|ErrorOutOfMemory|out of memory", words, re.IGNORECASE):
        return None
    found = next(
        (kind for kind in KINDS if kind.pattern.search(words) and (METAL.search(words) or "CUDA" in words)), None
    )
    return found or (OTHER if METAL.search(words) else None)


def explained(error: BaseException, saved: str = "") -> GpuProblem | None:
    """The error as a problem with a sentence; `saved` says what is safe. None when it is not one of the GPU."""
    kind = kind_of(error)
    if kind is None:
        return None
    words = " ".join(each for each in (kind.means, saved, kind.helps) if each)
    return GpuProblem(words)


def use_smaller_buffers(failures: int, environment: MutableMapping[str, str] = os.environ) -> str:
    """Set the size of command buffers after so many failures, before MLX is loaded; returns a sentence, or ""."""
    if not failures:
        return ""
    operations, megabytes = BUFFERS[min(failures, RETRIES) - 1]
    environment["MLX_MAX_OPS_PER_BUFFER"], environment["MLX_MAX_MB_PER_BUFFER"] = str(operations), str(megabytes)
    return f"The GPU gets its work in smaller pieces, of {operations} operations or {megabytes} MB at most."
