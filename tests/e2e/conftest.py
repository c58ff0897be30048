"""A real studio in a process of its own, on an empty home and a free port, and a real Chromium to use it with.

Every test fails on an error in the page or its console, and on anything asked for from another address.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, expect

from tests.tiny import make_model_folder

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")  # the first draws no window
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
START_SECONDS = 60.0
PATIENCE_MS = 20_000  # the machine may be busy with other tests


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "refusals: the test makes the studio refuse something, on purpose")
    config.addinivalue_line("markers", "outage: the test kills or stops the studio, on purpose")


@dataclass(frozen=True)
class Studio:
    """A studio that runs."""

    url: str
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        """What it writes to its terminal."""
        return self.home.parent / f"{self.home.name}-studio.log"


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, object]:
    if not CHROMIUM:
        pytest.fail("Chromium is missing: install it, or name it in CHROMIUM.", pytrace=False)
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
    quiet += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # what is asked for elsewhere is not found
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    return {"executable_path": CHROMIUM, "args": [*quiet, *alone], "headless": True}


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one in it: small and random, so that a run takes seconds."""
    folder = tmp_path_factory.mktemp("models")
    make_model_folder(folder / "tiny")
    return folder


@contextlib.contextmanager
def running_studio(home: Path, models: Path) -> Iterator[Studio]:
    """The command `likeness` over `home`, ended as a terminal would end it."""
    studio = start(home, models)
    try:
        yield studio
    finally:
        end(studio)


