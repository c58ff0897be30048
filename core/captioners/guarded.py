"""Run a module of this Python that ends with the process that started it, however that one ends.

    a job  --a pipe to stdin-->  python -I guarded.py MODULE ARGUMENTS...  --starts-->  its own processes

When the job's process ends, or is killed, the kernel closes the pipe; a thread here sees that and kills the whole
process group. So neither a server nor a pip outlives its job. The Python of another environment runs this file: it has
the standard library alone.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _kill_group_at_end_of(pipe: int) -> None:
    while os.read(pipe, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    pipe = os.dup(0)  # not inherited by child processes
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_kill_group_at_end_of, args=(pipe,), daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
