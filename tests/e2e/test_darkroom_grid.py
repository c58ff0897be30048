"""A grid in the darkroom: asked for in the form, filled in live, walked by keys; over a made-up home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import darkroom_states
from tests.e2e.axe import faults


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grids") / "home"
    darkroom_states.make(folder, drawings=1)
    return folder


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with darkroom_states.serving(home) as found:
        yield f"{found}/pictures"


@pytest.fixture
def darkroom(page: Page, address: str) -> Page:
    page.goto(address)
    page.wait_for_load_state()
    expect(page.locator("#gallery [data-picture]").first).to_be_visible()
    return page


def test_a_grid_is_asked_for_fills_in_live_and_is_walked_by_keys(darkroom: Page, home: Path) -> None:
    page = darkroom
    page.get_by_role("button", name="Grid", exact=True).click()
    page.locator("#strength-field").get_by_role("checkbox", name="0.6", exact=True).check(force=True)
    expect(page.locator("#draw-words")).to_have_text("Draw 8")  # four checkpoints at two strengths
    page.get_by_role("checkbox", name="step 100").uncheck(force=True)
    page.get_by_label("For each").select_option("prompt")
    page.get_by_label("Prompts, one a line").fill("sks toy on the sand\nsks toy in the rain")
    page.get_by_label("Prompts, one a line").press("Tab")
    expect(page.locator("#draw-words")).to_have_text("Draw 12")
    expect(page.locator("#cost")).to_contain_text("12 pictures, a run that waits goes first, about")
    assert page.get_by_label("Rows", exact=True).locator("option[value=prompt]").is_disabled(), "an axis has one place"
    page.keyboard.press("Control+Enter")
    expect(page.locator("#grid-title")).to_have_text("strength by checkpoint by prompt")
    cells = page.locator("#grid-table [data-cells] td")
    expect(cells).to_have_text(["waits"] * 12)
    expect(page.locator("#grid-table thead th")).to_have_text(["0.6", "1"])
    expect(page.locator("#grid-table th[scope=row]")).to_have_text(["Step 200", "Step 300", "Step 400"] * 2)
    expect(page.locator("#grid-table th[scope=rowgroup]")).to_have_text(["sks toy on the sand", "sks toy in the rain"])
    number = int(page.url.rpartition("grid=")[2])

    darkroom_states.fill_grid(home, number, [each for each in range(12) if each != 1])
    drawn = page.locator("#grid-table [data-cell]")
    expect(drawn).to_have_count(11)
    expect(cells.nth(1)).to_have_text("waits")
    drawn.first.focus()
    for key, place in (("ArrowRight", 2), ("ArrowDown", 4), ("ArrowDown", 6), ("ArrowUp", 4)):
        page.keyboard.press(key)
        expect(cells.nth(place).locator("button")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#viewer-title")).to_have_text("sks toy on the sand")
    expect(page.locator("#viewer-words")).to_contain_text("step 400, 0.6")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#viewer-words")).to_contain_text("step 400, 1")
    page.keyboard.press("Escape")
    expect(cells.nth(5).locator("button")).to_be_focused()

    page.reload()
    expect(drawn).to_have_count(11)
    found = faults(page, "a grid")
    page.get_by_role("button", name="Grid", exact=True).click()
    expect(page.locator("#draw-words")).to_have_text("Draw 4")
    found += faults(page, "the form of a grid")
    assert not found, "\n".join(found)
    page.locator("#grid-stop").click()
    expect(page.locator("#grid-words")).to_contain_text("removed, 11 of 12 drawn")
    page.get_by_role("button", name="Close the grid").click()
    expect(page.locator("#grid")).to_be_hidden()
    page.get_by_role("button", name="Open the grid: sks toy on the sand").click()
    page.locator("#grid").get_by_role("button", name="Delete").click()
    page.locator("#delete-grid").get_by_role("button", name="Delete grid").click()
    expect(page.locator("#grid")).to_be_hidden()
    expect(page.get_by_role("button", name="Open the grid")).to_have_count(0)


@pytest.mark.refusals
def test_what_is_wrong_with_a_grid_is_said_before_it_is_drawn(darkroom: Page) -> None:
    page = darkroom
    page.locator("#adapter").select_option("")
    page.get_by_role("button", name="Grid", exact=True).click()
    expect(page.locator("#grid-axes")).to_contain_text("Choose an adapter of a run above.")
    expect(page.locator("#grid-error")).to_contain_text("Checkpoint is empty; give a list of values")
    page.get_by_label("Rows", exact=True).select_option("seed")
    page.get_by_label("Columns").select_option("prompt")
    page.get_by_label("Seeds", exact=True).fill("3")
    page.get_by_label("Seeds", exact=True).press("Tab")
    expect(page.locator("#draw-words")).to_have_text("Draw 3")
    expect(page.locator("#grid-error")).to_be_empty()
