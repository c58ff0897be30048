"""Keyboard, dark rooms, small screens, names for everything: on every page."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Studio, new_project, show_captions, start_tiny_run, tile

NAMELESS = """() => [...document.querySelectorAll(
    'button, a[href], input, select, textarea, summary, progress, dialog')]
  .filter((one) => one.checkVisibility() && !one.matches('[type=hidden]'))
  .filter((one) => {
    const labelled = (one.getAttribute('aria-labelledby') ?? '').split(' ').map((id) => document.getElementById(id));
    const words = [one.getAttribute('aria-label'), one.textContent, one.querySelector('img')?.alt,
      ...[...(one.labels ?? [])].map((l) => l.textContent), ...labelled.map((l) => l?.textContent)];
    return !words.some((word) => word?.trim());
  }).map((one) => one.outerHTML.slice(0, 120))"""

SMALL_TARGETS = """() => [...document.querySelectorAll('button, a.button, nav a, select, input:not(.behind)')]
  .filter((one) => one.checkVisibility() && !one.closest('.drop') && !one.matches('[type=checkbox], [type=radio]'))
  .filter((one) => { const box = one.getBoundingClientRect(); return box.height < 24 || box.width < 24; })
  .map((one) => one.outerHTML.slice(0, 120))"""

TWICE = """() => { const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
  return ids.filter((id, place) => ids.indexOf(id) !== place); }"""

LOST_REFERENCES = """() => [...document.querySelectorAll('[aria-describedby], [aria-labelledby], label[for]')]
  .flatMap((one) => [one.getAttribute('aria-describedby'), one.getAttribute('aria-labelledby'), one.getAttribute('for')]
    .filter(Boolean).flatMap((ids) => ids.split(' ')))
  .filter((id) => !document.getElementById(id) && !id.endsWith('-hint'))"""


FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def addresses(browser: Browser, studio: Studio, photo_files: list[Path]) -> dict[str, str]:
    """Every page, with something on it."""
    page = browser.new_page()
    new_project(page, studio, photo_files[:3], "A house with quite a long name, longer than a phone is wide")
    project = page.url
    start_tiny_run(page, steps=6, every=3)
    expect(page.locator("#state")).to_contain_text("done", timeout=60_000)
    found = {"run": page.url, "project": project, "train": f"{project}/train", "home": studio.url}
    page.close()
    return found | {name: f"{studio.url}/{name}" for name in ("pictures", "queue", "models", "settings", "nowhere")}


@pytest.mark.refusals
def test_no_page_scrolls_sideways_on_a_phone_and_everything_has_a_name_and_is_large_enough_to_hit(
    page: Page, addresses: dict[str, str]
) -> None:
    for name, address in addresses.items():
        page.goto(address)
        for width in (1900, 768, 360, 1280):  # what was drawn for a wide window must become narrow with it
            page.set_viewport_size({"width": width, "height": 800})
            page.evaluate(FRAMES)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name} at {width} px is {wide} px too wide"
        assert page.locator("h1").count() == 1, name
        assert page.evaluate(NAMELESS) == [], name
        assert page.evaluate(SMALL_TARGETS) == [], name
        assert page.evaluate(TWICE) == [], name
        assert page.evaluate(LOST_REFERENCES) == [], name
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            assert page.get_by_role(landmark).count() >= 1, f"{name} has no {landmark}"


def test_a_project_is_made_with_the_keyboard_alone(page: Page, studio: Studio) -> None:
    page.goto(studio.url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    while not page.evaluate("document.activeElement.id === 'without-photos'"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("What it is")).to_be_focused()
    page.keyboard.type("house")
    page.keyboard.press("Tab")
    page.keyboard.type("Typed house")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Typed house")


@pytest.mark.refusals  # the home page may still ask for the thumbnail that has just gone
def test_deleting_a_photo_can_be_taken_back(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(page, studio, photo_files[:2], "Undone house")
    tile(page, "house 0.png").click()
    page.locator("#actions").get_by_role("button", name="Delete").click()
    expect(page.locator("#photo-count")).to_have_text("1")
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator("#photo-count")).to_have_text("2")
    tile(page, "house 0.png").focus()
    page.keyboard.press("Delete")
    expect(page.locator("#photo-count")).to_have_text("1")
    page.reload()
    expect(page.locator("#photos [data-photo]")).to_have_count(1)
    page.get_by_role("button", name="Undo: house 0.png deleted").click()
    expect(page.locator("#photos [data-photo]")).to_have_count(2)


def test_the_theme_follows_the_computer_and_can_be_chosen(page: Page, studio: Studio) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    page.goto(f"{studio.url}/settings")
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert dark != light
    page.get_by_label("Light", exact=True).check()
    assert page.evaluate(ground) == light
    page.reload()
    assert page.evaluate(ground) == light
    page.get_by_label("As the computer").check()
    assert page.evaluate(ground) == dark


def test_a_project_is_renamed_and_deleted(page: Page, studio: Studio) -> None:
    new_project(page, studio, [], "Old house")
    page.get_by_role("button", name="Change").click()
    page.get_by_label("Project name").fill("New house")
    with page.expect_navigation():
        page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("New house")
    page.get_by_label("More about this project").click()
    page.get_by_role("button", name="Delete project").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete project").click()
    expect(page).to_have_url(f"{studio.url}/")
    expect(page.get_by_text("New house")).to_have_count(0)


def test_a_name_is_never_read_as_markup(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    name = """<img src=x onerror="alert('no')"> & 'House' </script>"""
    new_project(page, studio, photo_files[:1], name)
    show_captions(page)
    page.get_by_role("textbox", name="Caption of house 0.png").fill(name)
    expect(page.locator("#lines .saved")).to_contain_text("Saved")
    page.reload()
    expect(page.get_by_role("textbox", name="Caption of house 0.png")).to_have_value(name)
    for address in (page.url, f"{page.url}/train", studio.url):
        page.goto(address)
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
