"""Runs together: compared, moved in the queue, announced by the bell, taken away as a file. The runs are made up."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from sqlmodel import select

from app.database import Database
from app.home import Home
from app.jobs import store
from app.jobs.states import Kind, State
from app.jobs.store import Claim
from app.tables import Event, Job, Run, now
from tests import run_states
from tests.e2e.axe import faults
from tests.e2e.conftest import wait_until
from tests.run_states import Scene

SCENES = (
    Scene("done", State.SUCCEEDED, step=400, turns=True),
    Scene("short", State.SUCCEEDED, steps=150, step=150, prompts=1, every=30, knobs={"rank": 8}),
    Scene("running", State.RUNNING, step=312, phase="training"),
    Scene("failing", State.RUNNING, step=120, phase="training"),
    Scene("first", State.QUEUED),
    Scene("second", State.QUEUED),
    Scene("third", State.QUEUED),
)
SAMPLE = {"id": 1, "prompt_id": 0, "prompt": "", "seed": 0, "url": "/api/pictures/1/file", "width": 256, "height": 256}
SPY = """
  const Real = window.Notification;
  window.Notification = class {
    constructor(words) { localStorage.setItem('shown', `${localStorage.getItem('shown') ?? ''}${words}|`); }
    static get permission() { return localStorage.getItem('permission') ?? 'default'; }
    static async requestPermission() {
      localStorage.setItem('asked', 'yes');
      localStorage.setItem('permission', 'granted');
    }
  };
