"""A real studio in a process of its own, on an empty home and a free port, and a real Chromium to use it with.

Every test fails on an error in the page or its console, and on anything asked for from another address.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Route, expect

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


def start(home: Path, models: Path, port: int = 0) -> Studio:
    """Start the command `likeness` over `home`, and wait until it answers."""
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    environment = {**os.environ, "LIKENESS_MODELS": str(models), "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "2"}
    command = [sys.executable, "-P", "-m", "app.cli", "--home", str(home), "--port", str(port), "--no-browser"]
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

    def on_request(route: Route) -> None:
        url = route.request.url
        if url.startswith(("http://127.0.0.1:", "blob:", "data:")):
            route.continue_()
        else:
            troubles.append(f"asked for {url}")
            route.abort()

    def on_console(message: ConsoleMessage) -> None:
        refused = "the server responded with a status of 4" in message.text
        expected = refused and request.node.get_closest_marker("refusals")
        expected = expected or ("net::ERR_" in message.text and request.node.get_closest_marker("outage"))
        if message.type in ("error", "warning") and not expected:
            troubles.append(f"console {message.type}: {message.text}")

    context.route("**/*", on_request)
    context.on("console", on_console)
    context.on("weberror", lambda error: troubles.append(f"error in the page: {error.error}"))
    yield
    assert not troubles


def new_project(page: Page, studio: Studio, photos: list[Path], name: str = "House") -> None:
    """Choose the photos on the home page and say what they show; ends on the project's page."""
    page.goto(studio.url)
    page.wait_for_load_state()  # the buttons are there before the scripts are
    if photos:
        page.locator("#choose-files").set_input_files(photos)
    else:
        page.get_by_role("button", name="Begin without photos").click()
    page.get_by_label("What it is").fill("house")
    page.get_by_label("Its name").fill(name)
    page.get_by_role("button", name="Say it differently").click()
    page.get_by_label("In prompts it is called").fill("sks")
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url("**/projects/*")
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
    """From a project's page: train the tiny model; ends on the run's page."""
    page.get_by_role("link", name="Train").click()
    page.wait_for_url("**/train")
    page.get_by_label("Model").select_option("tiny")
    page.get_by_label("Steps", exact=True).fill(str(steps))
    page.get_by_text("Samples and checkpoints").click()
    page.get_by_label("Sample every").fill(str(every))
    page.get_by_label("Save every").fill(str(every))
    if class_pictures:
        page.get_by_text("Loss and data").click()
        page.get_by_label("Class pictures", exact=True).fill(str(class_pictures))
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#state")).to_be_visible()
    page.wait_for_load_state()


def step_of(page: Page) -> int:
    return int(page.locator("#step").inner_text())


def wait_for_step(page: Page, step: int) -> None:
    reached = "step => Number(document.querySelector('#step').textContent) >= step"
    page.wait_for_function(reached, arg=step, timeout=60_000)  # a model is loaded first
