"""What pages say is true of what they show: sizes, names, numbers; with nothing there, and in every state of a run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from app import wording
from core import files
from tests.e2e.conftest import Studio, held, new_project, running_studio, start_tiny_run, wait_for_step

EMPTY_WORDS = re.compile(
    r"\b0 (?:photos|runs|jobs|pictures|steps|B)\b|[Pp]ress Start\b(?! training)|\b0 of 1\b|–|NaN|None\b(?!:)|undefined"
)


def test_a_download_is_named_and_measured_as_the_file_that_it_is(
    page: Page, studio: Studio, photo_files: list[Path], tmp_path: Path
) -> None:
    for name, steps in (("Counted house", 1), ("Named house", 4)):
        new_project(page, studio, photo_files[:1], name)
        start_tiny_run(page, steps=steps, every=2)
        expect(page.get_by_role("heading", level=1)).to_have_text("Run 1")
    expect(page.locator("#state")).to_contain_text("done", timeout=60_000)
    for line in ("as it came", "as the server renders it"):
        expect(page.locator("#checkpoints li")).to_have_count(2)
        for step in (4, 2):
            row = page.locator(f'#checkpoints [data-step="{step}"]')
            with page.expect_download() as download:
                row.get_by_role("link", name="Download").click()
            assert download.value.suggested_filename == f"Named-house-Run-1-{step}.safetensors", line
            download.value.save_as(tmp_path / "adapter")
            assert row.locator("[data-size]").inner_text() == wording.size((tmp_path / "adapter").stat().st_size), line
        page.reload()
    page.locator(".crumb a").last.click()
    start_tiny_run(page, steps=1)
    expect(page.get_by_role("heading", level=1)).to_have_text("Run 2")


def test_a_touch_screen_gets_no_hints_for_a_keyboard(
    page: Page, browser: Browser, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:2], "Touched house")
    project = page.url
    start_tiny_run(page, steps=2, every=1, class_pictures=1)
    expect(page.locator("#class-pictures img")).to_have_count(1, timeout=60_000)
    run = page.url
    with browser.new_context(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844}) as touch:
        for tab, seen in ((page, True), (touch.new_page(), False)):
            tab.goto(run)
            tab.wait_for_load_state()
            tab.locator("#class-pictures button").click()
            expect(tab.locator("#lightbox")).to_be_visible()
            expect(tab.locator("#lightbox [data-hint]")).to_be_visible(visible=seen)
            tab.goto(project)
            expect(tab.get_by_text("drop, paste or choose")).to_be_visible(visible=seen)


def test_a_project_without_photos_is_not_told_about_none(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(page, studio, [], "Bare house")
    project = page.url
    for address in (project, f"{project}/train", studio.url):
        page.goto(address)
        page.wait_for_load_state()
        assert not EMPTY_WORDS.findall(page.locator("body").inner_text()), address
    expect(page.locator(".project", has_text="Bare house")).to_contain_text("No photos yet")
    page.goto(project)
    page.get_by_role("tab", name="Runs").click()
    expect(page.locator("#photos-first")).to_be_visible()
    page.locator("#choose-files").set_input_files(photo_files[:1])
    expect(page.locator("#photo-count")).to_have_text("1")
    expect(page.locator("#photos-first")).to_be_hidden()
    page.goto(studio.url)
    expect(page.locator(".project", has_text="Bare house")).to_contain_text("Not trained yet, 1 photo")


@pytest.fixture
def own_studio(tmp_path: Path, tiny_models: Path) -> Iterator[Studio]:
    with running_studio(tmp_path / "home", tiny_models) as one:
        yield one


def test_a_run_says_nothing_empty_in_any_of_its_states(
    page: Page, context: BrowserContext, own_studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, own_studio, photo_files[:1], "Busy house")
    start_tiny_run(page, steps=50_000, every=25_000)
    wait_for_step(page, 3)
    expect(page.locator("#speed")).to_have_text(re.compile(r"\d"))
    other = context.new_page()
    new_project(other, own_studio, photo_files[1:2], "Waiting house")
    project = other.url
    figures = other.locator(".figures > div:visible dt")
    (lost,) = (own_studio.home / "photos").glob(f"{files.sha256_of(photo_files[1])}.*")
    with held(own_studio):
        for _ in range(3):
            other.goto(project)
            start_tiny_run(other, steps=9)
            expect(other.locator("#state")).to_contain_text("waiting")
            expect(figures).to_have_text(["Step"])
        removed, stopped, failed = (f"{own_studio.url}/runs/{number}" for number in (2, 3, 4))
        other.goto(removed)
        other.get_by_role("button", name="Remove from the queue").click()
        expect(other.locator("#state")).to_contain_text("removed")

    kept = lost.read_bytes()
    lost.unlink()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#state")).to_contain_text("stopped")
    for address in (stopped, failed):
        other.goto(address)
        expect(other.locator("#state")).to_contain_text("failed", timeout=60_000)
    for address in (page.url, removed, failed, f"{own_studio.url}/queue", own_studio.url, f"{own_studio.url}/pictures"):
        other.goto(address)
        other.wait_for_load_state()
        assert not EMPTY_WORDS.findall(other.locator("body").inner_text()), address
        if address == removed:
            expect(other.locator("#phase")).to_have_text("It was removed before it started.")
            expect(other.get_by_text("Too early to say")).to_be_hidden()
        if "/runs/" in address:
            expect(figures).to_have_text(["Step", "Loss, smoothed"] if address == page.url else ["Step"])

    lost.write_bytes(kept)
    other.goto(f"{own_studio.url}/queue")
    other.wait_for_load_state()
    other.locator("li", has_text="Waiting house, Run 3").get_by_role("button", name="Try again").click()
    expect(other.locator('li[data-state="succeeded"]')).to_contain_text("Waiting house, Run 3", timeout=60_000)
    other.goto(failed)
    expect(other.locator("#state")).to_contain_text("done")
    expect(figures).to_have_text(["Step", "Loss, smoothed"])
