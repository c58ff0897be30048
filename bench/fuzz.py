"""Many generated inputs for one target: `python -m bench.fuzz photos --executions 200000 --processes 16`.

`make test` runs the same checks 2,000 times each (tests/fuzz). Here they run in parts of 2,000, each with a seed of its
own, shared among processes that live for all of theirs. An exception that is not a sentence, a crash, an execution
that takes over 5 s of a CPU or waits for a minute, and memory over 1 GB are reported with the part's seed, and
`--seed N --executions 2000` runs that part again. The exit code is 1 then, or when executions are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, NamedTuple

from core.device import backend

backend.prepare()

from tests.fuzz import scratch
from tests.fuzz.targets import MODULES, SECONDS_AT_MOST, Target, run, target

PART = 2000  # executions with one seed
WAIT_AT_MOST = 60.0  # seconds by the clock, where a process waits or the computer is busy
MB_AT_MOST = 1000
SHOWN = 4000  # characters of a traceback


class Part(NamedTuple):
    """Executions with one seed."""

    seed: int
    executions: int


class Figures(NamedTuple):
    """Of one part, run."""

    seed: int
    executions: int
    slowest: float  # seconds of CPU of one execution
    megabytes: float  # peak of the process until now
    failure: str  # empty where all is well


def parts_of(executions: int, seed: int) -> list[Part]:
    count = -(-executions // PART)
    return [Part(seed + index, min(PART, executions - index * PART)) for index in range(count)]


def run_parts(target: Target, parts: Iterable[Part]) -> Iterator[Figures]:
    """In this process, one after the other; it ends with a traceback where an execution hangs."""
    faulthandler.register(signal.SIGPROF, chain=True)
    faulthandler.register(signal.SIGALRM, chain=True)
    for part in parts:
        seconds: list[float] = []
        failure = ""
        try:
            run(target._replace(check=_timed(target.check, seconds)), part.executions, part.seed)
        except Exception:  # noqa: BLE001  every kind is what is looked for
            failure = traceback.format_exc()[-SHOWN:]
        slowest, megabytes = max(seconds, default=0.0), _peak_mb()
        if not failure and slowest > SECONDS_AT_MOST:
            failure = f"an execution took {slowest:.1f} s"
        if not failure and megabytes > MB_AT_MOST:
            failure = f"{megabytes:.0f} MB of memory"
        yield Figures(part.seed, len(seconds), slowest, megabytes, failure)


def _timed(check: Callable[[Any], None], seconds: list[float]) -> Callable[[Any], None]:
    """`check`, noting how long each execution takes; one that hangs ends the process."""

    def checked(data: Any) -> None:
        signal.setitimer(signal.ITIMER_PROF, SECONDS_AT_MOST)
        signal.setitimer(signal.ITIMER_REAL, WAIT_AT_MOST)
        began = time.process_time()
        try:
            check(data)
        finally:
            seconds.append(time.process_time() - began)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)

    return checked


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def share(command: Sequence[str], parts: Sequence[Part]) -> Iterator[Figures]:
    """Have processes run the parts, one process at a time: another takes over where one dies.

    `command` reads parts from its input and prints the figures of each, a line of JSON each.
    """
    rest = list(parts)
    while rest:
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
            subprocess.Popen(
                command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as to_it:
                to_it.writelines(f"{json.dumps(part)}\n" for part in rest)
            for line in process.stdout:
                yield Figures(*json.loads(line))
                del rest[0]
            code = process.wait()
            if code != 0 or rest:
                errors.seek(0)
                failure = f"its process ended with {code}\n{errors.read()[-SHOWN:]}"
                yield Figures(rest.pop(0).seed if rest else -1, 0, 0.0, 0.0, failure)


class Total:
    """What the processes found, added up and printed."""

    def __init__(self, name: str, processes: int) -> None:
        self.name, self.began, self.lock = name, time.perf_counter(), Lock()
        self.executions, self.failures, self.slowest = 0, 0, 0.0
        self.megabytes = [0.0] * processes

    def add(self, process: int, figures: Figures) -> None:
        with self.lock:
            self.executions += figures.executions
            self.slowest = max(self.slowest, figures.slowest)
            self.megabytes[process] = max(self.megabytes[process], figures.megabytes)
            self.failures += bool(figures.failure)
            if figures.failure:
                print(f"seed {figures.seed}: {figures.failure}", flush=True)
            print(f"seed {figures.seed}: {self}", flush=True)

    def __str__(self) -> str:
        seconds = time.perf_counter() - self.began
        return (
            f"{self.name}: {self.executions:,} executions, {self.failures} failures, slowest {self.slowest:.2f} s, "
            f"at most {max(self.megabytes):.0f} MB, {seconds:.0f} s, {self.executions / seconds:.0f} a second"
        )


def run_shared(name: str, executions: int, seed: int, processes: int) -> int:
    """The exit code: 1 when something failed, or fewer executions came about than were asked for."""
    parts = parts_of(executions, seed)
    processes = min(processes, len(parts))
    total = Total(name, processes)
    command = [sys.executable, "-m", "bench.fuzz", name, "--here"]

    def one(process: int) -> None:
        for figures in share(command, parts[process::processes]):
            total.add(process, figures)

    with tempfile.TemporaryDirectory(prefix="likeness-fuzz-", dir=scratch.parent()) as folder:
        os.environ["TMPDIR"] = folder  # of the processes: gone even where one is killed
        with ThreadPoolExecutor(processes) as pool:
            list(pool.map(one, range(processes)))
    if total.executions < executions:
        print(f"{executions - total.executions:,} executions are missing")
    print(f"Peak memory of each process, MB: {' '.join(f'{each:.0f}' for each in total.megabytes)}")
    print(total)
    return 1 if total.failures or total.executions < executions else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=sorted(MODULES))
    parser.add_argument("--executions", type=int, default=200_000)
    parser.add_argument("--processes", type=int, default=1, help="that share them")
    parser.add_argument("--seed", type=int, default=1, help="of the first part; the others count up")
    parser.add_argument("--here", action="store_true", help="run the parts that are read from the input")
    given = parser.parse_args()
    if not given.here:
        return run_shared(given.target, max(1, given.executions), given.seed, max(1, given.processes))
    parts = [Part(*json.loads(line)) for line in sys.stdin]
    for figures in run_parts(target(given.target), parts):
        print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
