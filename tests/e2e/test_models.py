"""The Models page in a real browser, with a real download from a local server that speaks the hub's protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from core.hub.registry import KNOWN
from tests.e2e.conftest import Studio, running_studio
from tests.hub import Hub, make_repository, running_hub

KREA, DEV = KNOWN["flux1-krea-dev"], KNOWN["flux1-dev"]
LARGEST = "transformer/diffusion_pytorch_model-00001-of-00002.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    repository = make_repository(tmp_path / "repository")
    with running_hub({KREA.repo: repository, DEV.repo: repository}) as one:
        monkeypatch.setenv("HF_ENDPOINT", one.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield one


@pytest.fixture
def own_studio(hub: Hub, tmp_path: Path, tiny_models: Path) -> Iterator[Studio]:
    with running_studio(tmp_path / "home", tiny_models) as one:
        yield one


def test_download_stop_and_go_on_without_a_reload(page: Page, own_studio: Studio, hub: Hub) -> None:
    hub.silent_at[LARGEST] = 131_072
    page.goto(f"{own_studio.url}/models")
    card = page.locator('[data-model="flux1-krea-dev"]')
    expect(card).to_contain_text("non-commercial use only")
    card.locator("summary").click()
    card.get_by_role("button", name="Download").click()
    expect(card.locator("[data-words]")).to_contain_text("of 861 kB")
    expect(card.get_by_text("Predicted for a run")).to_be_visible()  # details stay open
    expect(card.locator("progress")).to_have_js_property("max", 860_507)
    expect(page.locator("#active-jobs")).to_contain_text("1")
    card.get_by_role("button", name="Stop").click()
    expect(card.locator(".badge")).to_contain_text("stopped")
    expect(card).to_contain_text("are here")

    hub.silent_at.clear()
    card.get_by_role("button", name="Go on").click()
    expect(page.locator('section:has(#group-ready) [data-model="flux1-krea-dev"]')).to_be_visible()
    expect(card.locator(".badge")).to_contain_text("ready")
    expect(card.get_by_role("button")).to_have_count(0)


def test_a_page_rendered_before_an_event_does_not_hide_it(page: Page, own_studio: Studio, hub: Hub) -> None:
    hub.silent_at[LARGEST] = 131_072
    page.goto(f"{own_studio.url}/models")
    card = page.locator('[data-model="flux1-krea-dev"]')
    card.get_by_role("button", name="Download").click()
    expect(card.locator("[data-words]")).to_contain_text("of 861 kB")

    def serve_as_before(route: Route) -> None:
        html = re.sub(r"(data-words>)[^<]*", r"\1asking the hub", route.fetch().text())
        route.fulfill(body=re.sub(r'data-after="\d+"', 'data-after="0"', html), content_type="text/html")

    page.route("**/models", serve_as_before)
    with page.expect_response("**/models"):
        page.locator('[data-model="flux1-dev"]').get_by_role("button", name="Download").click()
    expect(page.locator('[data-model="flux1-dev"] [data-words]')).to_be_visible()
    expect(card.locator("[data-words]")).to_contain_text("of 861 kB", timeout=3000)


def test_the_queue_shows_how_many_bytes_have_come(page: Page, own_studio: Studio, hub: Hub) -> None:
    hub.seconds_a_block = 0.1
    page.goto(f"{own_studio.url}/models")
    card = page.locator('[data-model="flux1-krea-dev"]')
    card.get_by_role("button", name="Download").click()
    expect(card.locator("progress")).to_have_js_property("max", 860_507)
    page.goto(f"{own_studio.url}/queue")
    line = page.locator("#queue li").filter(has_text="Download: FLUX.1 Krea dev")
    before = line.locator("progress").evaluate("bar => bar.value")
    page.wait_for_function("before => document.querySelector('#queue progress').value > before", arg=before)
    expect(line.locator("[data-words]")).to_contain_text("of 861 kB")
    line.get_by_role("button", name="Stop").click()
    expect(line.locator(".badge")).to_contain_text("stopped")


def test_a_gated_model_says_what_to_do_before_and_after(page: Page, own_studio: Studio, hub: Hub) -> None:
    hub.gated.add(DEV.repo)
    page.goto(f"{own_studio.url}/models")
    card = page.locator('[data-model="flux1-dev"]')
    expect(card.locator(".note")).to_contain_text("first accept FLUX.1 [dev]")
    expect(card.get_by_role("link")).to_have_attribute("href", f"{hub.url}/{DEV.repo}")
    card.get_by_role("button", name="Download").click()
    expect(card.locator("[data-problem]")).to_contain_text("Then make a token with the right")
    expect(card.get_by_role("button", name="Try again")).to_be_visible()
    expect(card.locator(".note")).to_have_count(1)


def test_a_folder_named_in_the_settings_is_found_at_once(
    page: Page, own_studio: Studio, tmp_path: Path, hub: Hub
) -> None:
    make_repository(tmp_path / "shelf" / "mine")
    page.goto(f"{own_studio.url}/settings")
    field = page.get_by_label("Model folders")
    field.fill(f"{tmp_path}/shelf\n")
    field.blur()
    expect(page.locator("#saved")).to_have_text("Saved")
    page.goto(f"{own_studio.url}/models")
    expect(page.locator('section:has(#group-ready) [data-model="mine"]')).to_contain_text(str(tmp_path / "shelf"))
    (tmp_path / "shelf" / "mine" / "vae" / "config.json").unlink()
    page.reload()
    expect(page.locator('section:has(#group-broken) [data-model="mine"]')).to_contain_text(
        "vae/config.json is not there"
    )
