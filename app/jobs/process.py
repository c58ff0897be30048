"""Naming a process for ever: its number, when it started, and in which boot of the computer.

A number alone is used again after a while; with the other two it names one process and no other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

CLOCK_SLACK_SECONDS = 2.0  # start times are counted from the boot, whose own time the clock may correct


@dataclass(frozen=True, slots=True)
class ProcessName:
    pid: int
    started_at: float  # seconds since the epoch, as the system tells it
    boot_id: str

    @staticmethod
    def own() -> ProcessName:
        return ProcessName(os.getpid(), psutil.Process().create_time(), boot_id())

    @property
    def alive(self) -> bool:
        """Whether just this process still runs; one that has ended and waits to be collected does not."""
        if self.boot_id != boot_id():
            return False
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at) < CLOCK_SLACK_SECONDS
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


@cache
def boot_id() -> str:
    """A name for the time since the computer was started."""
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.is_file():
        return linux.read_text().strip()
    if sys.platform == "darwin":
        asked = subprocess.run(["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True)
        if asked.stdout.strip():
            return asked.stdout.strip()
    return f"{psutil.boot_time():.0f}"
