"""Bytes as people read them: memory in GB of 2^30 bytes and disk in GB of 10^9 bytes, as macOS shows both."""

from __future__ import annotations

GIB = 2**30


def memory_size(count: float) -> str:
    """Bytes of memory in GB of 2^30: "5.2 GB", "24 GB"."""
    return _two_digits(count / GIB, "GB")


def disk_size(count: float) -> str:
    """Bytes on a disk or of a file in decimal units: "512 B", "9.1 MB", "24 GB"."""
    if count < 1000:
        return f"{count:.0f} B"
    units = ("kB", "MB", "GB", "TB")
    unit = -1
    while count >= 999.5 and unit < len(units) - 1:
        count, unit = count / 1000, unit + 1
    return _two_digits(count, units[unit])


def _two_digits(number: float, unit: str) -> str:
    return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
