"""The process that runs a job: its identity, its exit codes, and a sentence about how it died.

A pid alone is reused after a while; together with the start time and the boot id it identifies one process for ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

EXIT_DONE = 0  # the outcome is written, or there was nothing to do
EXIT_CLAIM_LOST = 3  # a newer attempt has taken over the job
EXIT_LANE_FULL = 75
KILLED = -9  # SIGKILL
CLOCK_SLACK_SECONDS = 2.0  # start times are measured from boot, and the clock may correct the boot time itself


@dataclass(frozen=True, slots=True)
class ProcessName:
    """Identifies one process, for ever."""

    pid: int
    started_at: float  # seconds since the epoch, as the system reports it
    boot_id: str

    @staticmethod
    def own() -> ProcessName:
        return ProcessName(os.getpid(), psutil.Process().create_time(), boot_id())

    @property
    def alive(self) -> bool:
        """Whether this very process still runs. A zombie does not."""
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
    """Identifies the time since the computer was started."""
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.is_file():
        return linux.read_text().strip()
    if sys.platform == "darwin":
        answer = subprocess.run(["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True)
        if answer.stdout.strip():
            return answer.stdout.strip()
    return f"{psutil.boot_time():.0f}"


def cause_of_death(exit_code: int | None, last_output: str = "") -> str:
    """A sentence. `exit_code` is negative for a signal, None when no server saw the process end."""
    if exit_code == KILLED:
        return "The job's process was killed by the system, most likely because memory ran out."
    if exit_code is None:
        return "The job's process ended while the studio was closed, or the computer was switched off."
    if exit_code < 0:
        return f"The job's process was ended by signal {-exit_code}."
    tail = f" Its last output: {last_output}" if last_output else " Its log has the details."
    return f"The job's process ended unexpectedly (exit code {exit_code}).{tail}"
