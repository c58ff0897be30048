"""From a drop to training with keys alone and with a mouse alone; 200 changes undone and done again, in two tabs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import BrowserContext, Page, expect

from tests.app.test_edits import CLOSE
from tests.app.test_masks import mask_png
from tests.e2e.conftest import Studio, new_project, tile, wait_until
from tests.e2e.test_culling import UNJUDGED
from tests.e2e.test_dataset import DROP

CHANGES = 200
TYPED = "the words of a person"


def tab_to(page: Page, selector: str, key: str = "Tab") -> None:
    """Press the key until the keyboard is there."""
    for _ in range(80):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} never comes to {selector}")


def test_from_photos_to_training_with_keys_alone(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    page.goto(studio.url)
    page.wait_for_load_state()
    tab_to(page, "#choose-files")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(photo_files[:4])
    expect(page.get_by_label("What it is")).to_be_focused()
    page.keyboard.type("house")
    page.keyboard.press("Tab")
    page.keyboard.type("Zyggurat")
    page.keyboard.press("Enter")
    page.wait_for_url("**/projects/*")
    page.wait_for_load_state()
    expect(page.locator("#photos [data-photo]")).to_have_count(4)

    tab_to(page, "#photos [role=option]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    expect(page.locator("#photos .tile.aside")).to_have_count(1)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("c")
    expect(page.locator("#crop-frame")).to_be_focused()
    with page.expect_response("**/api/photos/*") as answer:
        page.keyboard.press("+")
    assert answer.value.ok
    page.keyboard.press("v")
    page.keyboard.press("Enter")
    page.keyboard.type(TYPED)
    page.keyboard.press("Escape")
    expect(page.locator("#loupe-saved")).to_contain_text("Saved")
    page.keyboard.press("Escape")
    expect(page.locator("#loupe")).to_be_hidden()

    tab_to(page, ".bar .train", "Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/train")
    page.wait_for_load_state()
    tab_to(page, "[name=model]")
    page.keyboard.type("tiny")
    expect(page.get_by_label("Model")).to_have_value("tiny")
    tab_to(page, "[name=steps]")
    page.keyboard.press("Control+a")
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_contain_text("done", timeout=90_000)
    run = page.url.split("/")[-1]
    assert page.request.get(f"{studio.url}/api/runs/{run}").json()["photos"] == 3, "what is set aside is not trained"


def test_from_a_drop_to_training_with_a_mouse_alone(page: Page, studio: Studio) -> None:
    page.goto(studio.url)
    page.wait_for_load_state()
    assert page.evaluate(DROP)
    expect(page.locator("#arrived img")).to_have_count(2)
    page.get_by_role("button", name="toy", exact=True).click()
    expect(page.get_by_label("What it is")).to_have_value("toy")
    page.get_by_role("button", name="Begin with these photos").click()
    page.wait_for_url("**/projects/*")
    page.wait_for_load_state()
    expect(page.get_by_role("heading", level=1)).to_have_text("Toy")
    tile(page, "left.png").click()
    page.locator("#actions").get_by_role("button", name="Set aside").click()
    expect(page.locator("#photos .tile.aside")).to_have_count(1)
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator("#photos .tile.aside")).to_have_count(0)
    page.get_by_role("link", name="Train").click()
    page.wait_for_url("**/train")
    page.wait_for_load_state()
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/runs/*")
    expect(page.locator("#state")).to_contain_text("running", timeout=60_000)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#state")).to_contain_text("stop", timeout=60_000)


# ---- undo ----


def photos_of(page: Page) -> list[dict[str, Any]]:
    base, project = page.url.split("#")[0].split("/projects/")
    photos = page.request.get(f"{base}/api/projects/{project}/photos").json()
    return [without_findings(one) for one in photos]


def without_findings(photo: dict[str, Any]) -> dict[str, Any]:
    """Without what a review found, which is no change of a person's."""
    kept = {name: value for name, value in photo.items() if name not in ("subject", "mask", "mask_url")}
    kept["subject"] = photo["subject"]["box"] if photo["subject"]["source"] == "you" else None
    return kept | {"mask": photo["mask_url"] if photo["mask"] == "you" else None}


