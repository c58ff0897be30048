"""Imported adapters on the page where pictures are drawn: renamed, and deleted, without leaving the page."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.app.test_imported_adapters import lora_file
from tests.e2e.conftest import Studio


def test_an_imported_adapter_is_renamed_and_deleted_where_it_is_chosen(
    page: Page, studio: Studio, tmp_path: Path
) -> None:
    file = tmp_path / "theirs.safetensors"
    file.write_bytes(lora_file({"modelspec.trigger_phrase": "sks"}))
    page.goto(f"{studio.url}/pictures")
    page.wait_for_load_state()
    page.locator("#import-file").set_input_files(file)
    chosen = page.locator("#adapter option:checked")
    expect(chosen).to_have_text("theirs (imported)")
    page.reload()

    page.locator("#imported").get_by_role("button", name="Rename").click()
    expect(page.locator("#adapter-name")).to_have_value("theirs")
    page.locator("#adapter-name").fill("Red can")
    page.locator("#rename-adapter").get_by_role("button", name="Save").click()
    expect(chosen).to_have_text("Red can (imported)")
    expect(page.locator("#rename-adapter")).to_be_hidden()

    page.locator("#imported").get_by_role("button", name="Delete").click()
    expect(page.locator("#adapter-to-delete")).to_have_text("Red can")
    page.locator("#delete-adapter").get_by_role("button", name="Delete adapter").click()
    expect(page.locator("#delete-adapter")).to_be_hidden()
    expect(page.locator("#adapter option", has_text="Red can")).to_have_count(0)
    expect(page.locator("#imported")).to_be_hidden()
    page.reload()
    expect(page.locator("#adapter option", has_text="Red can")).to_have_count(0)
