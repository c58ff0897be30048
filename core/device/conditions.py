"""What about this computer slows a run down or endangers it, in sentences; and keeping it awake while one trains.

    with awake():  ...                          no idle sleep: caffeinate on macOS, systemd-inhibit on Linux
    for sentence in sentences(System()): ...    battery, low power mode, heat, memory pressure, a display on the GPU

macOS is asked through the programs that it brings (pmset, sysctl, ioreg). `System` runs them, so that tests can give
their answers. A program that is missing or fails says nothing about its condition.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread

from core.device.identity import SYSCTL, answer

Ask = Callable[[Sequence[str]], str]
PMSET, IOREG, CAFFEINATE = "/usr/bin/pmset", "/usr/sbin/ioreg", "/usr/bin/caffeinate"


@dataclass(frozen=True, slots=True)
class System:
    """The operating system, and how its programs are asked."""

    name: str = field(default_factory=platform.system)
    ask: Ask = answer


def sentences(system: System | None = None) -> list[str]:
    """One sentence for each condition that matters; empty on a computer at ease, and where nothing can be asked."""
    of = system or System()
    return [found for condition in CONDITIONS if of.name == "Darwin" and (found := condition(of.ask))]


def _battery(ask: Ask) -> str:
    said = ask([PMSET, "-g", "batt"])
    if "Battery Power" not in said:
        return ""
    charge = re.search(r"(\d+)%", said)
    left = f" ({charge[1]}% left)" if charge else ""
    return f"The Mac runs on its battery{left}: training is slower and may end with it. Connect the power adapter."


def _low_power(ask: Ask) -> str:
    if not re.search(r"lowpowermode\s+1", ask([PMSET, "-g"])):
        return ""
    return "Low Power Mode is on, which slows the GPU. Switch it off in System Settings, Battery."


def _heat(ask: Ask) -> str:
    said = ask([PMSET, "-g", "therm"])
    limits = [int(each) for each in re.findall(r"(?:CPU_Speed_Limit|CPU_Scheduler_Limit)\s*=\s*(\d+)", said)]
    if limits and min(limits) < 100:
        return f"The Mac is hot and runs at {min(limits)}% of its speed. Let air reach it; the run goes on, slower."
    if re.search(r"thermal warning level\s*(?:is|=|:)?\s*[1-9]", said, re.IGNORECASE):
        return "The Mac is hot and slows down. Let air reach it; the run goes on, slower."
    return ""


def _memory_pressure(ask: Ask) -> str:
    level = ask([SYSCTL, "-n", "kern.memorystatus_vm_pressure_level"])
    if level == "4":
        return "macOS is very short of memory and may end programs. Close others now, or use fewer bits or less detail."
    return "macOS is short of memory, so steps may become slow. Close other programs." if level == "2" else ""


def _display(ask: Ask) -> str:
    if not re.search(
        r'"IOFBTransform"|"DisplayAttributes"\s*=', ask([IOREG, "-r", "-d", "1", "-c", "IOMobileFramebuffer"])
    ):
        return ""
    return (
        "A display uses the same GPU, so macOS may end long computations to keep it smooth; the run then resumes with "
        "smaller pieces of work. Let the display sleep during long runs."
    )


CONDITIONS: tuple[Callable[[Ask], str], ...] = (_battery, _low_power, _heat, _memory_pressure, _display)


@contextmanager
def awake(system: str | None = None, find: Callable[[str], str | None] = shutil.which) -> Iterator[None]:
    """Keep the computer from idle sleep within the block; it may still sleep when its lid is closed."""
    command = awake_command(os.getpid(), system or platform.system(), find)
    process = _started(command) if command else None
    try:
        yield
    finally:
        if process is not None:
            process.terminate()
            process.wait()


def awake_command(pid: int, system: str, find: Callable[[str], str | None]) -> list[str]:
    """The program that holds off idle sleep while a process lives; empty where the system has none."""
    if system == "Darwin":
        return [CAFFEINATE, "-i", "-w", str(pid)]
    if system == "Linux" and (inhibit := find("systemd-inhibit")) and (tail := find("tail")):
        reason = ["--what=idle:sleep", "--who=Likeness", "--why=A run is training", "--mode=block"]
        return [inhibit, *reason, tail, "-f", "/dev/null", f"--pid={pid}"]
    return []


def _started(command: Sequence[str]) -> subprocess.Popen[bytes] | None:
    silent = subprocess.DEVNULL
    try:
        process = subprocess.Popen(list(command), stdin=silent, stdout=silent, stderr=silent)
    except OSError:
        return None
    Thread(target=process.wait, daemon=True).start()  # where it ends at once, as without systemd, no zombie stays
    return process