def shown(page: Page) -> list[dict[str, Any]]:
    """The photos as the page has them."""
    script = "async () => [...(await import('/static/js/project/state.js')).room.photos.values()]"
    return [without_findings(one) for one in sorted(page.evaluate(script), key=lambda one: one["id"])]


def captions_of(page: Page) -> list[Any]:
    base = page.url.split("/projects/")[0]
    return [page.request.get(f"{base}/api/photos/{one['id']}/captions").json() for one in photos_of(page)]


def steps_of(page: Page) -> int:
    """How many steps can be undone."""
    base, project = page.url.split("#")[0].split("/projects/")
    return sum(not one["undone"] for one in page.request.get(f"{base}/api/projects/{project}/edits").json())


def change(http: httpx.Client, project: str, ids: list[int], number: int) -> list[int]:
    """One of the ways in which a person changes a set; returns the ids of the photos that are left."""
    chance = random.Random(number)
    one, some = chance.choice(ids), chance.sample(ids, min(3, len(ids)))
    box = {"left": number / 1000, "top": 0.0, "right": 0.9, "bottom": 0.9}
    path, edits = f"/api/photos/{one}", f"/api/projects/{project}/edits"
    words = (
        lambda: http.patch(path, json={"caption": f"caption {number}"}),
        lambda: http.patch(path, json={"crop": box}),
        lambda: http.patch(path, json={"crops": [CLOSE, box]}),
        lambda: http.post(edits, json={"photos": some, "set": {"suffix": f", {number}"}}),
    )
    places = (
        lambda: http.post(edits, json={"photos": some, "set": {"aside": number % 2 == 0}}),
        lambda: http.patch(path, json={"subject": [0.1, 0.1, 0.5 + number / 1000, 0.9]}),
        lambda: http.put(f"{path}/mask", content=mask_png((320, 280), number)),
    )
    gone = number % 15 == 14 and number > 0.8 * CHANGES
    # What a review looks at comes last, so that no job is at work all along.
    ways = places if number > 0.7 * CHANGES else words
    answer = http.delete(path) if gone else ways[number % len(ways)]()
    assert answer.is_success, answer.text
    return [each for each in ids if each != one] if gone else ids


def press(page: Page, key: str, times: int) -> None:
    for _ in range(times):
        page.keyboard.press(key)
    page.evaluate("async () => { await (await import('/static/js/project/state.js')).room.writing; }")


def test_200_mixed_changes_are_undone_by_keys_across_a_reload_and_done_again_in_two_tabs(
    page: Page, context: BrowserContext, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files, "Changed house")
    page.route("**/review", lambda route: route.fulfill(json=UNJUDGED))
    before, first = photos_of(page), steps_of(page)
    ids = [one["id"] for one in before]
    project = page.url.split("/projects/")[1]
    with httpx.Client(base_url=studio.url) as http:
        for number in range(CHANGES):
            ids = change(http, project, ids, number)
    after, words = photos_of(page), captions_of(page)
    count = steps_of(page) - first
    assert count > 0.9 * CHANGES
    page.reload()
    page.wait_for_load_state()
    assert shown(page) == after

    press(page, "Control+z", count // 2)
    page.reload()
    page.wait_for_load_state()
    press(page, "Control+z", count - count // 2)
    assert steps_of(page) == first
    assert photos_of(page) == before
    assert shown(page) == before

    press(page, "Control+Shift+z", count)
    assert photos_of(page) == after
    assert captions_of(page) == words
    assert shown(page) == after
    other = context.new_page()
    other.goto(page.url)
    other.wait_for_load_state()
    assert shown(other) == after
    press(other, "Control+z", 1)
    now = photos_of(page)
    assert now != after
    wait_until(page, lambda: shown(page) == now)
    press(page, "Control+Shift+z", 1)
    wait_until(page, lambda: shown(other) == after)
    assert photos_of(page) == after
    other.close()
