"""The form of a new run: the server's words beside a field once it is left, and edits that survive leaving the page."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

from tests.e2e.conftest import Studio, new_project, wait_until

pytestmark = pytest.mark.refusals  # the estimate of wrong settings is refused, with a line in the console


def open_form(page: Page, studio: Studio, photos: list[Path], name: str) -> None:
    new_project(page, studio, photos, name)
    page.get_by_role("link", name="Train").click()
    page.wait_for_url("**/train")
    page.get_by_label("Model").select_option("tiny")
    expect(page.locator("#estimate")).not_to_have_text("…")


def unfold(page: Page, label: str) -> None:
    page.locator("summary", has_text=label).click()


def wrong(field: Locator) -> None:
    """The field is marked as wrong and described by the line with its error."""
    expect(field).to_have_attribute("aria-invalid", "true")
    described = (field.get_attribute("aria-describedby") or "").split()
    assert f"{field.get_attribute('id')}-error" in described


def call(studio: Studio, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"{studio.url}/api{path}", method=method, data=json.dumps(body or {}).encode(),
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_field_is_checked_when_it_is_left_and_again_when_it_is_corrected(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    open_form(page, studio, photo_files[:2], "Checked house")
    steps, rank = page.get_by_label("Steps", exact=True), page.get_by_label("Rank", exact=True)
    steps.fill("1.000")
    expect(page.locator("#knob-steps-error")).to_have_text("")  # not while it is typed
    page.keyboard.press("Tab")
    expect(page.locator("#knob-steps-error")).to_have_text("Steps is '1.000'; write it without separators: 1000.")
    wrong(steps)
    assert rank.get_attribute("aria-invalid") is None
    unfold(page, "Adapter")
    layers = page.get_by_label("Layers", exact=True)
    layers.fill("atention")
    layers.blur()
    expect(page.locator("#knob-targets-error")).to_contain_text(
        "'atention' matches no layer; use all_linear, attention"
    )
    wrong(layers)
    page.get_by_label("Ranks by layer").fill("nowhere=4, mlp=8, elsewhere=2")
    page.get_by_label("Ranks by layer").blur()
    for name in ("nowhere", "elsewhere"):  # both, in one line
        expect(page.locator("#knob-ranks-error")).to_contain_text(f"'{name}' matches no layer that gets an adapter")
    page.get_by_label("Prompt 1", exact=True).fill("{trigger} in the snow")
    prompt = page.get_by_label("Prompt 2", exact=True)
    prompt.fill("a {tigger}")
    prompt.blur()
    expect(page.locator("#knob-sample_prompts-error")).to_contain_text("has {tigger}, which is not known")
    unfold(page, "Loss and data")
    page.get_by_label("Held-out photos").fill("2")
    page.get_by_label("Mirror photos").check()
    expect(page.locator("#knob-held_out-error")).to_contain_text("and there are 2 photos; leave one to train on")
    expect(page.locator("#knob-flip-error")).to_have_text("")

    layers.fill("attention")
    expect(page.locator("#knob-targets-error")).to_have_text("")
    layers.blur()
    steps.fill("3")
    steps.blur()
    expect(page.locator("#knob-held_out-error")).not_to_have_text("")
    expect(page.locator("#knob-steps-error")).to_have_text("")
    expect(layers).not_to_have_attribute("aria-invalid", "true")


def test_start_is_pressed_although_a_line_appears_above_it(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    page.set_viewport_size({"width": 390, "height": 800})  # the button is below the fields
    open_form(page, studio, photo_files[:1], "Pressed house")
    page.get_by_label("Picture size").fill("250")
    page.get_by_label("Steps", exact=True).fill("0")
    button = page.get_by_role("button", name="Start training")
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 4)
    page.mouse.down()
    page.wait_for_timeout(400)  # the check has its answer by now
    expect(page.locator("#knob-steps-error")).to_have_text("")
    page.mouse.up()
    expect(page.locator("#form-problems")).to_contain_text("2 settings need another look")
    expect(page.locator("#form-problems")).to_be_focused()
    page.get_by_label("Steps", exact=True).fill("3")
    page.get_by_label("Steps", exact=True).blur()
    expect(page.locator("#form-problems")).to_be_hidden()  # one is left, beside its field
    expect(page.locator("#knob-side_px-error")).to_contain_text("multiple of 16")


def test_edits_survive_leaving_and_reloading_until_a_run_starts_with_them(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    open_form(page, studio, photo_files[:2], "Left house")
    form = page.url
    page.get_by_label("Steps", exact=True).fill("2")
    unfold(page, "Samples and checkpoints")
    page.get_by_label("Sample every").fill("0")
    page.get_by_label("Prompt 1", exact=True).fill("one")
    page.get_by_label("Prompt 2", exact=True).fill("two")
    unfold(page, "Loss and data")
    page.get_by_label("Mirror photos").check()
    page.get_by_label("Held-out photos").fill("many")

    page.goto(f"{studio.url}/settings")
    page.goto(form)
    page.reload()
    expect(page.locator("#filled-in")).to_contain_text("What you had typed here before is filled in.")
    expect(page.get_by_label("Model")).to_have_value("tiny")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("2")
    expect(page.locator('[data-knob="steps"] [data-source-words]')).to_have_text("yours")
    expect(page.locator("#knob-held_out-error")).to_contain_text("names 'many'")  # unfolded, with its words
    expect(page.get_by_label("Mirror photos")).to_be_checked()
    expect(page.get_by_label("Prompt 1", exact=True)).to_have_value("one")
    expect(page.get_by_label("Prompt 2", exact=True)).to_have_value("two")

    new_project(page, studio, photo_files[:1], "Another house")
    page.get_by_role("link", name="Train").click()
    expect(page.get_by_label("Model")).to_have_value("pocket")
    expect(page.locator("#filled-in")).to_be_hidden()

    page.goto(form)
    expect(page.locator("#knob-held_out-error")).to_contain_text("names 'many'")
    page.get_by_label("Held-out photos").fill("auto")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/runs/*")
    page.goto(form)
    expect(page.locator("#filled-in")).to_be_hidden()
    expect(page.get_by_label("Model")).to_have_value("pocket")
    expect(page.get_by_label("Mirror photos")).not_to_be_checked()


def test_the_defaults_can_be_filled_in_again_and_that_can_be_undone(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    open_form(page, studio, photo_files[:2], "Default house")
    page.get_by_label("Rank", exact=True).fill("9")
    page.reload()
    expect(page.get_by_label("Rank", exact=True)).to_have_value("9")
    page.get_by_role("button", name="Use the defaults").click()
    expect(page.get_by_label("Model")).to_have_value("pocket")
    expect(page.get_by_label("Rank", exact=True)).not_to_have_value("9")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Model")).to_have_value("tiny")
    expect(page.get_by_label("Rank", exact=True)).to_have_value("9")
    page.get_by_role("button", name="Use the defaults").click()
    page.reload()
    expect(page.locator("#filled-in")).to_be_hidden()
    expect(page.get_by_label("Model")).to_have_value("pocket")


def test_a_run_that_failed_for_its_settings_is_edited_and_started_again(
    page: Page, studio: Studio, tmp_path: Path
) -> None:
    photos = []
    for number in range(2):
        photos.append(tmp_path / f"own {number}.png")
        Image.new("RGB", (96, 80), (7 + number, 201, 33)).save(photos[-1])
    open_form(page, studio, photos, "Failing house")
    project = int(page.url.split("/")[-2])
    page.get_by_label("Rank", exact=True).fill("7")
    expect(page.locator('[data-knob="rank"] [data-source-words]')).to_have_text("yours")
    knobs = {"model": "tiny", "steps": 5, "sample_every": 0, "optimizer": "lion", "targets": "attention", "flip": "on"}
    long = call(studio, "POST", f"/projects/{project}/runs", {"model": "tiny", "steps": 100_000, "sample_every": 0})
    run = call(studio, "POST", f"/projects/{project}/runs", knobs | {"name": "Blue"})
    (photo,) = (studio.home / "photos").glob(f"{run['items'][0]['sha256']}.*")
    content = photo.read_bytes()
    photo.unlink()
    page.goto(f"{studio.url}/runs/{run['id']}")
    edit = page.get_by_role("link", name="Edit settings and start again")
    expect(edit).to_be_hidden()
    call(studio, "POST", f"/runs/{long['id']}/stop", {"now": True})
    expect(page.locator("#state")).to_contain_text("failed", timeout=60_000)
    expect(page.locator("#run-error-hint")).to_be_hidden()  # it has no checkpoint
    photo.write_bytes(content)
    with contextlib.closing(sqlite3.connect(studio.home / "likeness.db")) as database:  # as an older version had it
        other = """json_set(config, '$.no_longer', json('{"value": 5, "source": "user"}'))"""
        database.execute(f"UPDATE run SET config = {other} WHERE id = ?", (run["id"],))
        database.commit()

    edit.click()
    expect(page.locator("#filled-in")).to_contain_text("These are the settings of Blue.")
    expect(page.locator("#filled-in")).to_contain_text("no such setting or choice any more: no_longer = 5.")
    expect(page.get_by_label("Model")).to_have_value("tiny")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("5")
    expect(page.get_by_label("Rank", exact=True)).not_to_have_value("7")
    unfold(page, "Adapter")
    expect(page.get_by_label("Layers", exact=True)).to_have_value("attention")
    unfold(page, "Learning")
    expect(page.get_by_label("Optimizer")).to_have_value("lion")
    expect(page.locator('[data-knob="learning_rate"] [data-source-words]')).to_have_text("the optimizer's")

    page.get_by_role("button", name="Use what I had typed before").click()
    expect(page.get_by_label("Rank", exact=True)).to_have_value("7")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Steps", exact=True)).to_have_value("5")
    page.get_by_label("Steps", exact=True).fill("3")
    page.reload()  # the same address: what was changed since stays
    expect(page.get_by_label("Steps", exact=True)).to_have_value("3")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/runs/*")
    started = call(studio, "GET", f"/runs/{page.url.rpartition('/')[2]}")
    used = {name: entry["value"] for name, entry in started["config"].items()}
    again = {name: entry["value"] for name, entry in run["config"].items()}
    assert used == again | {"steps": 3}
    assert started["config"]["learning_rate"]["source"] == run["config"]["learning_rate"]["source"]
    expect(page.locator("#state")).to_contain_text("done", timeout=60_000)


def test_start_that_is_pressed_before_the_scripts_are_there_starts_once_they_are(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:2], "Early house")
    held: list[Route] = []
    page.route("**/js/new_run/new_run.js", lambda route: held.append(route))
    page.goto(f"{page.url}/train", wait_until="commit")
    page.get_by_label("Model").select_option("tiny")
    page.get_by_label("Steps", exact=True).fill("1")
    page.get_by_role("button", name="Start training").click()
    wait_until(page, lambda: len(held) == 1)
    held[0].continue_()
    expect(page.locator("#state")).to_contain_text("done", timeout=60_000)
    expect(page.locator("#step")).to_have_text("1")
