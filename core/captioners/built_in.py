"""The built-in captioner: mlx-vlm's server, started for one job and asked as any other server on this computer.

    the job  --starts-->  python -I guarded.py mlx_vlm.server --host 127.0.0.1 --port FREE --model FOLDER
             --waits-->   GET /health, which answers once the model is loaded
             --asks-->    POST /v1/chat/completions (openai.py), with the key that this job made up
             --ends-->    the process group; `guarded.py` does so when the job's process is killed

The server allows requests of every web page, so it gets a key that no page knows: in its environment, which other users
do not see. It is offline: it loads the folder, and never asks the hub. Source: mlx-vlm 0.7.10, mlx_vlm/server.
"""

from __future__ import annotations

import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from core.captioners.base import Unreachable
from core.captioners.environment import PROGRAM, Environment
from core.captioners.guarded_process import GuardedProcess
from core.captioners.openai import OpenAICaptioner
from core.errors import CaptionerProblem

START_SECONDS = 300.0  # to import mlx-vlm and read the model from a slow disk
POLL_SECONDS = 0.2
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


class BuiltInCaptioner:
    """Captions from the server of this job."""

    def __init__(self, server: GuardedProcess, client: OpenAICaptioner) -> None:
        self._server, self._client = server, client
        self.origin = client.origin

    def caption(self, photo: Path, mask: Path | None = None) -> str:
        """As of `OpenAICaptioner`. Raises Unreachable, with the server's last words, once it has ended."""
        try:
            return self._client.caption(photo, mask)
        except CaptionerProblem:
            if not self._server.wait(POLL_SECONDS):
                raise
            raise Unreachable(f"{PROGRAM} ended unexpectedly. {_last_words(self._server)}") from None


@contextmanager
def started(
    environment: Environment,
    folder: Path,
    title: str,
    prompt: str,
    *,
    check: Callable[[], None],
    log: Callable[[str], None],
) -> Iterator[BuiltInCaptioner]:
    """The captioner with the model of `folder` loaded, for the duration of the block.

    `check` may raise to end the wait for it; `log` takes every line of the server, in a thread. Raises CaptionerProblem
    with the server's last words when it does not start.
    """
    if not environment.installed:
        raise CaptionerProblem("The built-in captioner is not installed. Install it on the Models page.")
    key, port = secrets.token_hex(16), _free_port()
    base = f"http://127.0.0.1:{port}"
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--model", str(folder), "--log-level", "WARNING"]
    variables = {**OFFLINE, "MLX_VLM_SERVER_API_KEY": key}
    with GuardedProcess(environment.python, "mlx_vlm.server", arguments, variables, log) as server:
        _wait_until_ready(server, base, key, folder, check)
        with OpenAICaptioner(base, str(folder), prompt, origin=title, key=key) as client:
            yield BuiltInCaptioner(server, client)


def _wait_until_ready(server: GuardedProcess, base: str, key: str, folder: Path, check: Callable[[], None]) -> None:
    deadline = time.monotonic() + START_SECONDS
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(timeout=5.0, trust_env=False, headers=headers) as client:
        while not _is_ready(client, base, folder):
            check()
            if server.wait(POLL_SECONDS):
                raise CaptionerProblem(f"{PROGRAM} could not start. {_last_words(server)}")
            if time.monotonic() > deadline:
                raise CaptionerProblem(
                    f"{PROGRAM} did not load its model within {START_SECONDS:.0f} s. Close other programs, then try "
                    "again."
                )


def _is_ready(client: httpx.Client, base: str, folder: Path) -> bool:
    try:
        answer = client.get(f"{base}/health")
        state = answer.json() if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError):
        return False
    return isinstance(state, Mapping) and state.get("loaded_model") == str(folder)


def _last_words(server: GuardedProcess) -> str:
    if server.exit_code == -signal.SIGKILL:
        return "The system ended it, most likely because memory ran out. Close other programs, then try again."
    return f"Its last words: {server.last_words() or 'none'}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
