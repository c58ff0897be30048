"""axe-core finds nothing in the dataset room and on the home page, in each of their states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.e2e.axe import faults
from tests.e2e.conftest import Studio, running_studio, tile


def review_of(ids: list[int]) -> dict[str, Any]:
    """Findings of several kinds: a stack, an unsure one, a screenshot, another subject, and one of the whole set."""

    def finding(
        kind: str, photos: list[int], action: str, sure: float = 0.9, keep: int | None = None
    ) -> dict[str, Any]:
        words = f"Words about {kind}."
        return {"kind": kind, "photos": photos, "keep": keep, "sure": sure, "words": words, "action": action}

    return {
        "state": "done",
        "verdict": {"title": "Nearly there: 2 are too alike", "words": "Add a close-up."},
        "counts": {},
        "done": len(ids),
        "problem": "",
        "findings": [
            finding("near_duplicate", ids[:2], "set_aside", keep=ids[0]),
            finding("blurred", [ids[2]], "look", sure=0.4),
            finding("screenshot", [ids[3]], "set_aside"),
            finding("several_subjects", [ids[4]], "look"),
            finding("no_close_up", [], "look"),
        ],
    }


def test_axe_finds_nothing_on_the_home_page_and_in_the_room(
    page: Page, tmp_path: Path, tiny_models: Path, photo_files: list[Path]
) -> None:
    with running_studio(tmp_path / "home", tiny_models) as studio:
        found = home_before_photos(page, studio, photo_files)
        project = int(page.url.split("/")[-1])
        photos = page.request.get(f"{studio.url}/api/projects/{project}/photos").json()
        ids = [one["id"] for one in sorted(photos, key=lambda one: one["name"])]
        page.route("**/review", lambda route: route.fulfill(json=review_of(ids)))
        page.request.patch(f"{studio.url}/api/photos/{ids[5]}", data={"aside": True})
        page.request.post(f"{studio.url}/api/projects/{project}/runs", data={"model": "tiny", "steps": 1})
        page.reload()
        page.wait_for_load_state()
        found += grid(page) + loupe(page) + captions(page) + dialogs(page)
        page.goto(studio.url)
        expect(page.locator(".project")).to_have_count(2)
        found += faults(page, "home with projects")
    assert not found, "\n".join(found)


def home_before_photos(page: Page, studio: Studio, photo_files: list[Path]) -> list[str]:
    """The first page, the question, and a room without photos; ends in the room with them."""
    page.goto(studio.url)
    page.wait_for_load_state()
    found = faults(page, "first page")
    page.locator("#choose-files").set_input_files(photo_files)
    expect(page.locator("#arrived img")).to_have_count(6)
    expect(page.locator("#upload-words")).to_have_text("6 added.")
    found += faults(page, "the question")
    page.get_by_label("What it is").fill("house")
    page.get_by_label("Its name").fill("Miso")
    page.get_by_role("button", name="Begin with these photos").click()
    page.wait_for_url("**/projects/*")
    address = page.url
    empty = {"name": "Empty", "trigger": "zwx", "class_word": "toy"}
    other = page.request.post(f"{studio.url}/api/projects", data=empty).json()["id"]
    page.goto(f"{studio.url}/projects/{other}")
    found += faults(page, "room without photos")
    page.goto(address)
    return found


def grid(page: Page) -> list[str]:
    expect(page.locator("#findings .finding")).to_have_count(5)
    expect(page.locator("#photos .tile.stack")).to_have_count(1)
    found = faults(page, "grid with findings")
    tile(page, "house 2.png").click()
    page.keyboard.press("x")
    expect(page.locator(".toast")).to_be_visible()
    found += faults(page, "a photo chosen, and a message")
    page.get_by_role("button", name="Choose none").click()
    page.locator("#findings .finding").first.click()
    expect(page.locator("#proposal")).to_be_visible()
    found += faults(page, "what a finding would do")
    page.get_by_role("button", name="Keep them all").click()
    page.get_by_role("tab", name="Runs").click()
    found += faults(page, "runs")
    page.get_by_role("tab", name="Photos").click()
    return found


def loupe(page: Page) -> list[str]:
    tile(page, "house 4.png").dblclick()
    found = []
    for key, tool in (("v", "look"), ("c", "crop"), ("m", "mask")):
        page.keyboard.press(key)
        expect(page.locator("#loupe")).to_have_attribute("data-tool", tool)
        found += faults(page, f"loupe, {tool}")
    page.get_by_role("button", name="Back to the photos").click()
    return found


def captions(page: Page) -> list[str]:
    page.locator('[data-view="captions"]').click()
    page.locator("#lines textarea").first.fill("a house in the rain")
    expect(page.locator("#lines .saved[data-mark=saved]")).to_have_count(1)
    found = faults(page, "captions")
    page.get_by_role("button", name="Find and replace").click()
    page.get_by_label("Find", exact=True).fill("rain")
    page.get_by_label("Replace with").fill("snow")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#caption-preview")).to_be_visible()
    found += faults(page, "captions replaced")
    page.get_by_role("button", name="Cancel").click()
    return found


def dialogs(page: Page) -> list[str]:
    page.get_by_label("More about this project").click()
    found = faults(page, "the menu")
    page.get_by_role("button", name="What changed since a run").click()
    expect(page.locator("#version-changes")).to_contain_text("house 2.png")
    found += faults(page, "versions")
    page.get_by_role("button", name="Close", exact=True).click()
    for name, opener in (("rename", "Rename"), ("delete", "Delete project")):
        if not page.get_by_role("button", name=opener).first.is_visible():
            page.get_by_label("More about this project").click()
        page.get_by_role("button", name=opener).first.click()
        found += faults(page, name)
        page.locator("dialog[open]").get_by_role("button", name="Cancel").click()
    return found
