"""A module run by another Python, as a process group that ends with this process; `guarded.py` is its other half."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

GUARDED = Path(__file__).with_name("guarded.py")
LAST_LINES, LAST_CHARACTERS = 40, 400  # of the output, for an error message
NO_REASON = ("Traceback ", "During handling of ", "The above exception ", "INFO:")  # lines that begin so say nothing


class GuardedProcess:
    """One such process; a context manager that ends it. What it writes goes to `on_line`, called in a thread."""

    def __init__(
        self,
        python: Path,
        module: str,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> None:
        """`variables` are set in the environment of this process, without Python's own."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._on_line = on_line
        self._process = subprocess.Popen(
            [str(python), "-I", "-u", str(GUARDED), module, *arguments],
            env={**environment, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> GuardedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.poll()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so many seconds; then all that it wrote has been read."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(1.0)
        return True

    def end(self) -> None:
        """Kill what is left of the group: there is nothing to save in it."""
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(1.0)
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()

    def lines(self) -> list[str]:
        """The last lines that it wrote."""
        return list(self._lines)

    def last_words(self) -> str:
        """The last sentences that it wrote, without the frames of tracebacks, which are indented."""
        words = [line.strip() for line in self.lines() if line.strip() and not line[0].isspace()]
        text = " ".join(line for line in words if not line.startswith(NO_REASON))
        return text if len(text) <= LAST_CHARACTERS else f"… {text[-LAST_CHARACTERS:]}"

    def _read(self) -> None:
        with suppress(ValueError):  # closed while reading
            for line in self._process.stdout or ():
                self._lines.append(line.rstrip("\n"))
                self._on_line(line.rstrip("\n"))
