"""The run room: samples large, one step in all its parts, one sentence with one action. The runs are made up."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from app.database import Database
from app.home import Home
from app.jobs.states import State
from app.tables import Event, Job, Run, Sample
from tests import run_states
from tests.e2e.axe import faults
from tests.e2e.conftest import wait_until

NAMES = ("running", "done", "four_prompts", "no_samples", "waiting")
STEPS_ON_THE_CHART = (
    """() => [...document.querySelectorAll('#chart-table tbody tr')].map((row) => Number(row.cells[0].textContent))"""
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rooms") / "home"


@pytest.fixture(scope="module")
def rooms(home: Path) -> Iterator[Callable[[str], str]]:
    """The address of a run by its state."""
    scenes = [scene for scene in run_states.SCENES if scene.name in NAMES]
    runs = run_states.make(home, scenes)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with run_states.served(home, port) as address:
        yield lambda name: f"{address}/runs/{runs[name]}"


def opened(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("#shots img.now").first).to_be_visible()
    expect(page.locator("#chart canvas")).to_be_visible()


def shown(page: Page) -> tuple[str, str, str]:
    """The step in the scene, in the filmstrip and on the scrubber."""
    alt = page.locator(".shot.large img.now").get_attribute("alt") or ""
    current = page.locator('.frame[aria-current="true"]').get_attribute("data-step") or ""
    return alt.split(":")[0].removeprefix("Step "), current, page.locator("#scrub").input_value()


def test_one_step_is_shown_in_all_parts_and_walked_by_keys_mouse_and_scrubber(
    page: Page, rooms: Callable[[str], str]
) -> None:
    opened(page, rooms("done"))
    assert shown(page) == ("200", "200", "200"), "the best, once the run has ended"
    page.keyboard.press("ArrowLeft")
    assert shown(page) == ("150", "150", "150")
    page.locator('.frame[data-step="100"]').click()
    assert shown(page) == ("100", "100", "100")
    page.keyboard.press("ArrowRight")
    expect(page.locator('.frame[data-step="150"]')).to_be_focused()
    page.keyboard.press("Home")
    assert shown(page) == ("0", "0", "0")
    expect(page.locator("#shown-step")).to_have_text("Step 0, the base")
    page.locator("#scrub").focus()
    page.keyboard.press("End")
    assert shown(page) == ("400", "400", "400")
    page.locator("#scrub").fill("160")
    assert shown(page) == ("150", "150", "150"), "the nearest step with samples"

    chart = page.locator("#chart .u-over")
    box = chart.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.52, box["y"] + 60)
    expect(page.locator("#chart .chart-tip img")).to_have_count(2)
    expect(page.locator("#chart .chart-tip")).to_contain_text("step 20")
    expect(page.locator(".strip-cursor")).to_be_visible()
    page.mouse.click(box["x"] + box["width"] * 0.52, box["y"] + 60)
    assert shown(page) == ("200", "200", "200")
    frame, head = (page.locator(one).bounding_box() for one in ('.frame[data-step="200"]', "#chart .chart-playhead"))
    assert frame
    assert head
    assert abs(frame["x"] + frame["width"] / 2 - head["x"]) < 3, "the filmstrip and the chart share their axis"


def test_pictures_are_wiped_against_any_step_and_any_photo(page: Page, rooms: Callable[[str], str]) -> None:
    opened(page, rooms("done"))
    wipe = page.get_by_label("Wipe: a photo of sks toy")
    before = page.locator(".shot.large img.before")
    expect(before).to_have_attribute("alt", "step 0, the base, to compare")
    wipe.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Wipe: sks toy on the beach")).to_have_value("3")
    assert shown(page)[0] == "200", "the keys move the wipe there, not the step"
    page.get_by_label("Wipe against").select_option(label="step 250")
    expect(wipe).to_have_value("50")
    expect(before).to_have_attribute("alt", "step 250, to compare")
    photo = page.get_by_label("Compare with 03.jpg")
    photo.click()
    expect(photo).to_have_attribute("aria-pressed", "true")
    expect(before).to_have_attribute("alt", "03.jpg, to compare")
    page.keyboard.press("Enter")
    expect(photo).to_have_attribute("aria-pressed", "false")
    expect(wipe).to_have_value("0")


def test_of_several_prompts_one_is_large_and_the_others_are_one_press_away(
    page: Page, rooms: Callable[[str], str]
) -> None:
    opened(page, rooms("four_prompts"))
    expect(page.locator(".frame").first.locator("img")).to_have_count(4)
    large, small = (
        page.locator(".shot.large .plate").bounding_box(),
        page.locator(".shot:not(.large) .plate").first.bounding_box(),
    )
    assert large
    assert small
    assert large["width"] > 2.5 * small["width"]
    page.get_by_label("Show larger: an oil painting of sks toy").click()
    expect(page.locator(".shot.large figcaption")).to_contain_text("an oil painting of sks toy")
    page.locator('.frame[aria-current="true"]').focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".shot.large figcaption")).to_contain_text("a photo of sks toy")


def test_one_sentence_one_action_and_the_star_goes_before_the_scores(
    page: Page, rooms: Callable[[str], str], home: Path
) -> None:
    opened(page, rooms("done"))
    words = page.locator("#choice-words")
    expect(words).to_contain_text("Best: step 200, ")
    expect(words).to_contain_text("on the photo it has never seen")
    expect(page.locator("#choice-reasons")).to_be_hidden()
    page.get_by_text("Why this one?").click()
    expect(page.locator("#choice-reasons li").first).to_contain_text("give or take")
    draw = page.get_by_role("link", name="Draw with it")
    expect(draw).to_have_attribute("href", f"/pictures?run={rooms('done').rpartition('/')[2]}&step=200")
    expect(page.locator("#download-size")).to_have_text("step 200, 1.7 MB")
    expect(page.locator("#checkpoints li.best")).to_have_attribute("data-step", "200")

    page.get_by_role("button", name="Star step 300").click()
    expect(words).to_contain_text("You starred step 300. Best: step 200")
    expect(page.locator("#download-size")).to_have_text("step 300, 1.7 MB")
    page.reload()
    expect(page.get_by_role("button", name="Star step 300")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Star step 400").press("Enter")
    expect(page.get_by_role("button", name="Star step 300")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Star step 300")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Star step 300").click()
    expect(page.locator("#download-size")).to_have_text("step 200, 1.7 MB")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the adapter", exact=True).click()
    assert download.value.suggested_filename.endswith("-200.safetensors")
    draw.click()
    expect(page.locator("#adapter option:checked")).to_contain_text("step 200")


def test_the_chart_is_zoomed_by_buttons_and_by_dragging_and_stays_so(page: Page, rooms: Callable[[str], str]) -> None:
    opened(page, rooms("done"))
    expect(page.get_by_role("button", name="All", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Zoom in").click()
    expect(page.get_by_role("button", name="Zoom out")).to_be_enabled()
    page.get_by_role("button", name="All", exact=True).click()
    expect(page.get_by_role("button", name="Zoom out")).to_be_disabled()
    box = page.locator("#chart .u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 80, steps=4)
    page.mouse.up()
    expect(page.get_by_role("button", name="Zoom out")).to_be_enabled()
    assert shown(page)[0] == "200", "a drag is no click"
    page.locator('.frame[aria-current="true"]').press("End")
    page.wait_for_function("() => document.querySelector('#chart .chart-playhead').hidden")  # step 400 is out of view
    for name in ("Log", "Learning rate"):
        button = page.get_by_role("button", name=name, exact=True)
        button.press("Enter")
        expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#lr-key")).to_be_visible()
    expect(page.locator("#chart canvas")).to_be_visible()
    page.locator("#chart .u-over").dblclick()
    expect(page.get_by_role("button", name="Zoom out")).to_be_disabled()


def add(database: Database, run: int, *, kind: str, step: int, payload: dict[str, object]) -> None:
    with database.write() as session:
        job = session.get_one(Job, session.get_one(Run, run).job_id)
        session.add(Event(job_id=job.id, attempt=1, kind=kind, step=step, payload=payload))
        if kind == "metric":
            job.step = max(job.step, step)
            session.add(job)


def draw_sample(database: Database, run: int, step: int) -> None:
    path = database.home.run(run) / "samples" / f"{step}-0.png"
    Image.new("RGB", (64, 64), (step, 90, 200)).save(path)
    with database.write() as session:
        row = Sample(
            job_id=session.get_one(Run, run).job_id, run_id=run, step=step, prompt="a photo of sks toy", seed=0
        )
        row.file, row.width, row.height = database.home.relative(path), 64, 64
        session.add(row)
        session.flush()
        number = row.id
    payload = {
        "prompt_id": 0,
        "prompt": "a photo of sks toy",
        "seed": 0,
        "url": f"/api/pictures/{number}/file",
        "width": 64,
        "height": 64,
    }
    add(database, run, kind="sample", step=step, payload=payload)


@pytest.mark.outage
def test_a_run_is_watched_no_point_is_lost_or_doubled_when_the_line_is_cut(
    page: Page, context: BrowserContext, rooms: Callable[[str], str], home: Path
) -> None:
    watched = run_states.Scene("watched", State.RUNNING, steps=100, step=40, every=10, phase="training")
    run = run_states.make(home, [watched])["watched"]
    address = f"{rooms('done').rpartition('/')[0]}/{run}"
    database = Database(Home(home))
    opened(page, address)
    page.locator("#chart-table summary").click()

    def step(number: int) -> None:
        add(database, run, kind="metric", step=number, payload={"loss": 0.25, "lr": 1e-3})

    assert shown(page)[0] == "40"
    step(41)
    draw_sample(database, run, 50)
    expect(page.locator(".shot.large img.now")).to_have_class("now fresh")  # it fades in
    assert shown(page)[0] == "50", "who looks at the newest is shown the next"
    page.keyboard.press("ArrowLeft")
    draw_sample(database, run, 60)
    expect(page.locator('.frame[data-step="60"]')).to_be_visible()
    assert shown(page)[0] == "40", "who looks at another stays there"

    context.set_offline(True)
    for number in range(42, 60):
        step(number)
    context.set_offline(False)
    step(60)
    wait_until(page, lambda: page.evaluate(STEPS_ON_THE_CHART) == list(range(1, 61)))
    add(database, run, kind="rewind", step=50, payload={"to_step": 50})
    wait_until(page, lambda: page.evaluate(STEPS_ON_THE_CHART) == list(range(1, 51)))
    expect(page.locator('.frame[data-step="60"]')).to_have_count(0)
    step(51)
    for reload in (False, True):
        if reload:
            page.reload()
            page.locator("#chart-table summary").click()
        wait_until(page, lambda: page.evaluate(STEPS_ON_THE_CHART) == list(range(1, 52)))
    database.close()


def test_a_run_without_pictures_and_one_that_waits_say_what_is_so(page: Page, rooms: Callable[[str], str]) -> None:
    page.goto(rooms("no_samples"))
    expect(page.locator("#no-samples")).to_contain_text("It has no sample prompts.")
    expect(page.locator("#stage")).to_be_hidden()
    expect(page.locator("#choice-words")).to_contain_text("No photo is held out")
    page.goto(rooms("waiting"))
    expect(page.locator(".plate .when").first).to_have_text("Drawn before the first step, once its turn comes")
    expect(page.locator("#choice-words")).to_contain_text("Waiting for its turn.")
    expect(page.get_by_role("link", name="Draw with it")).to_be_hidden()


def test_the_film_of_a_run_is_downloaded(page: Page, rooms: Callable[[str], str]) -> None:
    opened(page, rooms("done"))
    page.get_by_label("More actions").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Time-lapse, WebP").click()
    assert download.value.suggested_filename == "Pip-Run-3-timelapse.webp"
    page.get_by_role("button", name="Play the steps").click()
    expect(page.get_by_role("button", name="Stop playing")).to_be_visible()
    expect(page.locator("#shown-step")).to_have_text("Step 400")
    expect(page.get_by_role("button", name="Play the steps")).to_be_visible()  # it has ended by itself


def test_the_gauges_of_a_checkpoint_are_those_of_the_step_that_is_shown(
    page: Page, rooms: Callable[[str], str]
) -> None:
    opened(page, rooms("done"))
    page.locator("#choice-why summary").click()
    gauges = page.locator("#gauge-list li")
    expect(page.locator("#gauges-step")).to_have_text("Step 200")
    expect(gauges.locator("b")).to_have_text(
        ["Photos it has never seen", "Looks like the subject", "The class keeps its looks", "Still free to vary"]
    )
    expect(gauges.nth(1).locator(".value")).to_have_text("0.69, ±0.01")
    expect(page.locator(".gauge.warns")).to_have_count(0)
    places = (
        gauges.nth(1)
        .locator(".gauge")
        .evaluate(
            "(one) => ['.of-base', 'u', '.of-photos'].map((part) => one.querySelector(part).getBoundingClientRect().x)"
        )
    )
    assert places == sorted(places), "between the base and the photos"
    assert not faults(page, "why this one")
    page.locator('.frame[data-step="400"]').click()
    expect(page.locator("#gauges-step")).to_have_text("Step 400")
    expect(gauges.nth(3).locator(".gauge.warns")).to_have_count(1)
    page.locator('.frame[data-step="150"]').click()
    expect(page.locator("#gauges-step")).to_have_text("Step 200")  # no checkpoint there: the best one's
