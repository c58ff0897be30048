"""What cannot be used is said in a sentence where the user looks, and the rest is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Studio, new_project, show_captions

pytestmark = pytest.mark.refusals


def test_each_bad_file_gets_its_own_sentence_and_the_good_ones_stay(
    page: Page, studio: Studio, photo_files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "words.jpg").write_text("this is not a picture")
    (tmp_path / "half.png").write_bytes(photo_files[0].read_bytes()[:400])
    (tmp_path / "notes.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "house 1.txt").write_text("a photo of sks house in the rain")
    new_project(page, studio, [], "Refused house")
    bad = [tmp_path / name for name in ("empty.jpg", "words.jpg", "half.png", "notes.pdf")]
    page.locator("#choose-files").set_input_files([*bad, photo_files[1], tmp_path / "house 1.txt"])
    expect(page.locator("#photos [data-photo]")).to_have_count(1)
    show_captions(page)
    expect(page.get_by_role("textbox", name="Caption of house 1.png")).to_have_value("a photo of sks house in the rain")
    lines = page.locator('#upload-list [data-state="refused"]')
    expect(lines).to_have_count(4)
    for line, name in zip(lines.all(), ("empty.jpg", "words.jpg", "half.png", "notes.pdf"), strict=True):
        expect(line.locator(".name")).to_have_text(name)
        assert len(line.locator(".problem").inner_text()) > 15
    expect(page.locator("#upload-words")).to_have_text("1 added, 4 not added, 1 caption added.")
    page.locator("#choose-files").set_input_files([photo_files[1]])
    expect(page.locator("#upload-words")).to_have_text("0 added, 1 already here.")
    expect(page.locator("#upload-list li")).to_have_count(0)


def test_wrong_settings_are_told_at_their_fields_and_nothing_is_lost(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:1], "Strict house")
    page.get_by_role("link", name="Train").click()
    page.get_by_label("Steps", exact=True).fill("0")
    page.get_by_label("Picture size").fill("250")
    page.get_by_text("Learning", exact=True).click()
    page.get_by_label("Learning rate").fill("fast")
    page.get_by_text("Learning", exact=True).click()
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#knob-steps-error")).to_contain_text("it can be 1 to 100000")
    expect(page.locator("#knob-side_px-error")).to_contain_text("multiple of 16")
    expect(page.locator("#knob-learning_rate-error")).to_be_visible()
    expect(page.locator("#form-problems")).to_contain_text("3 settings need another look")
    expect(page.get_by_label("Learning rate")).to_have_value("fast")
    expect(page.get_by_label("Steps", exact=True)).to_have_attribute("aria-invalid", "true")


def test_the_learning_rate_follows_the_optimizer_and_one_that_does_not_suit_it_is_told(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:1], "Prodigious house")
    page.get_by_role("link", name="Train").click()
    page.get_by_text("Learning", exact=True).click()
    rate, source = page.get_by_label("Learning rate"), page.locator('[data-knob="learning_rate"] [data-source-words]')
    own = rate.input_value()
    page.get_by_label("Optimizer").select_option("prodigy")
    expect(rate).to_have_value("1")
    expect(source).to_have_text("the optimizer's")
    expect(page.get_by_label("Schedule")).to_have_value("constant")
    expect(page.get_by_label("Warm-up")).to_have_value("0")
    expect(page.locator("#advice")).to_be_hidden()
    rate.fill("0.0001")
    expect(page.locator("#advice")).to_contain_text("does not suit Prodigy: it finds the rate itself")
    page.get_by_label("Optimizer").select_option("adamw")
    expect(page.locator("#advice")).to_be_hidden()
    expect(rate).to_have_value("0.0001")  # the user's
    expect(page.get_by_label("Schedule")).to_have_value("cosine")
    rate.fill(own)
    page.get_by_label("Optimizer").select_option("prodigy")
    expect(rate).to_have_value("1")


def test_without_photos_the_way_leads_back_to_them(page: Page, studio: Studio) -> None:
    new_project(page, studio, [], "Empty house")
    page.get_by_role("link", name="Train").click()
    expect(page.get_by_text("nothing to train on")).to_be_visible()
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()


def test_what_it_is_has_to_be_said_and_without_a_name_it_is_called_that(page: Page, studio: Studio) -> None:
    page.goto(studio.url)
    page.wait_for_load_state()
    page.get_by_role("button", name="Begin without photos").click()
    page.get_by_label("Its name").fill("Nameless {house}")
    page.get_by_role("button", name="Begin").click()
    expect(page.locator("#class_word-error")).to_contain_text("is empty")
    expect(page.get_by_label("What it is")).to_be_focused()
    expect(page.get_by_label("Its name")).to_have_value("Nameless {house}")
    page.get_by_label("What it is").fill("house")
    page.get_by_label("Its name").fill("")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("House")


def test_a_file_that_is_no_adapter_is_refused_in_words(page: Page, studio: Studio, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\xff" * 64)
    page.goto(f"{studio.url}/pictures")
    page.locator("#import-file").set_input_files(broken)
    expect(page.locator("#import-error")).to_contain_text("broken.safetensors")


def test_a_page_that_is_not_there_says_so(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.url}/projects/987654")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")
    page.get_by_role("link", name="Go to the projects").click()
    expect(page).to_have_url(f"{studio.url}/")
