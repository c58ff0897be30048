"""The whole way: from an empty home to an adapter on the disk, with a tiny model and with Pocket."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from safetensors import safe_open

from tests.e2e.conftest import Studio, running_studio, show_captions, step_of, wait_for_step


@pytest.fixture
def empty_studio(tmp_path: Path, tiny_models: Path):
    with running_studio(tmp_path / "home", tiny_models) as running:
        yield running


@pytest.mark.parametrize(("model", "steps", "side_px"), [("tiny", 4000, 64), ("pocket", 4000, 64)])
def test_from_an_empty_home_to_a_downloaded_adapter(
    page: Page, empty_studio: Studio, photo_files: list[Path], tmp_path: Path, model: str, steps: int, side_px: int
) -> None:
    page.goto(empty_studio.url)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Drop photos")
    page.wait_for_load_state()
    page.locator("#choose-files").set_input_files(photo_files)
    expect(page.locator("#arrived img")).to_have_count(6)
    page.get_by_label("What it is").fill("house")
    page.get_by_label("Its name").fill("House")
    page.get_by_role("button", name="Say it differently").click()
    page.get_by_label("In prompts it is called").fill("zwx")
    expect(page.locator("#prompt-words")).to_have_text("zwx house")
    page.get_by_role("button", name="Begin with these photos").click()

    expect(page.get_by_role("heading", level=1, name="House")).to_be_visible()
    page.wait_for_load_state()
    expect(page.locator("#photos [data-photo]")).to_have_count(6)
    expect(page.locator("#photo-count")).to_have_text("6")

    show_captions(page)
    first = page.get_by_role("textbox", name="Caption of house 0.png")
    first.fill("a photo of zwx house on a meadow")
    expect(page.locator("#lines li", has=first).locator(".saved")).to_contain_text("Saved")
    page.reload()
    expect(first).to_have_value("a photo of zwx house on a meadow")
    page.get_by_role("button", name="Write captions").click()
    page.get_by_label("Template", exact=True).fill("a drawing of {trigger} {class_word}")
    page.get_by_role("button", name="Write captions", exact=True).click()
    expect(page.get_by_role("textbox", name="Caption of house 5.png")).to_have_value("a drawing of zwx house")
    expect(first).to_have_value("a photo of zwx house on a meadow")

    page.get_by_role("link", name="Train").click()
    page.wait_for_url("**/train")
    expect(page.locator("#estimate")).not_to_have_text("…")
    expect(page.locator("#fit")).to_contain_text("Needs about")
    page.get_by_label("Model").select_option(model)
    page.get_by_label("Steps", exact=True).fill(str(steps))
    page.get_by_label("Picture size").fill(str(side_px))
    page.get_by_text("Samples and checkpoints").click()
    page.get_by_label("Sampler steps").fill("3")
    page.get_by_label("Sample every").fill("20")
    page.get_by_role("button", name="Start training").click()

    page.wait_for_url("**/runs/*")
    expect(page.locator("#state")).to_contain_text("running", timeout=60_000)
    expect(page.locator("#shots img.now:visible")).not_to_have_count(0, timeout=60_000)
    wait_for_step(page, 4)
    expect(page.locator("#chart canvas")).to_be_visible()
    expect(page.locator("#loss-now")).to_have_text(re.compile(r"^\d\.\d{4}$"))
    before = page.locator("#chart-summary").inner_text()
    expect(page.locator("#chart-summary")).not_to_have_text(before)

    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#state")).to_contain_text("stopped")
    stopped_at = step_of(page)
    expect(page.locator(f'#checkpoints [data-step="{stopped_at}"]')).to_be_visible()
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.locator("#state")).to_contain_text("running")
    wait_for_step(page, stopped_at + 3)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#state")).to_contain_text("stopped")
    last = step_of(page)
    assert last > stopped_at

    with page.expect_download() as download:
        page.get_by_role("link", name="Download the adapter", exact=True).click()
    assert download.value.suggested_filename == f"House-Run-1-{last}.safetensors"
    target = tmp_path / "adapter.safetensors"
    download.value.save_as(target)
    with safe_open(target, framework="np") as adapter:
        names = list(adapter.keys())
    assert names
    assert all(name.startswith("transformer.") for name in names)
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)
