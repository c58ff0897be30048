"""A run that is watched: from the middle, from two tabs, to its end and beyond."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.conftest import Studio, held, new_project, start_tiny_run, step_of, wait_for_step

STEPS_ON_THE_CHART = """() => {
  document.querySelector('#chart-table').open = true;
  return [...document.querySelectorAll('#chart-table tbody tr')].map((row) => Number(row.cells[0].textContent));
}"""


def test_reload_in_the_middle_shows_all_and_two_tabs_agree(
    page: Page, context: BrowserContext, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files, "Live house")
    start_tiny_run(page, steps=3000, every=500)
    wait_for_step(page, 30)
    page.reload()
    wait_for_step(page, 60)
    with held(studio):
        page.locator("#chart-table summary").click()
        expect(page.locator("#chart-table tbody tr")).not_to_have_count(0)  # it is filled when it has opened
        shown = page.evaluate(STEPS_ON_THE_CHART)
        assert shown[0] == 1
        assert shown[-1] >= 60
        expect(page.locator('.frame[data-step="0"] img')).to_have_count(2)

        other = context.new_page()
        other.goto(page.url)
        wait_for_step(other, step_of(page))
    other.get_by_role("button", name="Stop", exact=True).click()
    for tab in (page, other):
        expect(tab.locator("#state")).to_contain_text("stopped")
        expect(tab.locator("#checkpoints li")).not_to_have_count(0)
    last = page.locator("#checkpoints li").first.get_attribute("data-step") or ""
    for tab in (page, other):
        expect(tab.locator("#step")).to_have_text(last)
    assert page.locator("#checkpoints li h3").all_inner_texts() == other.locator("#checkpoints li h3").all_inner_texts()
    other.close()

    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.locator("#state")).to_contain_text("running")
    page.get_by_label("More actions").click()
    page.get_by_role("button", name="Save now").click()
    page.get_by_label("More actions").click()
    page.get_by_role("button", name="Draw samples now").click()
    expect(page.locator("#checkpoints li")).not_to_have_count(1)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#state")).to_contain_text("stopped")


def test_class_pictures_come_in_live_and_stay(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(page, studio, photo_files[:2], "Kept house")
    start_tiny_run(page, steps=4, class_pictures=8)
    card = page.get_by_role("region", name="Class pictures")
    expect(card).to_contain_text("Drawn by the untouched model for “a photo of house”")
    expect(card.get_by_role("button")).to_have_count(8)
    expect(page.locator("#no-class-pictures")).to_be_hidden()
    expect(page.locator("#state")).to_contain_text("done", timeout=60_000)
    page.reload()
    expect(card.get_by_role("button")).to_have_count(8)
    page.set_viewport_size({"width": 390, "height": 844})  # a phone: three in a row, and more rows than fit
    first, fourth = (card.get_by_role("button").nth(number).bounding_box() for number in (0, 3))
    assert first
    assert fourth
    assert fourth["y"] >= first["y"] + first["height"], "no row lies over the one before"
    card.get_by_role("button").first.click()
    expect(page.locator("#lightbox-title")).to_have_text("Class picture 1: a photo of house")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#lightbox-title")).to_have_text("Class picture 2: a photo of house")
    expect(page.locator("#lightbox [data-hint]")).to_have_text("Arrow keys: left and right through the class pictures")
    expect(page.get_by_label("Later step")).to_be_hidden()
    expect(page.get_by_label("Previous picture")).to_be_enabled()


def test_a_run_that_is_done_can_go_on_and_be_drawn_with(
    page: Page, studio: Studio, photo_files: list[Path], tmp_path: Path
) -> None:
    new_project(page, studio, photo_files[:2], "Drawn house")
    start_tiny_run(page, steps=8, every=4)
    expect(page.locator("#state")).to_contain_text("done", timeout=60_000)
    expect(page.locator("#checkpoints li")).to_have_count(2)
    expect(page.locator(".frame img")).to_have_count(6)
    expect(page.locator("#diagnosis")).to_contain_text("Too early to say")
    expect(page.locator("#choice-words")).to_contain_text("No photo is held out")

    page.get_by_role("button", name="Continue", exact=True).click()
    error = page.locator("#continue-steps-error")
    page.get_by_label("Steps in all").fill("1.000")
    expect(error).to_have_text("")  # not while it is typed
    page.keyboard.press("Tab")
    expect(error).to_have_text("Steps in all is '1.000'; write it without separators: 1000.")
    expect(page.get_by_label("Steps in all")).to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Cancel").locator("visible=true").click()
    page.get_by_role("button", name="Continue", exact=True).click()
    expect(error).to_have_text("")  # opened anew
    page.get_by_label("Steps in all").fill("8")
    page.keyboard.press("Tab")
    expect(error).to_have_text("Steps in all is 8, and 8 are done; to go on, the run needs more.")
    page.get_by_label("Steps in all").fill("12")
    page.keyboard.press("Tab")
    expect(error).to_have_text("")
    expect(page.get_by_label("Gradient checkpointing")).to_have_value("as_fit")
    page.get_by_label("Gradient checkpointing").select_option("none")
    page.locator("#continue-run").get_by_role("button", name="Continue", exact=True).click()
    expect(page.locator("#steps")).to_have_text("12")
    expect(page.locator('#checkpoints [data-step="12"]')).to_be_visible(timeout=60_000)
    expect(page.locator("#state")).to_contain_text("done")
    expect(page.locator("#log")).to_contain_text("0 of 4 blocks keep their activations, where 4 did before")
    page.get_by_role("button", name="Continue", exact=True).click()
    expect(page.locator("#continue-steps-hint")).to_have_text("12 of 12 steps are done.")
    expect(page.get_by_label("Steps in all")).to_have_value("112")
    page.get_by_role("button", name="Cancel").locator("visible=true").click()

    page.get_by_label("More actions").click()
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Name", exact=True).fill("The good one")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The good one")

    page.get_by_role("button", name="Send to …", exact=True).click()
    expect(page.get_by_label("Checkpoint", exact=True)).to_have_value("12")
    for form, kind in (("Kohya’s", "kohya"), ("Merged", "merged")):
        name = f"Drawn-house-The-good-one-12-{kind}"
        page.get_by_label(form).check()
        expect(page.locator("#export-file")).to_be_hidden()
        page.locator("#export").get_by_role("button", name="Write the file").click()
        with page.expect_download() as download:
            page.get_by_role("link", name=f"Download {name}.safetensors").click(timeout=60_000)
        assert download.value.suggested_filename == f"{name}.safetensors"
    page.locator("#export").get_by_label("diffusers").check()
    page.get_by_label("Folder").fill(str(tmp_path))
    expect(page.locator("#send-to")).to_have_text(f"Into {tmp_path}:")
    page.locator("#export").get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("#export-words")).to_contain_text("Wrote 3 files", timeout=60_000)
    name = "Drawn-house-The-good-one-12"
    assert {path.name for path in tmp_path.glob(f"{name}*")} == {
        f"{name}{suffix}" for suffix in (".safetensors", ".preview.png", ".txt")
    }
    page.get_by_role("button", name="Close", exact=True).click()

    page.get_by_role("link", name="Draw with it").click()
    page.wait_for_url("**/pictures?*")
    expect(page.locator("#adapter option:checked")).to_contain_text("The good one, step 12")
    page.wait_for_load_state()
    page.locator("#draw-button").click()
    drawn = page.locator("#gallery > .drawing").first
    expect(drawn.locator("img")).to_have_count(2, timeout=60_000)
    expect(drawn).to_contain_text("without")


def test_a_run_begins_with_the_adapter_of_an_earlier_one(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(page, studio, photo_files[:2], "Twice house")
    project = page.url
    start_tiny_run(page, steps=4, every=4)
    expect(page.locator("#state")).to_contain_text("done", timeout=60_000)
    expect(page.get_by_role("heading", level=1)).to_have_text("Run 1")
    page.goto(f"{project}/train")
    page.get_by_text("More about the run").click()
    page.get_by_label("Model").select_option("pocket")
    begin_with = page.locator("#start-from")
    other = begin_with.locator("option:not([hidden])", has_text="Twice house")
    expect(other).to_have_count(0)  # it was trained for another model
    page.get_by_label("Model").select_option("tiny")
    page.get_by_label("Begin with").select_option(label="Twice house, Run 1, step 4")
    page.get_by_label("Steps", exact=True).fill("2")
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#state")).to_contain_text("done", timeout=60_000)
    page.locator('.frame[data-step="0"]').click()
    expect(page.locator("#shown-step")).to_have_text("Step 0, as begun")
    page.get_by_text("Settings of this run").click()
    expect(page.get_by_role("row", name="Begun with")).to_contain_text("Twice house, step 4")


@pytest.mark.refusals
def test_the_page_says_in_words_how_the_run_does(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(page, studio, photo_files, "Scored house")
    page.get_by_role("link", name="Train").click()
    expect(page.locator("#estimate")).not_to_have_text("…")  # the page's script is there, and fills in nothing later
    page.get_by_label("Model").select_option("tiny")
    page.get_by_label("Steps", exact=True).fill("40")
    page.get_by_text("Loss and data").click()
    page.get_by_label("Held-out photos").fill("house 2.png, house 9.png")
    page.get_by_label("Score every").fill("8")
    page.get_by_role("button", name="Start training").click()
    expect(page.locator('[data-error-for="held_out"]')).to_contain_text("names 'house 9.png'; it can be auto")
    page.get_by_label("Held-out photos").fill("house 2.png, house 3.png")
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#state")).to_contain_text("done", timeout=60_000)
    expect(page.get_by_text("On 2 held-out photos.")).to_be_visible()
    expect(page.locator("#diagnosis")).to_contain_text("than the base")
    page.get_by_text("How to read it").click()
    expect(page.locator("#diagnosis-bands li")).to_have_count(4)
    page.locator("#score-table summary").click()
    steps = page.locator("#score-table tbody td:first-child")
    expect(steps).to_have_text(["0", "1", "2", "3", "4", "6", "8", "11", "16", "24", "32", "40"])
    words = page.locator("#diagnosis").inner_text()
    page.locator("#photo-scores summary").click()
    expect(page.get_by_role("row", name="house 2.png")).to_contain_text("held out: ")
    expect(page.locator("#photo-scores tbody tr")).to_have_count(6)
    page.reload()
    expect(page.locator("#score-chart canvas")).to_be_visible()
    assert page.locator("#diagnosis").inner_text() == words  # as drawn by the server, and then by the script


SHIFTS = """new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (!entry.hadRecentInput) window.shifted = (window.shifted ?? 0) + entry.value;
  }
}).observe({ type: 'layout-shift', buffered: true })"""


def test_nothing_jumps_while_a_run_is_live(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(page, studio, photo_files[:2], "Still house")
    start_tiny_run(page, steps=60, every=10)
    page.evaluate(SHIFTS)
    expect(page.locator(".frame img:not(.missing)")).to_have_count(14, timeout=60_000)
    expect(page.locator("#state")).to_contain_text("done")
    assert page.evaluate("window.shifted ?? 0") < 0.1  # what the field calls good; a jump of a card counts 0.2 and more
