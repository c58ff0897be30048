"""Culling: choosing, setting aside, looking, sorting; with keys, with a mouse, by touch on a phone; and undone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.e2e.conftest import Studio, new_project, show_captions, tile

UNJUDGED = {
    "state": "done",
    "verdict": {"title": "", "words": ""},
    "counts": {},
    "findings": [],
    "done": 0,
    "problem": "",
}


@pytest.fixture(autouse=True)
def unjudged(context: BrowserContext, clean_page: None) -> None:
    """Photos of a kind are not folded into stacks while a test counts them."""
    context.route("**/review", lambda route: route.fulfill(json=UNJUDGED))


def names(page: Page) -> list[str]:
    """Of the photos in the grid, in their order."""
    return [text or "" for text in page.locator("#photos .name").all_text_contents()]


def chosen(page: Page) -> list[str]:
    return [text or "" for text in page.locator('#photos [aria-selected="true"] .name').all_text_contents()]


def numbers(page: Page) -> list[str]:
    """Good, to look at, set aside."""
    return page.locator("#numbers b").all_inner_texts()


def test_a_set_is_culled_with_keys_alone(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(page, studio, photo_files, "Keyed house")
    order = names(page)
    while not page.evaluate("document.activeElement.matches('#photos [role=option]')"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert chosen(page) == [order[1]]
    page.keyboard.press("Shift+ArrowRight")
    assert chosen(page) == order[1:3]
    page.keyboard.press("x")
    expect(page.locator("#photos .tile.aside")).to_have_count(2)
    page.keyboard.press("Control+z")
    expect(page.locator("#photos .tile.aside")).to_have_count(0)
    page.keyboard.press("Control+Shift+Z")
    expect(page.locator("#photos .tile.aside")).to_have_count(2)

    page.keyboard.press("Space")
    loupe = page.get_by_role("dialog")
    expect(loupe.get_by_role("heading", name=order[2])).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(loupe.get_by_role("heading", name=order[3])).to_be_visible()
    page.keyboard.press("x")
    expect(loupe.locator("#loupe-aside")).to_have_text("Take back")
    page.keyboard.press("Enter")
    page.keyboard.type("a house in the rain")
    page.keyboard.press("Escape")
    expect(loupe.locator("#loupe-saved")).to_contain_text("Saved")
    page.keyboard.press("Escape")
    expect(loupe).to_be_hidden()
    expect(tile(page, order[3])).to_be_focused()
    expect(page.locator("#photos .tile.aside")).to_have_count(3)
    expect(page.locator("#numbers b").last).to_have_text("3")

    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    expect(page.locator("#photos [data-photo]")).to_have_count(0)
    page.reload()
    page.wait_for_load_state()
    page.keyboard.press("Control+z")
    expect(page.locator("#photos [data-photo]")).to_have_count(6)
    expect(page.locator("#photos .tile.aside")).to_have_count(3)


def test_undo_is_shown_before_the_studio_has_answered_the_change(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files, "Hasty house")
    held: list[Route] = []
    page.route("**/edits", lambda route: held.append(route))
    page.locator("#photos [role=option]").first.click()
    aside, undo = page.locator("#photos .tile.aside"), page.locator("[data-undo=undo]").first
    for key, count in (("x", 1), ("Control+z", 0), ("Control+Shift+z", 1), ("Control+z", 0)):
        page.keyboard.press(key)
        expect(aside).to_have_count(count)
    with page.expect_response("**/redo"):
        held[0].continue_()
    expect(undo).not_to_have_attribute("aria-label", re.compile("aside|last change"))  # all four are answered
    expect(aside).to_have_count(0)
    page.reload()
    expect(page.locator("#photos [role=option]")).to_have_count(len(photo_files))
    expect(aside).to_have_count(0)


def test_a_set_is_culled_with_a_mouse_alone(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(page, studio, photo_files, "Clicked house")
    order = names(page)
    tiles = page.locator("#photos [role=option]")
    tiles.nth(1).click()
    tiles.nth(3).click(modifiers=["Shift"])
    assert chosen(page) == order[1:4]
    tiles.nth(2).click(modifiers=["ControlOrMeta"])
    assert chosen(page) == [order[1], order[3]]
    page.locator("#actions").get_by_role("button", name="Set aside").click()
    expect(page.locator("#photos .tile.aside")).to_have_count(2)
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator("#photos .tile.aside")).to_have_count(0)

    boxes = [tiles.nth(number).bounding_box() for number in (0, 1)]  # a drag takes what it touches
    assert boxes[0]
    assert boxes[1]
    page.mouse.move(boxes[0]["x"] + 20, boxes[0]["y"] + 20)
    page.mouse.down()
    page.mouse.move(boxes[0]["x"] + 60, boxes[0]["y"] + 50, steps=3)
    page.mouse.move(boxes[1]["x"] + 30, boxes[1]["y"] + 60, steps=3)
    page.mouse.up()
    assert chosen(page) == order[:2]
    expect(page.locator("#chosen-count")).to_have_text("2 chosen")
    page.get_by_role("button", name="Choose none").click()
    assert not chosen(page)

    tiles.nth(4).dblclick()
    loupe = page.get_by_role("dialog")
    loupe.get_by_role("button", name="Set aside", exact=True).click()
    expect(loupe.get_by_role("button", name="Take back")).to_be_visible()
    loupe.get_by_role("button", name="Undo: ").click()
    expect(loupe.get_by_role("button", name="Set aside", exact=True)).to_be_visible()
    loupe.get_by_role("button", name="The next photo").click()
    expect(loupe.get_by_role("heading", name=order[5])).to_be_visible()
    page.go_back()  # the browser's own button leaves the photo, not the project
    expect(loupe).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_have_text("Clicked house")


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    context.set_default_timeout(20_000)
    context.route("**/review", lambda route: route.fulfill(json=UNJUDGED))
    yield context.new_page()
    context.close()


def test_a_set_is_culled_by_touch_on_a_phone(phone: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(phone, studio, photo_files, "Touched house")
    order = names(phone)
    tile(phone, order[2]).tap()  # a tap opens
    loupe = phone.get_by_role("dialog")
    expect(loupe.get_by_role("heading", name=order[2])).to_be_visible()
    loupe.get_by_role("button", name="Set aside", exact=True).tap()
    expect(loupe.get_by_role("button", name="Take back")).to_be_visible()
    loupe.get_by_role("button", name="Back to the photos").tap()
    expect(phone.locator("#photos .tile.aside")).to_have_count(1)
    tile(phone, order[0]).locator(".choose").tap()  # the circle chooses, and from then on each tap does
    tile(phone, order[4]).tap()
    assert chosen(phone) == [order[0], order[4]]
    phone.locator("#actions").get_by_role("button", name="Set aside").tap()
    expect(phone.locator("#photos .tile.aside")).to_have_count(3)
    phone.locator(".bar").get_by_role("button", name="Undo").tap()
    expect(phone.locator("#photos .tile.aside")).to_have_count(1)
    first = tile(phone, order[0])
    low = first.bounding_box()
    phone.get_by_role("button", name="How photos are shown").tap()
    phone.get_by_role("button", name="Whole").tap()
    phone.get_by_label("Size of the photos").fill("200")
    phone.touchscreen.tap(200, 10)  # beside it
    expect(phone.get_by_role("button", name="Whole")).to_be_hidden()
    high = first.bounding_box()
    assert low
    assert high
    assert high["height"] > 1.5 * low["height"]
    wide = phone.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


def test_photos_are_sorted_naturally_and_filtered_and_that_stays(
    page: Page, studio: Studio, photo_files: list[Path], tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("house 10.png", "house 2.png", "house 1.png")]
    for source, target in zip(photo_files, files, strict=False):
        shutil.copy(source, target)
    new_project(page, studio, files, "Sorted house")
    page.get_by_label("Order").select_option("name")
    assert names(page) == ["house 1.png", "house 2.png", "house 10.png"]
    tile(page, "house 2.png").click()
    page.keyboard.press("x")
    page.get_by_label("Show", exact=True).select_option("aside")
    assert names(page) == ["house 2.png"]
    page.reload()
    expect(page.locator("#photos .name")).to_have_text(["house 2.png"])
    page.locator("#numbers").get_by_role("button", name="good").click()
    assert names(page) == ["house 1.png", "house 10.png"]
    page.get_by_label("Show", exact=True).select_option("wordless")
    assert names(page) == ["house 1.png", "house 2.png", "house 10.png"]


def test_the_loupe_zooms_to_one_pixel_for_each(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(page, studio, photo_files[:1], "Zoomed house")
    tile(page, "house 0.png").dblclick()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.wait_for_function("() => document.querySelector('#loupe-image').complete")
    page.set_viewport_size({"width": 1280, "height": 400})  # the stage is smaller than the photo now
    width = "document.querySelector('#loupe-image').getBoundingClientRect().width"
    page.wait_for_function(f"() => {width} < 300")
    page.keyboard.press("z")
    assert abs(page.evaluate(width) * page.evaluate("devicePixelRatio") - 320) < 1
    page.keyboard.press("z")
    assert page.evaluate(width) < 300


def test_what_one_tab_changes_the_other_shows(
    page: Page, context: BrowserContext, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:3], "Two tabs")
    other = context.new_page()
    other.goto(page.url)
    expect(other.locator("#photos [data-photo]")).to_have_count(3)
    other.wait_for_load_state()
    tile(page, "house 0.png").click()
    page.keyboard.press("x")
    expect(other.locator("#photos .tile.aside")).to_have_count(1)
    other.get_by_role("button", name="Undo: house 0.png set aside").first.click()
    expect(page.locator("#photos .tile.aside")).to_have_count(0)
    show_captions(other)
    other.get_by_role("textbox", name="Caption of house 1.png").fill("a red house")
    expect(page.locator(".bar").get_by_role("button", name="Undo: the caption of house 1.png")).to_be_enabled()
    tile(page, "house 2.png").click()
    page.keyboard.press("Delete")
    expect(other.locator("#lines li")).to_have_count(2)
    page.keyboard.press("Control+z")
    expect(other.locator("#lines li")).to_have_count(3)
    other.close()
