"""The history of drawn pictures: what waits is described and can be cancelled; what was cancelled leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.conftest import Studio, held, new_project, running_studio, start_tiny_run, wait_for_step, wait_until

STEPS = 3  # of the run whose adapter draws


@pytest.fixture(scope="module")
def studio_with_a_run(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, tiny_models: Path, photo_files: list[Path]
) -> Iterator[Studio]:
    """A studio with one run that is done."""
    with running_studio(tmp_path_factory.mktemp("drawn") / "home", tiny_models) as studio:
        page = browser.new_page()
        new_project(page, studio, photo_files[:2], "Drawn house")
        start_tiny_run(page, steps=STEPS)
        expect(page.locator("#state")).to_contain_text("done", timeout=60_000)
        page.close()
        yield studio


@pytest.fixture
def own_studio(page: Page, studio_with_a_run: Studio) -> Iterator[Studio]:
    """The same, without any picture before the test, and without any work after it."""
    api = f"{studio_with_a_run.url}/api"
    yield studio_with_a_run
    for run in page.request.get(f"{api}/runs").json():
        if run["state"] == "running":
            page.request.post(f"{api}/runs/{run['id']}/stop", data={"now": True})
            wait_until(page, lambda run=run: page.request.get(f"{api}/runs/{run['id']}").json()["state"] == "stopped")
    for picture in page.request.get(f"{api}/pictures").json():
        assert page.request.delete(f"{api}/pictures/{picture['id']}").ok


def occupy(page: Page, studio: Studio) -> str:
    """Start a long run, so that drawings wait; returns the address of its page."""
    page.goto(f"{studio.url}/projects/1")
    start_tiny_run(page, steps=50_000, every=25_000)
    wait_for_step(page, 1)
    return page.url


def ask(page: Page, strength: str = "1", **texts: str) -> None:
    """Fill in the form and press Draw."""
    page.get_by_label("Strength").fill(strength)
    for label, text in texts.items():
        page.get_by_label(label, exact=True).fill(text)
    draw = page.get_by_role("button", name="Draw", exact=True)
    draw.click()
    expect(draw).not_to_have_attribute("aria-busy", "true")  # meanwhile a second press does nothing


def test_a_drawing_that_waits_says_with_what_and_is_cancelled_there(
    page: Page, context: BrowserContext, own_studio: Studio
) -> None:
    occupy(page, own_studio)
    with held(own_studio):
        two_wait_and_are_cancelled(page, context.new_page(), own_studio)


def two_wait_and_are_cancelled(page: Page, other: Page, own_studio: Studio) -> None:
    page.goto(f"{own_studio.url}/pictures")
    other.goto(f"{own_studio.url}/pictures")
    other.wait_for_load_state()
    ask(page, "0.6", Prompt="a photo of sks house in the rain")
    ask(page, Prompt="a photo of sks house at night")
    for tab in (page, other):  # also where it was not asked for
        cards = tab.locator("#gallery > li")
        expect(cards).to_have_count(2)
        first = cards.filter(has_text="in the rain")
        expect(first).to_contain_text("Waiting for its turn · Drawn house, Run 1, step 3, strength 0.6")
        expect(first.locator("figcaption")).to_have_text(["with the adapter, strength 0.6", "without it"])
    page.reload()
    expect(page.locator("#gallery figcaption")).to_have_count(4)

    page.wait_for_load_state()
    page.get_by_role("button", name="Cancel: a photo of sks house at night").click()
    for tab in (page, other):
        expect(tab.locator("#gallery > li")).to_have_count(1)
    expect(page.locator("#history-title")).to_be_focused()
    page.get_by_role("button", name="Cancel: a photo of sks house in the rain").click()
    for tab in (page, other):
        expect(tab.locator("#gallery > li")).to_have_count(0)
        expect(tab.locator("#no-drawings")).to_be_visible()
    page.reload()
    expect(page.locator("#gallery > li")).to_have_count(0)


def test_a_drawing_that_is_stopped_leaves_what_it_has_drawn_and_nothing_else(page: Page, own_studio: Studio) -> None:
    page.goto(f"{own_studio.url}/pictures")
    page.get_by_text("steps, guidance, size, precision").click()
    ask(page, **{"Prompt": "a long way", "Sampler steps": "200", "Size": "512"})
    card = page.locator("#gallery > li")
    expect(card.locator("[data-words]")).to_contain_text("drawing")
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_have_count(0)
    page.reload()
    expect(card).to_have_count(0)
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
        page.goto(f"{studio.url}/pictures")
        page.get_by_label("Import an adapter file").set_input_files(file)
        expect(page.locator("#import-words")).to_contain_text("wild is here")
        page.get_by_text("steps, guidance, size, precision").click()
        expect(page.get_by_label("Sampler steps")).to_have_attribute("placeholder", "2")  # that of its model
        ask(page, **{"Prompt": "a storm", "Sampler steps": "1.000", "Size": "100"})
        error = page.locator("#draw-steps-error")
        expect(error).to_have_text("Sampler steps is '1.000'; write it without separators: 1000.")
        expect(page.locator("#draw-side-error")).to_have_text("Size is 100 px; it must be a multiple of 16.")
        expect(page.locator("#gallery > li")).to_have_count(0)
        ask(page, **{"Sampler steps": "1", "Size": "64"})
        card = page.locator("#gallery > li")
        expect(card.locator("[data-job-error]")).to_contain_text("The picture is not finite", timeout=60_000)
        card.get_by_role("button", name="Dismiss: a storm").click()
        expect(card).to_have_count(0)
        expect(page.locator("#history-title")).to_be_focused()
        page.get_by_role("button", name="Undo").click()
        expect(card.locator("[data-job-error]")).to_contain_text("The picture is not finite")
        card.get_by_role("button", name="Dismiss: a storm").click()
        expect(card).to_have_count(0)
        page.reload()
        expect(page.locator("#no-drawings")).to_be_visible()


def test_a_drawing_whose_pictures_are_deleted_is_gone(page: Page, own_studio: Studio) -> None:
    page.goto(f"{own_studio.url}/pictures")
    ask(page, "0", Prompt="a photo of sks house")
    card = page.locator("#gallery > li")
    expect(card.locator("img")).to_have_count(1, timeout=60_000)  # at strength 0 there is nothing to compare with
    expect(card).to_contain_text("without it")
    expect(card.get_by_role("button", name="Cancel")).to_have_count(0)
    with page.expect_download() as download:
        card.get_by_role("link", name="Save").click()
    assert download.value.suggested_filename == "tiny-seed-1.png"
    card.get_by_role("button", name="Delete this picture").click()
    expect(card).to_have_count(0)
    page.reload()
    expect(card).to_have_count(0)


def test_the_picture_that_comes_stays_while_others_are_fetched(page: Page, own_studio: Studio) -> None:
    page.goto(f"{own_studio.url}/pictures")
    ask(page, "0.8", Prompt="a photo of sks house")
    card = page.locator("#gallery > li").filter(has_text="strength 0.8")
    expect(card.locator("img")).to_have_count(2, timeout=60_000)
    card.locator("summary").click()
    card.locator("img").first.evaluate("image => { window.kept = image; }")
    ask(page, "0.4")
    other = page.locator("#gallery > li").filter(has_text="strength 0.4")
    expect(other.locator("img")).to_have_count(2, timeout=60_000)
    assert page.evaluate("window.kept.isConnected")
    expect(card.locator("dl.recipe")).to_be_visible()
    expect(card.locator("dl.recipe")).to_contain_text("Drawn house, Run 1, step 3, strength 0.8")
    sources = [one.locator("img").nth(1).get_attribute("src") or "" for one in (card, other)]
    first, second = (page.request.get(f"{own_studio.url}{source}").body() for source in sources)
    assert first == second
    with page.expect_download() as download:
        card.get_by_role("link", name="Save").first.click()
    assert download.value.suggested_filename == "Drawn-house-Run-1-step-3-strength-0-8-seed-1.png"