"""


@dataclass(frozen=True)
class Together:
    """A studio over made-up runs, all of project 1."""

    url: str
    home: Path
    runs: dict[str, int]

    def end(self, name: str, state: State, error: dict[str, str] | None = None) -> None:
        """End a run as its process would."""
        database = Database(Home(self.home))
        with database.read() as session:
            job = session.get_one(Run, self.runs[name]).job_id
        store.end(database, Claim(job, 1, Kind.TRAIN), state, error=error)
        database.close()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together]:
    home = tmp_path_factory.mktemp("together") / "home"
    runs = run_states.make(home, SCENES)
    database = Database(Home(home))
    with database.write() as session:
        for job in session.exec(select(Job).where(Job.state == State.RUNNING)):
            job.heartbeat_at = now() + timedelta(hours=1)  # nobody executes them
            session.add(job)
    database.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with run_states.served(home, port) as address:
        yield Together(address, home, runs)


def step_words(page: Page) -> list[str]:
    return [(image.get_attribute("alt") or "").split(":")[0] for image in page.locator("#shots img.now").all()]


def test_runs_are_chosen_by_keys_and_compared_at_one_step(page: Page, together: Together) -> None:
    page.goto(f"{together.url}/projects/1")
    page.get_by_role("tab", name=re.compile("Runs")).click()
    compare = page.get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    page.get_by_label("Compare Run 1", exact=True).focus()
    page.keyboard.press("Space")
    expect(page.locator("#compare-words")).to_have_text("One run is chosen; choose another.")
    page.get_by_label("Compare Run 2", exact=True).check()
    found = faults(page, "two runs chosen")
    page.get_by_label("Compare Run 2", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/compare?ids={together.runs['done']},{together.runs['short']}")

    expect(page.locator("#shots img.now")).to_have_count(2)
    expect(page.locator("#loss-chart canvas")).to_be_visible()
    expect(page.locator("#held-chart canvas")).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.locator("#scrub").focus()
    page.keyboard.press("End")
    assert step_words(page) == ["Step 400", "Step 150"], "the shorter run stays at its last"
    page.keyboard.press("Home")
    assert step_words(page) == ["Step 0", "Step 0"]
    page.get_by_role("button", name="Each at its best").click()
    assert step_words(page) == ["Step 200", "Step 60"]
    expect(page.locator("#shown-step")).to_have_text("Each at its suggested step")
    page.get_by_role("button", name="Show all at step 200").click()
    assert step_words(page) == ["Step 200", "Step 150"]
    expect(page.locator("#shown-step")).to_have_text("Step 200")
    page.locator(".wipe").nth(1).focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".plate .tag.l").nth(1)).to_have_text("Run 1")

    rows = page.locator("#settings-table tbody tr:visible")
    labels = {row.split("\t")[0] for row in rows.all_inner_texts()}
    assert {"Rank", "Steps", "Sample prompts"} <= labels
    assert "Optimizer" not in labels
    page.get_by_label("Show all").check()
    expect(page.get_by_role("rowheader", name="Optimizer")).to_be_visible()
    page.locator("#loss-table summary").click()
    expect(page.locator("#loss-table tbody tr").first).to_be_visible()
    page.get_by_label("Prompt", exact=True).select_option(index=1)
    expect(page.locator(".plate .when").nth(1)).to_have_text("It has no picture of this prompt")
    found += faults(page, "two runs compared")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_label("Add a run").select_option(label="Run 3")
    page.wait_for_url("**/runs/compare?ids=*,*,*")
    expect(page.locator("#shots img.now")).to_have_count(3)
    page.get_by_label("Leave out Run 2").click()
    page.wait_for_url(f"**/runs/compare?ids={together.runs['done']},{together.runs['running']}")
    assert not found, "\n".join(found)


def waiting(page: Page) -> list[str]:
    titles = page.locator('li[data-state="queued"] h3').all_inner_texts()
    return [title.split(", ")[1] for title in titles]


def grip(page: Page, run: str) -> Locator:
    return page.locator(f'li[data-state="queued"]:has-text("{run}") [data-grip]')


def test_waiting_jobs_change_places_by_keys_mouse_and_finger_and_say_when_they_are_done(
    page: Page, context: BrowserContext, together: Together
) -> None:
    page.goto(f"{together.url}/queue")
    assert waiting(page) == ["Run 5", "Run 6", "Run 7"]
    times = page.locator(".done-by")
    expect(times.first).to_have_text(re.compile(r"^done by .*\d?\d:\d\d"))
    expect(page.locator("li[data-state=queued] .done-by")).to_have_count(3)
    expect(page).to_have_title(re.compile(r"^\d+% · Queue"))
    grip(page, "Run 7").focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#queue-spoken")).to_have_text("Training: Pip, Run 7 is at place 2.")
    wait_until(page, lambda: waiting(page) == ["Run 5", "Run 7", "Run 6"])
    expect(grip(page, "Run 7")).to_be_focused()
    page.get_by_role("button", name="Undo").click()
    wait_until(page, lambda: waiting(page) == ["Run 5", "Run 6", "Run 7"])

    drag(page, grip(page, "Run 5"), page.locator('li[data-state="queued"]:has-text("Run 7")'))
    wait_until(page, lambda: waiting(page) == ["Run 6", "Run 7", "Run 5"])
    page.set_viewport_size({"width": 390, "height": 844})
    touch_drag(page, context, grip(page, "Run 5"), page.locator('li[data-state="queued"]:has-text("Run 6")'))
    wait_until(page, lambda: waiting(page) == ["Run 5", "Run 6", "Run 7"])
    page.reload()
    assert waiting(page) == ["Run 5", "Run 6", "Run 7"], "as the studio has them"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    found = faults(page, "the queue")
    page.locator('li[data-state="queued"]:has-text("Run 6") a', has_text="Again").click()
    page.wait_for_url("**/train?*")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("400")
    assert not found, "\n".join(found)


def middle(one: Locator) -> tuple[float, float, float]:
    """x, y, and half the height."""
    box = one.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["height"] / 2


def drag(page: Page, handle: Locator, below: Locator) -> None:
    x, y, _ = middle(handle)
    _, to, half = middle(below)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, (y + to) / 2)
    page.mouse.move(x, to + half - 4, steps=4)
    page.mouse.up()


def touch_drag(page: Page, context: BrowserContext, handle: Locator, above: Locator) -> None:
    handle.scroll_into_view_if_needed()
    x, y, _ = middle(handle)
    _, to, half = middle(above)
    touch = context.new_cdp_session(page)
    points = [y + (to - half + 4 - y) * share for share in (0, 0.3, 0.6, 1)]
    for kind, at in (("touchStart", points[0]), *(("touchMove", each) for each in points[1:])):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": at}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_the_bell_tells_once_of_all_open_pages_and_asks_nobody_unasked(
    page: Page, context: BrowserContext, together: Together
) -> None:
    context.add_init_script(SPY)
    other = context.new_page()
    other.goto(f"{together.url}/settings")
    page.goto(f"{together.url}/projects/1")
    assert page.evaluate("localStorage.getItem('asked')") is None
    page.locator("#bell summary").click()
    found = faults(page, "the bell")
    page.get_by_label("Tell me when a run ends or fails").check()
    assert page.evaluate("localStorage.getItem('asked')") == "yes"
    expect(page.locator("#bell-words")).to_have_text(re.compile("By a notification"))
    expect(other.locator("#bell-on")).to_be_checked()
    page.get_by_label("With a sound").check()
    together.end("failing", State.FAILED, run_states.ERROR)
    wait_until(page, lambda: bool(page.evaluate("localStorage.getItem('shown')")))
    assert page.evaluate("localStorage.getItem('shown')") == "Pip, Run 4 has failed.|"
    wait_until(page, lambda: bool(page.evaluate("localStorage.getItem('bell-sounded')")))  # the page that was used

    page.evaluate("localStorage.setItem('permission', 'denied')")
    page.reload()
    other.close()
    together.end("running", State.SUCCEEDED)
    expect(page.locator(".toast")).to_have_text(re.compile(r"^Pip, Run 3 is done\."))
    assert page.evaluate("localStorage.getItem('shown')") == "Pip, Run 4 has failed.|"
    page.get_by_role("button", name="Look", exact=True).click()
    page.wait_for_url(f"**/runs/{together.runs['running']}")
    assert not found, "\n".join(found)


def test_a_report_opens_from_the_disk_without_a_network(
    page: Page, browser: Browser, together: Together, tmp_path: Path
) -> None:
    page.goto(f"{together.url}/runs/{together.runs['done']}")
    page.get_by_label("More actions").click()
    page.get_by_role("button", name="Report").click()
    found = faults(page, "the dialog of the report")
    page.get_by_label("With the photos").check()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download the report").click()
    assert downloading.value.suggested_filename == "Pip-Run-1-report.html"
    downloading.value.save_as(tmp_path / "report.html")

    context = browser.new_context(offline=True)
    alone = context.new_page()
    asked: list[str] = []
    alone.on("request", lambda request: asked.append(request.url))
    alone.on("console", lambda message: asked.append(message.text))
    alone.on("pageerror", lambda error: asked.append(str(error)))
    alone.goto(f"file://{tmp_path / 'report.html'}")
    expect(alone.get_by_role("heading", level=1, name="Run 1")).to_be_visible()
    broken = "() => [...document.images].filter((one) => !one.naturalWidth).length"
    assert alone.evaluate(broken) == 0
    assert alone.locator("img").count() == 2 + 2 * 9 + 8
    others = [each for each in asked if not each.startswith("data:")]
    assert others == [f"file://{tmp_path / 'report.html'}"]
    found += faults(alone, "the report")
    alone.set_viewport_size({"width": 390, "height": 844})
    assert alone.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
    assert not found, "\n".join(found)


def test_a_picture_that_one_of_the_runs_draws_meanwhile_takes_its_place(page: Page, together: Together) -> None:
    page.goto(f"{together.url}/runs/compare?ids={together.runs['done']},{together.runs['first']}")
    expect(page.locator(".plate .when").nth(1)).to_have_text("It has no picture of this prompt")
    page.goto(f"{together.url}/runs/compare?ids={together.runs['short']},{together.runs['failing']}")
    assert step_words(page) == ["Step 150", "Step 100"]
    database = Database(Home(together.home))
    with database.write() as session:
        run = session.get_one(Run, together.runs["failing"])
        session.add(Event(job_id=run.job_id, attempt=1, kind="sample", step=150, payload=SAMPLE))
    database.close()
    expect(page.locator("#shots img.now").nth(1)).to_have_attribute("alt", re.compile("^Step 150"))
