"""Many generated inputs for one target: `python -m bench.fuzz photos --executions 200000`.

`make test` runs the same checks 2,000 times each (tests/fuzz). Here they run in processes of their own, one after the
other, each with another seed: a crash, an execution that takes over 5 s of a CPU, or memory over 1 GB is reported with
its seed, and `--seed N --executions 2000` runs that part again.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from core.device import backend

backend.prepare()

from tests.fuzz.test_fuzz import TARGETS, run

PART = 2000  # executions in one process
SECONDS_AT_MOST = 5.0
MB_AT_MOST = 1000


def timed(check: Callable[[Any], None], seconds: list[float]) -> Callable[[Any], None]:
    """`check`, noting how long each execution takes; one that hangs ends the process with a traceback."""

    def checked(data: Any) -> None:
        faulthandler.dump_traceback_later(12 * SECONDS_AT_MOST, exit=True)
        began = time.process_time()
        try:
            check(data)
        finally:
            seconds.append(time.process_time() - began)
            faulthandler.cancel_dump_traceback_later()

    return checked


def run_part(target: str, executions: int, seed: int) -> None:
    """In this process; the last line of what it prints is the figures."""
    strategy, check = TARGETS[target]
    seconds: list[float] = []
    TARGETS[target] = strategy, timed(check, seconds)
    run(target, executions, seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    megabytes = peak / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps({"executions": len(seconds), "slowest": max(seconds), "megabytes": megabytes}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--executions", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first part; the others count up")
    parser.add_argument("--here", action="store_true", help="one part, in this process")
    given = parser.parse_args()
    if given.here:
        run_part(given.target, given.executions, given.seed)
        return 0
    done, slowest, most, failed, began = 0, 0.0, 0.0, 0, time.perf_counter()
    for seed in range(given.seed, given.seed + -(-given.executions // PART)):
        size = min(PART, given.executions - (seed - given.seed) * PART)
        command = [sys.executable, "-m", "bench.fuzz", given.target, "--here", "--executions", str(size)]
        part = subprocess.run([*command, "--seed", str(seed)], capture_output=True, text=True, errors="replace")
        if part.returncode != 0:
            failed += 1
            print(f"seed {seed}: exit code {part.returncode}\n{part.stderr[-4000:]}", flush=True)
            continue
        figures = json.loads(part.stdout.splitlines()[-1])
        done += figures["executions"]
        slowest, most = max(slowest, figures["slowest"]), max(most, figures["megabytes"])
        failed += figures["slowest"] > SECONDS_AT_MOST or figures["megabytes"] > MB_AT_MOST
        print(
            f"seed {seed}: {done:,} executions, {failed} failures, slowest {slowest:.2f} s, at most {most:.0f} MB, "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
