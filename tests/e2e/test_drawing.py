"""Drawing for real: what waits is described and can be stopped, what fails says why, and pictures come live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.e2e.conftest import Studio, new_project, running_studio, start_tiny_run, wait_for_step

STEPS = 3  # of the run whose adapter draws


@pytest.fixture(scope="module")
def own_studio(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, tiny_models: Path, photo_files: list[Path]
) -> Iterator[Studio]:
    """A studio with one run that is done, to draw with."""
    with running_studio(tmp_path_factory.mktemp("drawing") / "home", tiny_models) as studio:
        page = browser.new_page()
        new_project(page, studio, photo_files[:2], "Drawn house")
        start_tiny_run(page, steps=STEPS)
        expect(page.locator("#state")).to_contain_text("done", timeout=60_000)
        page.close()
        yield studio


def occupy(page: Page, studio: Studio) -> str:
    """Start a long run, so that drawings wait; returns the address of its page."""
    page.goto(f"{studio.url}/projects/1")
    start_tiny_run(page, steps=50_000, every=25_000)
    wait_for_step(page, 1)
    return page.url


def open_darkroom(page: Page, studio: Studio, more: bool = False) -> None:
    page.goto(f"{studio.url}/pictures")
    page.wait_for_load_state()
    if more:
        page.get_by_role("button", name="More", exact=True).click()


def choose(page: Page, *strengths: str) -> None:
    """These strengths alone, and "without" where it is one of them."""
    for box in page.locator("#strength-field input[type=checkbox]").all():
        box.uncheck(force=True)
    for each in strengths:
        if page.get_by_role("checkbox", name=each, exact=True).count():
            page.get_by_role("checkbox", name=each, exact=True).check(force=True)
        else:
            page.get_by_label("Another strength").fill(each)
            page.get_by_label("Another strength").press("Enter")
            expect(page.get_by_role("checkbox", name=each, exact=True)).to_be_checked()


def ask(page: Page, *strengths: str, **texts: str) -> None:
    """Fill in the form and press Draw."""
    if strengths:
        choose(page, *strengths)
    for label, text in texts.items():
        page.get_by_label(label, exact=True).fill(text)
    page.locator("#draw-button").click()
    expect(page.locator("#draw-button")).not_to_have_attribute("aria-busy", "true")  # a second press does nothing


def drawings(page: Page) -> Locator:
    return page.locator("#gallery > .drawing")


def test_a_drawing_that_is_stopped_leaves_what_it_has_drawn_and_nothing_else(page: Page, own_studio: Studio) -> None:
    open_darkroom(page, own_studio, more=True)
    ask(page, **{"Prompt": "a long way", "Sampler steps": "200", "Width": "512", "Height": "512"})
    expect(drawings(page).locator("[data-words]")).to_contain_text("drawing")
    drawings(page).get_by_role("button", name="Stop: a long way").click()
    expect(drawings(page)).to_have_count(0)
    page.reload()
    expect(page.locator("#no-drawings")).to_be_visible()


@pytest.mark.refusals
def test_a_failed_drawing_can_be_dismissed_and_numbers_are_those_of_other_forms(
    page: Page, tmp_path: Path, tiny_models: Path
) -> None:
    file = tmp_path / "wild.safetensors"
    layer = "transformer.transformer_blocks.1.attn.to_q"
    factors = {f"{layer}.lora_A.weight": (2, 32), f"{layer}.lora_B.weight": (32, 2)}
    mx.save_safetensors(str(file), {name: mx.full(shape, 1e30) for name, shape in factors.items()})
    with running_studio(tmp_path / "home", tiny_models) as studio:
        open_darkroom(page, studio, more=True)
        expect(page.locator("#no-adapters")).to_be_visible()
        page.get_by_label("Import an adapter file").set_input_files(file)
        expect(page.locator("#import-words")).to_contain_text("wild is here")
        expect(page.locator("#no-adapters")).to_be_hidden()
        expect(page.get_by_label("Model", exact=True)).to_have_value("tiny")
        expect(page.get_by_label("Sampler steps")).to_have_attribute("placeholder", "2")  # that of its model
        page.get_by_label("Prompt", exact=True).fill("a storm")
        texts = {"Sampler steps": "1.000", "Width": "100", "Seeds": "40"}
        for label, text in texts.items():
            page.get_by_label(label, exact=True).fill(text)
        page.get_by_role("button", name="More", exact=True).click()  # folded: the errors unfold it
        ask(page)
        error = page.locator("#draw-steps-error")
        expect(error).to_have_text("Sampler steps is '1.000'; write it without separators: 1000.")
        expect(page.locator("#draw-width-error")).to_have_text("Width is 100 px; it must be a multiple of 16.")
        expect(page.locator("#count-error")).to_have_text("Seeds is 40; it can be 1 to 16.")
        page.get_by_label("Another strength").fill("strong")
        page.get_by_label("Another strength").press("Enter")
        expect(page.locator("#adapter-error")).to_contain_text("The strength strong is not a number")
        page.get_by_label("Another strength").fill("")
        expect(drawings(page)).to_have_count(0)
        ask(page, **{"Sampler steps": "1", "Width": "64", "Height": "64", "Seeds": "1"})
        expect(drawings(page).locator(".error")).to_contain_text("The picture is not finite", timeout=60_000)
        drawings(page).get_by_role("button", name="Dismiss: a storm").click()
        expect(drawings(page)).to_have_count(0)
        expect(page.locator("#history-title")).to_be_focused()
        page.get_by_role("button", name="Undo").click()
        expect(drawings(page).locator(".error")).to_contain_text("The picture is not finite")
        drawings(page).get_by_role("button", name="Dismiss: a storm").click()
        expect(drawings(page)).to_have_count(0)
        page.reload()
        expect(page.locator("#no-drawings")).to_be_visible()


def test_pictures_come_live_stay_while_others_come_and_are_drawn_again_the_same(page: Page, own_studio: Studio) -> None:
    open_darkroom(page, own_studio)
    ask(page, "0.8", "without", Prompt="a photo of sks house")
    images = drawings(page).locator("img")
    expect(images).to_have_count(2, timeout=60_000)
    expect(page.locator("#gallery .waits")).to_have_count(0)
    images.first.evaluate("image => { window.kept = image; }")
    ask(page, "0.4", "without")
    expect(images).to_have_count(4, timeout=60_000)
    expect(drawings(page)).to_have_count(1)  # of one prompt and adapter: under one heading
    assert page.evaluate("window.kept.isConnected")
    expect(page.locator("#cost")).to_contain_text("1 strength and without")

    page.get_by_role("button", name="a photo of sks house, 0.8, seed 1").click()
    viewer = page.locator("#viewer")
    expect(viewer.locator("#viewer-recipe")).to_contain_text("Drawn house, Run 1, step 3, strength 0.8")
    expect(viewer.locator(".plate .now")).to_have_js_property("complete", True)
    expect(viewer.locator("#viewer-against option:checked")).to_have_text("without")
    with page.expect_download() as download:
        viewer.get_by_role("link", name="Save the picture").click()
    assert download.value.suggested_filename == "Drawn-house-Run-1-step-3-strength-0-8-seed-1.png"
    page.keyboard.press("a")
    page.keyboard.press("Escape")
    expect(images).to_have_count(5, timeout=60_000)
    expect(drawings(page).first).to_contain_text("the same, bit for bit")
    page.reload()
    expect(images).to_have_count(5)


def test_a_drawing_that_waits_says_with_what_and_is_stopped_there(
    page: Page, context: BrowserContext, own_studio: Studio
) -> None:
    occupy(page, own_studio)
    open_darkroom(page, own_studio)
    other = context.new_page()
    open_darkroom(other, own_studio)
    ask(page, "0.6", "without", Prompt="a photo of sks house in the rain")
    page.get_by_label("Prompt", exact=True).fill("a photo of sks house at night")
    choose(page, "0.6", "0.75", "without")
    page.get_by_role("button", name="One seed more").click()
    expect(page.locator("#draw-button")).to_contain_text("Draw 6")
    expect(page.locator("#cost")).to_contain_text("2 strengths and without × 2 seeds")
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    for tab in (page, other):  # also where it was not asked for
        first = drawings(tab).filter(has_text="in the rain")
        expect(first).to_contain_text("Waiting for its turn · Drawn house, Run 1, step 3")
        expect(first.locator(".waits")).to_have_text(["0.6 waits", "without waits"])
        expect(drawings(tab).filter(has_text="at night").locator(".waits")).to_have_count(6)
    page.reload()
    expect(page.locator("#gallery .waits")).to_have_count(8)

    page.get_by_role("button", name="Stop: a photo of sks house at night").click()
    for tab in (page, other):
        expect(drawings(tab).filter(has_text="at night")).to_have_count(0)
        expect(tab.locator("#gallery .waits")).to_have_count(2)
    page.get_by_role("button", name="Stop: a photo of sks house in the rain").click()
    for tab in (page, other):
        expect(tab.locator("#gallery .waits")).to_have_count(0)
