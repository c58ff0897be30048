"""The studio's start-up time, and the delay of an event to the browser: `python -m bench.first_page`.

first page   from the start of the process to the last byte of `GET /`, in an empty home; the goal is at most 1.5 s
event        from the commit of an event row to its text on the run's page, in Chromium, while that run trains; the
             goal is at most 0.5 s
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STARTS, EVENTS = 5, 20
KNOBS = {"steps": 2000, "sample_every": 0}  # of the run that trains meanwhile

WATCH_FOR_TEXT = """() => {
    window.seenAt = {};
    new MutationObserver(() => {
        for (const word of document.body.innerText.match(/event-\\d+-of-the-bench/g) ?? [])
            window.seenAt[word] ??= Date.now();
    }).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""


@contextmanager
def studio(home: Path) -> Iterator[tuple[int, float]]:
    """A running studio: its port, and the seconds until it had served its first page."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "app.cli", "--home", str(home), "--port", str(port), "--no-browser"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                request(port, "GET", "/")
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - began > 60:
                    raise
                time.sleep(0.01)
        yield port, time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)


def request(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        content = answer.read()
    if answer.status >= 400:
        raise SystemExit(f"{method} {path}: {answer.status} {content.decode()[:500]}")
    return json.loads(content) if path.startswith("/api") else content


def first_pages() -> list[float]:
    taken = []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as home, studio(Path(home)) as (_, seconds):
            taken.append(seconds)
    return taken


def event_delays(chromium: str) -> list[float]:
    """Seconds from commit to text, for each of EVENTS rows."""
    from playwright.sync_api import sync_playwright

    from app.database import Database
    from app.home import Home
    from app.tables import Event

    flags = ["--disable-gpu", "--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    committed: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory() as home,
        studio(Path(home)) as (port, _),
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=flags) as browser,
    ):
        project = request(port, "POST", "/api/projects/example", {})["id"]
        run = request(port, "POST", f"/api/projects/{project}/runs", KNOBS)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/runs/{run['id']}")
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")  # the log is collapsed
        page.evaluate(WATCH_FOR_TEXT)
        while (detail := request(port, "GET", f"/api/runs/{run['id']}"))["step"] < 2:
            if detail["state"] == "failed":
                raise SystemExit(f"The run failed: {detail['error']}")
            page.wait_for_timeout(200)
        database = Database(Home(Path(home)))
        for index in range(EVENTS):
            word = f"event-{index}-of-the-bench"
            log = {"level": "info", "text": word}
            with database.write() as session:
                session.add(Event(job_id=run["job_id"], attempt=1, kind="log", payload=log))
            committed[word] = time.time()
            page.wait_for_timeout(137)  # not a multiple of the studio's polling interval
        page.wait_for_timeout(2000)
        seen = page.evaluate("window.seenAt")
        database.close()
        request(port, "POST", f"/api/runs/{run['id']}/stop", {"now": True})
    return [seen.get(word, float("inf")) / 1000 - at for word, at in committed.items()]


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    pages = first_pages()
    print(f"first page   {statistics.median(pages):.2f} s, slowest {max(pages):.2f} s of {len(pages)} starts")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if not chromium:
        print("event        not measured: Chromium is not installed")
        return
    delays = event_delays(chromium)
    print(
        f"event        {statistics.median(delays):.2f} s, slowest {max(delays):.2f} s of {len(delays)}, while training"
    )


if __name__ == "__main__":
    main()
