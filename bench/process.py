"""Measuring in a fresh process, whose memory and compiled kernels are nobody else's."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def run_bench(name: str, *options: object) -> Any:
    """Run `python -m bench.<name> <options>` and return the JSON of its last line, None where it prints nothing.

    Raises SystemExit with the end of its standard error when it fails.
    """
    command = [sys.executable, "-m", f"bench.{name}", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:])} failed: {done.stderr[-2000:]}")
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines else None
