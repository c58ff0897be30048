"""The verdict and what its findings do, captions in bulk with a preview, versions, the way from home to training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Studio, new_project, show_captions, start_tiny_run, tile, wait_until


@pytest.fixture
def burst(photo_files: list[Path], tmp_path: Path) -> list[Path]:
    """Six photos, and three more of one moment."""
    moments = []
    with Image.open(photo_files[0]) as photo:
        for number in (1, 2, 3):
            cut = photo.crop((2 * number, number, 320 - number, 280 - 2 * number)).resize((320, 280))
            moments.append(tmp_path / f"again {number}.png")
            ImageEnhance.Brightness(cut).enhance(1 + 0.02 * number).save(moments[-1])
    return [*photo_files, *moments]


def numbers(page: Page) -> list[int]:
    """Good, to look at, set aside."""
    return [int(text) for text in page.locator("#numbers b").all_inner_texts()]


def wait_for_verdict(page: Page) -> None:
    """Until all photos were looked at, and the page shows the verdict on them."""
    review = page.url.split("#")[0].replace("/projects/", "/api/projects/") + "/review"
    wait_until(page, lambda: page.request.get(review).json()["state"] == "done", 90)
    page.reload()
    page.wait_for_load_state()
    expect(page.locator("#review-running")).to_be_hidden()
    expect(page.locator("#verdict-title")).not_to_have_text("Not looked at yet")


def test_a_finding_quotes_what_it_would_set_aside_and_a_press_does_just_that(
    page: Page, studio: Studio, burst: list[Path]
) -> None:
    new_project(page, studio, burst, "Judged house")
    wait_for_verdict(page)
    repeats = page.locator(".do", has_text=re.compile("sharpest|aside"))
    finding = page.locator("#findings .finding").filter(has=repeats).first
    quoted = int(finding.locator("b").inner_text().split()[0])
    before = numbers(page)
    assert sum(before) == len(burst)
    finding.click()
    proposal = page.locator("#proposal")
    expect(proposal.get_by_text("set aside", exact=True)).to_have_count(quoted)
    expect(proposal.get_by_text("stays", exact=True)).to_have_count(1)
    assert numbers(page) == before, "nothing happens before the press"
    proposal.get_by_role("button", name="Keep them all").click()
    expect(proposal).to_be_hidden()
    expect(finding).to_be_focused()
    finding.click()
    proposal.get_by_role("button", name=f"Set {quoted} aside").click()
    expect(page.locator("#numbers b").last).to_have_text(str(quoted))
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator("#numbers b").last).to_have_text("0")


def test_a_stack_of_one_moment_is_folded_and_opens(page: Page, studio: Studio, burst: list[Path]) -> None:
    new_project(page, studio, burst, "Stacked house")
    ids = [int(one.get_attribute("data-photo") or 0) for one in page.locator("#photos [data-photo]").all()]
    finding = {
        "kind": "near_duplicate",
        "photos": ids[2:5],
        "keep": ids[3],
        "sure": 0.9,
        "action": "set_aside",
        "words": "x",
    }
    verdict = {"title": "Three alike", "words": ""}
    review = {"state": "done", "verdict": verdict, "counts": {}, "findings": [finding], "done": len(ids), "problem": ""}
    page.route("**/review", lambda route: route.fulfill(json=review))  # what is alike is the judge's business
    page.reload()
    page.wait_for_load_state()
    folded = page.locator("#photos .tile.stack").first
    expect(folded).to_be_visible()
    shown = page.locator("#photos [data-photo]").count()
    assert shown < len(burst)
    inside = int(folded.locator(".count-of").inner_text().split()[0])
    folded.locator(".count-of").click()
    expect(page.locator("#photos [data-photo]")).to_have_count(shown + inside - 1)
    page.keyboard.press("s")
    expect(page.locator("#photos [data-photo]")).to_have_count(shown)


def test_the_best_of_many_are_picked_and_shown_first(page: Page, studio: Studio, burst: list[Path]) -> None:
    new_project(page, studio, burst, "Picked house")
    wait_for_verdict(page)
    page.get_by_label("Pick the best").fill("4")
    page.get_by_role("button", name="Show me").click()
    proposal = page.locator("#proposal")
    expect(proposal.get_by_text("stays", exact=True)).to_have_count(4)
    proposal.get_by_role("button", name="Set 5 aside").click()
    expect(page.locator("#numbers b").last).to_have_text("5")
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator("#numbers b").last).to_have_text("0")


@pytest.mark.refusals
def test_words_are_replaced_in_many_captions_after_a_look_and_one_by_one_taken_back(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:3], "Worded house")
    show_captions(page)
    for number, text in enumerate(("a red house", "a Red door", "a reddish roof")):
        page.get_by_role("textbox", name=f"Caption of house {number}.png").fill(text)
        page.keyboard.press("Tab")
    expect(page.locator("#lines .saved[data-mark=saved]")).to_have_count(3)
    page.get_by_role("button", name="Find and replace").click()
    dialog = page.get_by_role("dialog", name="Change many captions")
    dialog.get_by_label("Find", exact=True).fill("red")
    dialog.get_by_label("Replace with").fill("blue")
    dialog.get_by_label("Whole words").check()
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog.get_by_role("heading", name="This replaces 2 captions")).to_be_visible()
    expect(dialog.locator("#caption-preview del")).to_have_count(2)
    expect(page.get_by_role("textbox", name="Caption of house 0.png")).to_have_value("a red house")
    dialog.get_by_label("Replace with").fill("green")  # other words need another look
    expect(dialog.locator("#caption-preview")).to_be_hidden()
    dialog.get_by_role("button", name="Preview").click()
    dialog.get_by_role("button", name="Replace 2 captions").click()
    captions = [page.get_by_role("textbox", name=f"Caption of house {number}.png") for number in range(3)]
    for field, text in zip(captions, ("a green house", "a green door", "a reddish roof"), strict=True):
        expect(field).to_have_value(text)
    page.locator(".bar").get_by_role("button", name="Undo").click()
    expect(captions[1]).to_have_value("a Red door")

    page.get_by_role("button", name="Find and replace").click()
    dialog.get_by_label("Find", exact=True).fill("")
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog.locator("#find-error")).to_contain_text("is empty")
    dialog.get_by_label("Add words before or after").check()
    dialog.get_by_label("After", exact=True).fill(", in the rain")
    dialog.get_by_role("button", name="Preview").click()
    dialog.get_by_role("button", name="Replace 3 captions").click()
    expect(captions[2]).to_have_value("a reddish roof, in the rain")

    page.get_by_role("button", name="Open house 2.png").click()  # the history of one caption
    page.get_by_role("button", name="Earlier captions").click()
    page.locator("#loupe-earlier").get_by_role("button", name="a reddish roof", exact=True).click()
    expect(page.locator("#loupe-caption")).to_have_value("a reddish roof")


def test_a_template_replaces_captions_only_after_a_look(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(page, studio, photo_files[:2], "Templated house")
    show_captions(page)
    first = page.get_by_role("textbox", name="Caption of house 0.png")
    first.fill("my own words")
    page.keyboard.press("Tab")
    expect(page.locator("#lines .saved[data-mark=saved]")).to_have_count(1)
    page.get_by_role("button", name="Write captions").click()
    dialog = page.get_by_role("dialog", name="Change many captions")
    dialog.get_by_label("Photos", exact=True).select_option("all")
    dialog.get_by_label("Template", exact=True).fill("a drawing of {trigger} {class_word}")
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog.get_by_role("heading", name="This replaces 2 captions")).to_be_visible(timeout=60_000)
    expect(first).to_have_value("my own words")
    dialog.get_by_role("button", name="Replace 2 captions").click()
    expect(first).to_have_value("a drawing of sks house")


def test_what_changed_since_a_run_is_shown(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(page, studio, photo_files[:3], "Versioned house")
    project = page.url
    start_tiny_run(page, steps=1)
    page.goto(project)
    page.wait_for_load_state()
    tile(page, "house 1.png").click()
    page.keyboard.press("x")
    expect(page.locator("#photos .tile.aside")).to_have_count(1)
    page.get_by_label("More about this project").click()
    page.get_by_role("button", name="What changed since a run").click()
    changes = page.locator("#version-changes")
    expect(changes.get_by_role("heading", name="1 photo no longer there")).to_be_visible()
    expect(changes).to_contain_text("house 1.png")


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()


def test_from_photos_to_training_by_touch_on_a_phone(phone: Page, studio: Studio, photo_files: list[Path]) -> None:
    phone.goto(studio.url)
    phone.wait_for_load_state()
    phone.locator("#choose-files").set_input_files(photo_files[:3])
    expect(phone.locator("#arrived img")).to_have_count(3)
    phone.get_by_label("What it is").tap()
    phone.keyboard.type("house")
    phone.get_by_label("Its name").tap()
    phone.keyboard.type("Zyggo")
    expect(phone.locator("#prompt-words")).to_have_text("zyggo house")  # a rare name is its own trigger
    phone.get_by_role("button", name="Begin with these photos").tap()
    expect(phone.get_by_role("heading", level=1)).to_have_text("Zyggo")
    expect(phone.locator("#photos [data-photo]")).to_have_count(3)
    phone.wait_for_load_state()
    phone.get_by_role("link", name="Train").tap()
    phone.get_by_label("Model").select_option("tiny")
    phone.get_by_label("Steps", exact=True).fill("2")
    phone.get_by_role("button", name="Start training").tap()
    expect(phone.locator("#state")).to_contain_text("done", timeout=90_000)
    phone.goto(studio.url)
    card = phone.locator(".project", has_text="Zyggo")
    expect(card).to_contain_text("Ready, 3 photos, 1 run")
    expect(card.get_by_alt_text("Zyggo, drawn")).to_be_visible()
    expect(card.get_by_alt_text("A photo of Zyggo")).to_be_visible()
