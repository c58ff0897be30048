"""Imported adapters on the page where pictures are drawn: renamed, and deleted, without leaving the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
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


@pytest.mark.refusals
def test_a_file_is_imported_with_the_settings_that_came_with_it(page: Page, studio: Studio, tmp_path: Path) -> None:
    file, config = tmp_path / "with settings.safetensors", tmp_path / "adapter_config.json"
    file.write_bytes(lora_file({"modelspec.trigger_phrase": "sks"}))
    config.write_text(json.dumps({"r": 2, "lora_alpha": 6}), encoding="utf-8")
    page.goto(f"{studio.url}/pictures")
    page.wait_for_load_state()
    chooser = page.locator("#import-file")

    chooser.set_input_files([config])
    expect(page.locator("#import-error")).to_have_text(
        "Choose one .safetensors file, and with it the adapter_config.json that came with it, if there is one."
    )
    chooser.set_input_files([file])
    expect(page.locator("#import-words")).to_contain_text("names no alpha, so alpha = rank is assumed")
    expect(page.locator("#import-error")).to_be_empty()
    chooser.set_input_files([config, file])
    expect(page.locator("#import-words")).to_have_text("with settings is here: rank 2, for pocket.")
    expect(page.locator("#adapter option", has_text="with settings")).to_have_count(2)

    config.write_text('{"lora_alpha": "many"}', encoding="utf-8")
    chooser.set_input_files([config, file])
    expect(page.locator("#import-error")).to_contain_text("The adapter_config.json of with settings.safetensors has")
    file.write_bytes(lora_file({}).replace(b"x_embedder", b"nowhere.at"))
    chooser.set_input_files([file])
    expect(page.locator("#import-error")).to_contain_text(
        "in a supported form. transformer.nowhere.at.lora_A.weight names no layer of FLUX.1, FLUX.2, Z-Image, Chroma "
        "or FLUX.3."
    )
