"""The darkroom over made-up drawings: gallery, viewer, wipe, favourites, search, recipes; by keys, mouse and finger."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests import darkroom_states
from tests.e2e.axe import faults
from tests.e2e.conftest import wait_until

COUNT = 1000
FOCUSED = "document.activeElement.dataset.picture ?? document.activeElement.id"
DROP = """([name, content]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(content), (one) => one.charCodeAt(0))], name));
  document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
SCROLLED = """async () => {
  const times = [];
  for (let at = 0; at < 60; at += 1) {
    const start = performance.now();
    scrollBy(0, 400);
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    times.push(performance.now() - start);
  }
  return times.sort((one, other) => one - other)[Math.floor(times.length / 2)];
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("darkroom") / "home"
    darkroom_states.make(home)
    with darkroom_states.serving(home) as found:
        yield f"{found}/pictures"


@pytest.fixture
def darkroom(page: Page, address: str) -> Page:
    page.goto(address)
    page.wait_for_load_state()
    expect(pictures(page).first).to_be_visible()
    return page


def pictures(page: Page) -> Locator:
    return page.locator("#gallery [data-picture]")


def ids(page: Page) -> list[str]:
    return [str(one.get_attribute("data-picture")) for one in pictures(page).all()]


def test_the_keyboard_walks_the_gallery_and_opens_a_picture_and_comes_back(darkroom: Page) -> None:
    page = darkroom
    order = ids(page)
    assert page.locator('#gallery [data-picture][tabindex="0"]').count() == 1, "one stop for Tab"
    pictures(page).first.focus()
    page.keyboard.press("End")
    assert page.evaluate(FOCUSED) == order[-1]
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(FOCUSED) == order[1]
    page.keyboard.press("ArrowDown")
    below = str(page.evaluate(FOCUSED))
    assert order.index(below) > 1
    page.keyboard.press("ArrowUp")
    assert order.index(str(page.evaluate(FOCUSED))) < order.index(below)

    pictures(page).nth(2).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    expect(page.locator("#viewer-plate .now")).to_have_attribute("src", f"/api/pictures/{order[2]}/file")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#viewer-plate .now")).to_have_attribute("src", f"/api/pictures/{order[3]}/file")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    assert page.evaluate(FOCUSED) == order[1], "the last one shown"


def test_a_wipe_goes_between_a_picture_and_the_same_seed_without_the_adapter(darkroom: Page) -> None:
    page = darkroom
    section = page.locator(".drawing", has_text="in the snow").first
    section.get_by_role("button", name="1.4, seed 5").click()
    plate = page.locator("#viewer-plate")
    expect(plate.locator(".before")).to_be_visible()
    expect(page.locator("#viewer-against option:checked")).to_have_text("without")
    expect(plate.locator(".tag.r")).to_have_text("1.4")
    wipe = plate.locator(".wipe")
    page.keyboard.press("w")
    expect(wipe).to_have_attribute("aria-valuetext", "50% of without")
    wipe.focus()
    page.keyboard.press("ArrowLeft")
    expect(wipe).to_have_attribute("aria-valuetext", "49% of without")
    expect(plate.locator(".tag.r")).to_have_text("1.4"), "the arrow keys move the wipe here, not the pictures"
    box = plate.bounding_box()
    assert box
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 40)
    assert 76 < int(wipe.input_value()) < 84
    page.locator("#ladder button", has_text="0.6").click()
    expect(plate.locator(".tag.r")).to_have_text("0.6")
    page.locator("#viewer-against").select_option(label="1")
    expect(plate.locator(".tag.l")).to_have_text("1")


def test_favourites_and_search_narrow_what_is_shown_and_stay(darkroom: Page) -> None:
    page = darkroom
    everything = len(ids(page))
    chosen = pictures(page).nth(1)
    number = str(chosen.get_attribute("data-picture"))
    chosen.focus()
    page.keyboard.press("f")
    expect(page.locator("#favourite-count")).to_have_text("1")
    assert page.evaluate(FOCUSED) == number, "the keyboard stays where it was"
    page.reload()
    page.get_by_role("button", name="Favourites 1").click()
    expect(pictures(page)).to_have_count(1)
    expect(page.locator(f'[data-picture="{number}"] .loved')).to_be_visible()
    pictures(page).click()
    page.get_by_role("button", name="Favourite", exact=True).click()
    expect(page.locator("#none-found")).to_contain_text("No favourites yet")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="All", exact=False).first.click()
    expect(pictures(page)).to_have_count(everything)

    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    for text, least in (("snow", 1), ("step 300", 1), ("seed 5", 3), ("pocket TEAPOT", 1)):
        page.locator("#search").fill(text)
        expect(page.locator("#none-found")).to_be_hidden()
        assert least <= len(ids(page)) < everything, text
    page.locator("#search").fill("snow seed 50")
    expect(page.locator("#none-found")).to_have_text(
        "No picture has “snow seed 50” in its prompt, adapters, model, strength or seed."
    )


def test_deleting_is_taken_back_and_the_keyboard_goes_on_at_the_next_picture(darkroom: Page) -> None:
    page = darkroom
    order = ids(page)
    pictures(page).nth(2).focus()
    page.keyboard.press("Delete")
    expect(page.locator(f'[data-picture="{order[2]}"]')).to_have_count(0)
    wait_until(page, lambda: page.evaluate(FOCUSED) == order[3])
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(f'[data-picture="{order[2]}"]')).to_have_count(1)
    assert ids(page) == order

    pictures(page).nth(3).click()
    page.get_by_role("button", name="Delete this picture").click()
    expect(page.locator("#viewer-plate .now")).to_have_attribute("src", f"/api/pictures/{order[4]}/file")
    page.keyboard.press("Escape")
    page.reload()
    assert ids(page) == [each for each in order if each != order[3]]
    page.request.post(page.url.replace("/pictures", f"/api/pictures/{order[3]}/restore"))


def test_a_recipe_fills_the_form_from_the_viewer_a_drawing_and_a_dropped_file(darkroom: Page, tmp_path: Path) -> None:
    page = darkroom
    page.get_by_role("button", name="two of them at once, 0.8 + 0.5").click()
    expect(page.locator("#viewer-recipe")).to_contain_text("Pip, Run 1, step 300, strength 0.5")
    page.keyboard.press("u")
    expect(page.locator("#prompt")).to_be_focused()
    expect(page.locator("#prompt")).to_have_value("two of them at once")
    expect(page.locator("#adapter option:checked")).to_have_text("Pip, Run 1, step 400")
    expect(page.get_by_label("Adapter 2").locator("option:checked")).to_have_text("Pip, Run 1, step 300")
    checked = page.locator("[data-strengths] input:checked")
    assert [one.get_attribute("value") for one in checked.all()] == ["0.8", "0.5"]
    expect(page.get_by_label("from")).to_have_value("9")
    expect(page.locator("#draw-button")).to_contain_text("Draw")
    expect(page.locator("#cost")).to_contain_text("1 combination")

    page.get_by_role("button", name="Use again: a photo of sks toy in the snow").click()
    expect(page.get_by_label("Adapter 2")).to_have_count(0)
    assert [one.get_attribute("value") for one in checked.all()] == ["0.6", "1", "1.4"]
    expect(page.get_by_label("Seeds", exact=True)).to_have_value("1")
    expect(page.locator("#draw-height")).to_have_value("352")

    source = page.locator(".drawing", has_text="as the base draws it").locator("[data-picture]")
    content = page.request.get(
        page.url.replace("/pictures", f"/api/pictures/{source.get_attribute('data-picture')}/file")
    )
    page.evaluate(DROP, ["mine.png", encoded(content.body())])
    expect(page.locator("#prompt")).to_have_value("a teapot as the base draws it")
    expect(page.locator("#adapter")).to_have_value("")
    expect(page.locator("#strength-field")).to_be_hidden()
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    page.evaluate(DROP, ["plain.png", encoded((tmp_path / "plain.png").read_bytes())])
    expect(page.locator(".toast").last).to_contain_text("plain.png carries no recipe")


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def drawn_by(route: Route) -> None:
    """As the studio answers, with the job of the run, which draws nothing."""
    route.fulfill(status=202, json={"job_id": 1})


def test_two_adapters_are_combined_and_each_has_its_strengths(darkroom: Page) -> None:
    page = darkroom
    page.get_by_role("button", name="Combine with another adapter").click()
    second = page.get_by_label("Adapter 2")
    expect(second).to_be_focused()
    expect(second.locator("option:checked")).to_have_text("Pip, Run 1, step 300")
    row = page.locator("#more-adapters [data-row]")
    row.get_by_role("checkbox", name="0.4", exact=True).check(force=True)
    page.locator("#strength-field").get_by_role("checkbox", name="1.2", exact=True).check(force=True)
    expect(page.locator("#cost")).to_contain_text("4 combinations and without, about")
    expect(page.locator("#draw-button")).to_contain_text("Draw 5")
    sent = []
    page.route("**/api/pictures", lambda route: (sent.append(route.request.post_data_json), drawn_by(route)))
    page.keyboard.press("Control+Enter")
    wait_until(page, lambda: bool(sent))
    assert [each["strengths"] for each in sent[0]["adapters"]] == [["1", "1.2"], ["0.4", "1"]]
    assert sent[0]["without"] is True
    page.get_by_role("button", name="Remove this adapter").click()
    expect(page.locator("#draw-button")).to_contain_text("Draw 3")


@pytest.mark.outage
def test_a_request_that_nobody_answers_is_said(darkroom: Page) -> None:
    darkroom.route("**/api/pictures", lambda route: route.abort())
    darkroom.locator("#draw-button").click()
    expect(darkroom.locator("#draw .error[data-error]")).to_contain_text("Likeness does not answer")


def test_a_thousand_pictures_stay_smooth_and_are_loaded_as_they_come_into_view(
    page: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("many") / "home"
    darkroom_states.many(home, COUNT)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/thumb" in request.url else None)
    with darkroom_states.serving(home) as address:
        page.goto(f"{address}/pictures")
        expect(page.locator("#all-count")).to_have_text(str(COUNT))
        page.wait_for_load_state("networkidle")
        assert len(asked) < COUNT / 5
        assert page.evaluate(SCROLLED) < 120, "milliseconds for two frames, on a busy computer"
        start = page.evaluate("performance.now()")
        page.locator("#search").fill("picture 77")
        expect(pictures(page)).to_have_count(8)
        assert page.evaluate("performance.now()") - start < 2000


def test_axe_finds_nothing_in_the_darkroom(page: Page, address: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    page.goto(address)
    page.wait_for_load_state()
    found = faults(page, "gallery")
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_role("button", name="Combine with another adapter").click()
    found += faults(page, "the form unfolded")
    pictures(page).nth(2).click()
    expect(page.locator("#viewer-recipe")).to_contain_text("Seed")
    page.keyboard.press("w")
    found += faults(page, "viewer")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Pictures alone").click()
    page.locator("#search").fill("nowhere")
    found += faults(page, "nothing found")
    with darkroom_states.serving(tmp_path_factory.mktemp("empty") / "home") as empty:
        page.goto(f"{empty}/pictures")
        expect(page.locator("#no-drawings")).to_be_visible()
        found += faults(page, "empty")
    assert not found, "\n".join(found)


def test_a_finger_opens_a_picture_and_nothing_is_wider_than_a_phone(browser: Browser, address: str) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = phone.new_page()
    page.goto(address)
    page.wait_for_load_state()
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
    pictures(page).nth(2).tap()
    expect(page.locator("#viewer-recipe")).to_contain_text("Seed")
    assert page.evaluate("viewer.scrollWidth - viewer.clientWidth") <= 0
    before = page.locator("#viewer-plate .now").get_attribute("src")
    page.get_by_role("button", name="Next picture").tap()
    expect(page.locator("#viewer-plate .now")).not_to_have_attribute("src", str(before))
    page.get_by_role("button", name="Close").tap()
    phone.close()
