"""The contact sheet of a run's page, the blind comparison, and checkpoints on the disk. The pictures are made up."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Page, expect

from app.database import Database
from app.home import Home
from tests import grid_states, run_states
from tests.e2e.axe import faults


@dataclass(frozen=True)
class Room:
    url: str
    run: int
    database: Database

    def open(self, page: Page) -> None:
        page.goto(f"{self.url}/runs/{self.run}")
        expect(page.locator("#checkpoints li")).to_have_count(4)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    home = tmp_path_factory.mktemp("sheets") / "home"
    runs = run_states.make(home, [scene for scene in run_states.SCENES if scene.name == "done"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with run_states.served(home, port) as address:
        database = Database(Home(home))
        yield Room(address, runs["done"], database)
        database.close()


@pytest.mark.refusals
def test_a_contact_sheet_fills_in_and_is_walked_and_starred_by_keys(page: Page, room: Room) -> None:
    room.open(page)
    draw = page.locator("#sheet-draw")
    expect(draw).to_have_text("Draw 16, about 2 minutes")
    page.locator("#sheet-choice summary").click()
    page.get_by_role("checkbox", name="Step 100").uncheck()
    expect(draw).to_contain_text("Draw 12, ")
    page.get_by_label("Strengths").fill("0.7 9")
    expect(page.locator('[data-error-for="axes.strength"]')).to_contain_text("-4 to 4")
    page.get_by_label("Strengths").fill("0.7 1")
    expect(draw).to_contain_text("Draw 12, ")
    draw.click()
    expect(page.locator("#sheet-words")).to_contain_text("0 of 12 pictures")
    expect(page.locator(".sheet-table .coming")).to_have_count(12)
    claim = grid_states.begin(room.database)
    grid_states.draw(room.database, claim, range(5))
    expect(page.locator(".sheet-table button.cell")).to_have_count(5)
    expect(page.locator("#sheet-words")).to_have_text("Drawing, 5 of 12 pictures.")
    grid_states.draw(room.database, claim, range(5, 11))
    grid_states.finish(room.database, claim, {11: "Pip, step 400 was deleted before this picture was drawn."})
    expect(page.locator("#sheet-words")).to_have_text("11 pictures, 1 could not be drawn.")
    expect(page.locator(".sheet-table .failed")).to_contain_text("was deleted")

    page.locator('.sheet-table [data-number="0"]').press("Enter")
    title = page.locator("#lightbox-title")
    expect(title).to_have_text("Step 200, a photo of sks toy, strength 0.7, seed 42")
    page.keyboard.press("ArrowRight")
    expect(title).to_have_text("Step 200, a photo of sks toy, strength 1, seed 42")
    page.keyboard.press("ArrowDown")
    expect(title).to_have_text("Step 300, a photo of sks toy, strength 1, seed 42")
    page.keyboard.press("s")
    expect(page.locator("#lightbox [data-act]")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(page.locator('.sheet-table [data-number="5"]')).to_be_focused()
    expect(page.locator(".sheet-table .cell.starred")).to_have_count(4)
    expect(page.locator('#checkpoints [data-step="300"] .star')).to_have_attribute("aria-pressed", "true")
    found = page.request.get(f"{room.url}{page.locator('#sheet-file').get_attribute('href')}")
    assert found.headers["content-type"] == "image/png"
    page.reload()
    expect(page.locator(".sheet-table button.cell")).to_have_count(11)
    assert faults(page, "with a sheet") == []


def test_two_checkpoints_are_compared_blind_and_the_count_is_true(page: Page, room: Room) -> None:
    room.open(page)
    page.get_by_role("button", name="Compare two blind").click()
    page.get_by_label("First checkpoint").select_option("300")
    page.get_by_label("Second checkpoint").select_option("200")
    step_of = page.evaluate("""async () => {
      const data = JSON.parse(document.querySelector('#scene-data').textContent);
      const found = Object.fromEntries(data.samples.map(({ url, step }) => [url, step]));
      const run = document.querySelector('#main').dataset.run;
      for (const { pictures } of await (await fetch(`/api/grids?run=${run}`)).json())
        for (const { url, checkpoint } of pictures) if (url) found[url] = checkpoint;
      return found;
    }""")
    words = page.locator("#blind-words")
    expect(words).to_contain_text("Pair 1 of ")
    total = int(words.inner_text().split(" of ")[1].split(".")[0])
    assert total >= 2
    for number in range(total):
        expect(words).to_have_text(f"Pair {number + 1} of {total}. Which is better?")
        left = page.get_by_alt_text("Left picture").get_attribute("src")
        if number == 0:
            page.keyboard.press("ArrowDown")
        elif step_of[left] == 200:
            page.keyboard.press("ArrowLeft")
        else:
            page.get_by_role("button", name="The right one").click()
    expect(page.locator("#blind-result")).to_contain_text(f"You chose step 200 in {total - 1} of {total}.")
    expect(page.locator("#blind-result")).to_contain_text("Equal in 1.")
    assert faults(page, "compared") == []
    page.locator("#blind-result").get_by_role("button", name="Star step 200").click()
    expect(page.locator('#checkpoints [data-step="200"] .star')).to_have_attribute("aria-pressed", "true")


@pytest.mark.refusals
def test_checkpoints_are_deleted_brought_back_and_thinned(page: Page, room: Room) -> None:
    room.open(page)
    lines = page.locator("#checkpoints li")
    expect(page.locator("#run-disk-words")).to_contain_text("Checkpoints 20 MB")
    page.get_by_label("More for step 100").click()
    link = page.get_by_label("Train on from step 100")
    assert link.get_attribute("href") == f"/projects/1/train?again={room.run}&step=100"
    page.get_by_role("button", name="Delete step 100").click()
    expect(lines).to_have_count(3)
    page.get_by_role("button", name="Undo").click()
    expect(lines).to_have_count(4)
    page.get_by_label("More for step 400").click()
    assert faults(page, "with a menu") == []
    page.get_by_role("button", name="Delete step 400").click()
    expect(page.locator(".toast").last).to_contain_text("the newest")
    expect(lines).to_have_count(4)
    thin = page.locator("#thin")
    expect(thin).to_contain_text("Keep only the starred, the newest and the best: frees 10 MB")
    thin.click()
    expect(lines).to_have_count(2)
    page.get_by_role("button", name="Undo").click()
    expect(lines).to_have_count(4)
    page.get_by_role("button", name="Average several").click()
    page.locator("#average").get_by_role("button", name="Average").click()
    expect(page.locator('#average [data-error-for="steps"]')).to_contain_text("needs 2 to 16")
    page.goto(f"{room.url}{link.get_attribute('href')}")
    expect(page.get_by_label("Begin with")).to_have_value("1")