def start(home: Path, models: Path, port: int = 0, program: tuple[str, ...] = ("-P", "-m", "app.cli")) -> Studio:
    """Start the command `likeness` over `home`, and wait until it answers."""
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    environment = {**os.environ, "LIKENESS_MODELS": str(models), "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "2"}
    command = [sys.executable, *program, "--home", str(home), "--port", str(port), "--no-browser"]
    with (home.parent / f"{home.name}-studio.log").open("ab") as output:
        process = subprocess.Popen(command, cwd=home.parent, env=environment, stdout=output, stderr=output)
    studio = Studio(f"http://127.0.0.1:{port}", home, process)
    try:
        _wait_for(studio)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return studio


def end(studio: Studio) -> None:
    """End it as a terminal would."""
    studio.process.send_signal(signal.SIGINT)
    try:
        studio.process.wait(30)
    except subprocess.TimeoutExpired:
        studio.process.kill()
        studio.process.wait()
        raise
    assert studio.process.returncode == 0, studio.log.read_text()
    assert "Traceback" not in studio.log.read_text(), studio.log.read_text()


def _wait_for(studio: Studio) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if studio.process.poll() is not None:
            pytest.fail(f"the studio ended at once: {studio.log.read_text()}")
        try:
            urllib.request.urlopen(f"{studio.url}/api/projects", timeout=1).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    pytest.fail(f"the studio did not start in {START_SECONDS:.0f} s: {studio.log.read_text()}")


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[Studio]:
    """One studio for all tests that bring a project of their own."""
    with running_studio(tmp_path_factory.mktemp("studio") / "home", tiny_models) as running:
        yield running


@pytest.fixture(scope="session")
def photo_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six photos of one thing: a red house with a door, here and there, on six grounds."""
    folder = tmp_path_factory.mktemp("photos")
    grounds = ("#d8e2c8", "#c8d8e8", "#f0e0c0", "#e8d0d8", "#d0d0d0", "#b8d8d0")
    found = []
    for number, ground in enumerate(grounds):
        image = Image.new("RGB", (320, 280), ground)
        pen = ImageDraw.Draw(image)
        x, y = 60 + 20 * number, 110 + 6 * number
        pen.polygon([(x, y), (x + 60, y - 60), (x + 120, y)], fill="#7a2e22")
        pen.rectangle((x + 10, y, x + 110, y + 90), fill="#c8493a")
        pen.rectangle((x + 48, y + 45, x + 72, y + 90), fill="#3a2a20")
        found.append(folder / f"house {number}.png")
        image.save(found[-1])
    return found


@pytest.fixture(autouse=True)
def clean_page(request: pytest.FixtureRequest, context: BrowserContext) -> Iterator[None]:
    """Nothing from elsewhere, and no error in any tab. A test that provokes refusals is marked `refusals`."""
    expect.set_options(timeout=PATIENCE_MS)
    context.set_default_timeout(PATIENCE_MS)
    troubles: list[str] = []

    def on_request(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "blob:", "data:")):
            troubles.append(f"asked for {request.url}")

    def on_console(message: ConsoleMessage) -> None:
        refused = "the server responded with a status of 4" in message.text
        expected = refused and request.node.get_closest_marker("refusals")
        expected = expected or ("net::ERR_" in message.text and request.node.get_closest_marker("outage"))
        if message.type in ("error", "warning") and not expected:
            troubles.append(f"console {message.type}: {message.text}")

    context.on("request", on_request)  # routed, each request would come through here first, and none from the cache
    context.on("console", on_console)
    context.on("weberror", lambda error: troubles.append(f"error in the page: {error.error}"))
    yield
    assert not troubles


def new_project(page: Page, studio: Studio, photos: list[Path], name: str = "House") -> None:
    """Make a project with these photos as a program would, which is sooner done than by hand; ends on its page."""
    subject = {"name": name, "trigger": "sks", "class_word": "house"}
    made = page.request.post(f"{studio.url}/api/projects", data=subject)
    assert made.ok, made.text()
    project = made.json()["id"]
    for photo in photos:
        address = f"{studio.url}/api/projects/{project}/photos/{quote(photo.name, safe='')}"
        added = page.request.put(address, data=photo.read_bytes())
        assert added.ok, added.text()
    page.goto(f"{studio.url}/projects/{project}")
    expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
    page.wait_for_load_state()
    expect(page.locator("#photos [data-photo]")).to_have_count(len(photos))


def wait_until(page: Page, holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Ask until it holds. Of an asynchronous script the browser's own wait would take the promise for the answer."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        page.wait_for_timeout(100)


def show_captions(page: Page) -> None:
    """On a project's page: the list of captions, which stays across reloads."""
    page.locator('[data-view="captions"]').click()
    expect(page.locator("#lines li").first).to_be_visible()


def tile(page: Page, name: str) -> Locator:
    """A photo in the grid."""
    return page.locator('#photos [role="option"]', has_text=name)


def start_tiny_run(page: Page, steps: int, every: int = 50, class_pictures: int = 0) -> None:
    """From a project's page: train the tiny model, requested as a program would; ends on the run's page."""
    base, project = page.url.split("#")[0].split("/projects/")
    knobs = {"model": "tiny", "steps": steps, "sample_every": every, "save_every": every}
    if class_pictures:
        knobs["class_pictures"] = class_pictures
    started = page.request.post(f"{base}/api/projects/{project}/runs", data=knobs)
    assert started.ok, started.text()
    page.goto(f"{base}/runs/{started.json()['id']}")
    expect(page.locator("#state")).to_be_visible()
    page.wait_for_load_state()


@contextlib.contextmanager
def held(studio: Studio) -> Iterator[None]:
    """The training stands still meanwhile: nothing that is looked at depends on its steps, which take a core."""
    children = psutil.Process(studio.process.pid).children()
    (training,) = (each for each in children if each.cmdline()[-1] == "memory")
    writable = False
    while not writable:  # it must not stand in the middle of a write, or nobody else could write
        training.suspend()
        database = sqlite3.connect(studio.home / "likeness.db", timeout=0.1)
        with contextlib.suppress(sqlite3.OperationalError):
            database.execute("BEGIN IMMEDIATE")
            writable = True
        database.close()
        if not writable:
            training.resume()
    try:
        yield
    finally:
        training.resume()


def step_of(page: Page) -> int:
    return int(page.locator("#step").inner_text())


def wait_for_step(page: Page, step: int) -> None:
    reached = "step => Number(document.querySelector('#step').textContent) >= step"
    # A model is loaded first. Looked at with each frame, the page would draw frames all along.
    page.wait_for_function(reached, arg=step, timeout=60_000, polling=100)
