"""Many photos: only those in view are in the document, and all can be reached, chosen, changed and taken back."""

from __future__ import annotations

import hashlib
import io

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from app.actions import projects
from app.database import Database
from app.home import Home
from app.tables import Photo
from tests.e2e.conftest import Studio, wait_until
from tests.e2e.test_culling import UNJUDGED

COUNT = 400
IN_VIEW = """() => [...document.querySelectorAll('#photos [data-photo]')].filter((one) => {
  const { top, bottom } = one.getBoundingClientRect();
  return bottom > 100 && top < innerHeight;
})"""
LOADED = f"() => ({IN_VIEW})().every((one) => one.querySelector('img').naturalWidth > 0)"
FIRST_IN_VIEW = f"() => Number(({IN_VIEW})()[0].dataset.photo)"


@pytest.fixture(scope="module")
def many(studio: Studio) -> str:
    """The address of a project with many photos; of their files there are only the thumbnails."""
    database = Database(Home(studio.home))
    project = projects.create(database, "Many", "zwx", "toy").id
    with database.write() as session:
        for number in range(COUNT):
            sha256 = hashlib.sha256(f"many {number}".encode()).hexdigest()
            wide, high = ((160, 120), (120, 160), (120, 120))[number % 3]
            content = io.BytesIO()
            Image.new("RGB", (wide, high), (number % 256, 120, 90)).save(content, "JPEG")
            thumb = database.home.thumb(sha256)
            thumb.parent.mkdir(parents=True, exist_ok=True)
            thumb.write_bytes(content.getvalue())
            row = {"name": f"photo {number:03}.jpg", "sha256": sha256, "width": 10 * wide, "height": 10 * high}
            session.add(Photo(project_id=project, extension="jpg", bytes=9, **row))
    database.close()
    return f"{studio.url}/projects/{project}"


@pytest.fixture
def room(page: Page, many: str) -> Page:
    page.route("**/review", lambda route: route.fulfill(json=UNJUDGED))
    page.goto(many)
    page.wait_for_load_state()
    expect(page.locator("#photo-count")).to_have_text(str(COUNT))
    return page


def drawn(page: Page) -> int:
    return page.locator("#photos [data-photo]").count()


def test_keys_reach_every_photo_of_many_and_few_are_in_the_document(room: Page) -> None:
    tiles = room.locator("#photos [data-photo]")
    assert 20 < drawn(room) < COUNT / 2
    tiles.first.click()
    room.keyboard.press("End")
    last = room.locator(f'#photos [aria-posinset="{COUNT}"]')
    expect(last).to_be_focused()
    expect(last).to_be_in_viewport()
    assert drawn(room) < COUNT / 2
    top = last.evaluate("one => one.style.top")
    room.keyboard.press("ArrowUp")
    assert room.evaluate("document.activeElement.style.top") != top
    room.mouse.wheel(0, -9000)  # the photo with the keyboard stays, however far it is
    room.wait_for_function(f"() => ({IN_VIEW})().length > 8")
    assert room.evaluate("document.activeElement.matches('#photos [role=option]')")
    room.keyboard.press("ArrowDown")
    room.wait_for_function(f"() => ({IN_VIEW})().includes(document.activeElement)")
    assert int(room.evaluate("document.activeElement.ariaPosInSet")) > COUNT - 12
    room.keyboard.press("Home")
    expect(room.locator('#photos [aria-posinset="1"]')).to_be_focused()


def test_all_of_many_are_chosen_changed_as_one_step_and_taken_back(room: Page) -> None:
    places = "() => [...document.querySelectorAll('#photos .tile')].slice(0, 30).map((one) => one.style.cssText)"
    before = room.evaluate(places)
    room.locator("#photos [data-photo]").first.click()
    room.keyboard.press("Control+a")
    expect(room.locator("#chosen-count")).to_have_text(f"{COUNT} chosen")
    script = """async () => { const { editWithUndo, room } = await import('/static/js/project/state.js');
      await editWithUndo([...room.chosen], { crop: { left: 0.25, top: 0.25, right: 0.75, bottom: 0.75 } }); }"""
    room.evaluate(script)
    assert room.evaluate(places) != before, "another crop is shown"
    room.keyboard.press("Control+z")
    wait_until(room, lambda: room.evaluate(places) == before)
    expect(room.locator(".toast")).to_contain_text(f"Undone: crops of {COUNT} photos.")
    expect(room.locator(".toast")).to_have_count(1)


def test_photos_come_into_view_loaded_and_stay_where_they_are_when_their_size_changes(room: Page) -> None:
    room.wait_for_function(LOADED)
    room.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
    room.wait_for_function(f"() => ({IN_VIEW})().length > 8")
    room.wait_for_function(LOADED)
    first = room.evaluate(FIRST_IN_VIEW)
    room.locator("#size").fill("120")
    assert abs(room.evaluate(FIRST_IN_VIEW) - first) < 20
    assert drawn(room) < 0.8 * COUNT
