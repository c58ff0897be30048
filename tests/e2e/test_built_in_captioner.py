"""The built-in captioner from its button to its captions and back: real pip, a real server, on a pretended Mac."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from core.hub.caption_model import MODEL
from tests.e2e.conftest import Studio, end, new_project, show_captions, start
from tests.hub import running_hub
from tests.mlx_vlm import make_repository, make_wheel, package_index

ON_A_MAC = """
from core.captioners import platforms
from core.captioners.platforms import Machine
platforms.this_machine = lambda home: Machine("Darwin", "arm64", "15.5", "metal", 12 * 2**30)
from app.cli import main
main()
"""


@pytest.fixture
def mac_studio(tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A studio that takes this machine for a Mac, a package index and a hub beside it."""
    make_wheel(tmp_path / "index")
    with running_hub({MODEL.repo: make_repository(tmp_path / "repository")}) as hub, package_index(tmp_path / "index"):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        studio = start(tmp_path / "home", tiny_models, program=("-P", "-c", ON_A_MAC))
        yield studio
        end(studio)


def test_it_is_installed_captions_photos_after_a_look_and_is_removed(
    page: Page, mac_studio: Studio, photo_files: list[Path]
) -> None:
    page.goto(f"{mac_studio.url}/models")
    card = page.locator('[data-model="captioner"]')
    expect(card).to_contain_text("a download of about 3.1 GB")
    card.get_by_role("button", name="Install").click()
    expect(card.locator(".badge")).to_contain_text("ready", timeout=60_000)

    new_project(page, mac_studio, photo_files[:2])
    show_captions(page)
    page.locator("[data-words=template]:visible").click()
    dialog = page.locator("#write-captions")
    dialog.get_by_label("From the built-in captioner").check()
    expect(dialog.locator('[data-for="openai"]')).to_be_hidden()
    dialog.get_by_role("button", name="Write captions").click()
    lines = page.locator("#lines textarea")
    for line in (lines.first, lines.last):
        expect(line).to_have_value("A photo of sks house, 320 by 280, seen offline.", timeout=60_000)

    lines.first.fill("mine")
    page.keyboard.press("Tab")
    page.locator("[data-words=template]:visible").click()
    dialog.get_by_label("From the built-in captioner").check()
    dialog.get_by_label("Photos", exact=True).select_option("all")
    dialog.get_by_role("button", name="Preview").click()
    expect(page.locator("#caption-preview-rows li")).to_have_count(1, timeout=60_000)
    expect(lines.first).to_have_value("mine")
    dialog.get_by_role("button", name="Replace 1 caption").click()
    expect(lines.first).to_have_value("A photo of sks house, 320 by 280, seen offline.")

    page.goto(f"{mac_studio.url}/models")
    card.get_by_role("button", name="Remove").click()
    page.locator("#remove-captioner").get_by_role("button", name="Remove").click()
    expect(page.locator("#toasts")).to_contain_text("are free again")
    expect(card.locator(".badge")).to_contain_text("not here yet")
    expect(card.get_by_role("button", name="Install")).to_be_visible()
    assert not (mac_studio.home / "captioner").exists()
