"""The web process starts at once and holds no model: it never imports MLX, numpy or anything that computes."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.test_layers import web_side

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("mlx", "numpy", "cv2", "torch", "tokenizers", "scipy", "huggingface_hub")

WATCHED_STUDIO = f"""
import sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            print("IMPORTED", name, file=sys.stderr, flush=True)
sys.meta_path.insert(0, Watch())
from app.cli import main
main()
"""


def python(code: str, *arguments: str, **more: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def watched_studio(home: Path) -> Iterator[tuple[int, list[str]]]:
    """A running studio: its port, and a list that holds, once it has ended, what it said."""
    port, said = free_port(), []
    process = python(WATCHED_STUDIO, "--home", str(home), "--port", str(port), "--no-browser")
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port, said
    finally:
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=30)[1].splitlines()


def ask(
    port: int, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path, body, {"Content-Type": kind} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.slow
def test_importing_all_of_the_web_side_loads_nothing_that_computes() -> None:
    code = (
        f"import importlib, sys\nfor name in {[*web_side(), 'app.cli']!r}: importlib.import_module(name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    process = python(code)
    out, errors = process.communicate(timeout=60)
    assert out.strip() == "[]", errors


@pytest.mark.slow
def test_a_studio_that_serves_pages_and_takes_photos_never_asks_for_mlx(tmp_path: Path) -> None:
    photo = io.BytesIO()
    Image.new("RGB", (300, 200), "teal").save(photo, "JPEG")
    subject = {"name": "A", "trigger": "sks", "class_word": "can"}
    with watched_studio(tmp_path) as (port, said):
        status, body = ask(port, "POST", "/api/projects", json.dumps(subject).encode())
        assert status == 201, body
        project = json.loads(body)["id"]
        status, body = ask(port, "PUT", f"/api/projects/{project}/photos/a.jpg", photo.getvalue(), "image/jpeg")
        assert status == 201, body
        picture = f"/api/photos/{json.loads(body)['id']}/thumb"
        addresses = ["/", f"/projects/{project}", f"/projects/{project}/train", "/models", "/settings", picture]
        answers = {address: ask(port, "GET", address)[0] for address in addresses}
    assert set(answers.values()) == {200}, answers
    assert not [line for line in said if line.startswith("IMPORTED")]
