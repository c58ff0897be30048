"""The server is killed, or hangs: every open page says so in five seconds, and goes on by itself once it is back."""

from __future__ import annotations

import http.client
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import BrowserContext, Page, Request, expect

from tests.e2e.conftest import (
    Studio,
    end,
    held,
    new_project,
    running_studio,
    show_captions,
    start,
    start_tiny_run,
    step_of,
    wait_for_step,
)

pytestmark = pytest.mark.outage

SECONDS = 5.0  # until a page says that the server is gone
CPU_SECONDS_AN_HOUR = 5.0  # of the server, for a page that watches it

WATCH = """() => { window.goneAt = new Promise((resolve) => {
  document.querySelector('#gone').addEventListener('beforetoggle', (event) => {
    if (event.newState === 'open') resolve(Date.now() / 1000);
  });
  setTimeout(() => resolve(Infinity), 20000);
}); }"""


@dataclass
class Server:
    """A studio that a test takes away and gives back, at one address."""

    studio: Studio
    models: Path
    way: signal.Signals

    def take_away(self) -> float:
        """Returns the time."""
        at = time.time()
        self.studio.process.send_signal(self.way)
        return at

    def give_back(self) -> None:
        if self.way is signal.SIGSTOP:
            self.studio.process.send_signal(signal.SIGCONT)
            return
        self.studio.process.wait()
        port = urlsplit(self.studio.url).port
        self.studio = start(self.studio.home, self.models, port or 0)


@pytest.fixture(params=[signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
def server(request: pytest.FixtureRequest, tmp_path: Path, tiny_models: Path) -> Iterator[Server]:
    one = Server(start(tmp_path / "home", tiny_models), tiny_models, request.param)
    yield one
    one.studio.process.send_signal(signal.SIGCONT)
    end(one.studio)


@pytest.mark.refusals
def test_every_page_says_that_the_server_is_gone_and_then_that_it_is_back(
    page: Page, context: BrowserContext, server: Server, photo_files: list[Path]
) -> None:
    new_project(page, server.studio, photo_files[:2], "Left house")
    start_tiny_run(page, steps=2)
    expect(page.locator("#state")).to_contain_text("done", timeout=60_000)
    paths = ["", "projects/1", "projects/1/train", "runs/1", "pictures", "queue", "models", "settings", "nowhere"]
    page.close()
    for group in (paths[:5], paths[5:]):  # a browser keeps six connections to a server
        tabs = {path: context.new_page() for path in group}
        for path, tab in tabs.items():
            tab.goto(f"{server.studio.url}/{path}")
            tab.wait_for_load_state()
            tab.evaluate(WATCH)
            expect(tab.locator("#gone")).to_be_hidden()
        gone = server.take_away()
        took = {path: tab.evaluate("window.goneAt") - gone for path, tab in tabs.items()}
        assert max(took.values()) <= SECONDS, took
        for tab in tabs.values():
            expect(tab.locator("#gone")).to_be_visible()
            expect(tab.locator("#gone")).to_have_text(re.compile("Likeness does not answer"))
        server.give_back()
        for tab in tabs.values():
            expect(tab.locator("#gone")).to_be_hidden(timeout=SECONDS * 1000)
            tab.close()


def test_a_run_that_is_watched_goes_on_without_a_reload(page: Page, server: Server, photo_files: list[Path]) -> None:
    new_project(page, server.studio, photo_files[:2], "Watched house")
    start_tiny_run(page, steps=50_000, every=25_000)
    wait_for_step(page, 2)
    page.evaluate("window.same = true")
    with held(server.studio):
        server.take_away()
        expect(page.locator("#gone")).to_be_visible()
        before = step_of(page)
    server.give_back()
    wait_for_step(page, before + 3)
    expect(page.locator("#gone")).to_be_hidden()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#state")).to_contain_text("stopped")
    assert page.evaluate("window.same")


def test_what_is_typed_meanwhile_is_saved_once_the_server_is_back(
    page: Page, context: BrowserContext, server: Server, photo_files: list[Path]
) -> None:
    new_project(page, server.studio, photo_files[:1], "Typed house")
    show_captions(page)
    settings = context.new_page()
    settings.goto(f"{server.studio.url}/settings")
    settings.wait_for_load_state()
    server.take_away()
    for tab in (page, settings):
        expect(tab.locator("#gone")).to_be_visible()
    page.get_by_role("textbox", name="Caption of house 0.png").fill("a house by the sea")
    page.locator("#choose-files").set_input_files(photo_files[1])
    settings.get_by_label("Caption template").fill("a picture of {trigger} {class_word}")
    settings.get_by_label("Caption template").blur()
    time.sleep(1.0)  # longer than the pause after typing
    server.give_back()
    expect(page.locator("#lines .saved").first).to_contain_text("Saved")
    expect(page.locator("#photos [data-photo]")).to_have_count(2)
    expect(settings.locator("#saved")).to_have_text("Saved")
    for tab in (page, settings):
        tab.reload()
    expect(page.get_by_role("textbox", name="Caption of house 0.png")).to_have_value("a house by the sea")
    expect(settings.get_by_label("Caption template")).to_have_value("a picture of {trigger} {class_word}")


@pytest.fixture
def own_studio(tmp_path: Path, tiny_models: Path) -> Iterator[Studio]:
    with running_studio(tmp_path / "home", tiny_models) as one:
        yield one


def test_a_page_that_watches_costs_the_server_next_to_nothing(page: Page, own_studio: Studio) -> None:
    asked: list[float] = []

    def on_request(request: Request) -> None:
        if request.url.endswith("/api/alive"):
            asked.append(time.monotonic())

    page.on("request", on_request)
    page.goto(f"{own_studio.url}/settings")
    while len(asked) < 5:
        page.wait_for_timeout(200)
    an_hour = 3600 * (len(asked) - 1) / (asked[-1] - asked[0])

    process = psutil.Process(own_studio.process.pid)
    connection = http.client.HTTPConnection(urlsplit(own_studio.url).netloc)

    def cpu_seconds(requests: int) -> float:
        before = sum(process.cpu_times()[:2])
        for _ in range(requests):
            connection.request("GET", "/api/alive")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 204
        return sum(process.cpu_times()[:2]) - before

    cpu_seconds(50)
    each = cpu_seconds(500) / 500
    connection.close()
    assert each * an_hour <= CPU_SECONDS_AN_HOUR, f"{each * 1000:.2f} ms, {an_hour:.0f} times an hour"
