"""ComfyUI's files in a real browser: found, made into a model, trained on and drawn with; others refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from core.hub.registry import KNOWN
from tests import comfy, foreign, tiny
from tests.e2e.conftest import Studio, new_project, running_studio
from tests.hub import Hub, running_hub

SCHNELL = KNOWN["flux1-schnell"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI with a tiny FLUX.1 schnell in single files, and files of other programs."""
    place = tmp_path_factory.mktemp("comfy")
    model = tiny.make_model_folder(place / "model")
    (model / "likeness.json").unlink()
    comfy.make_folder(place / "ComfyUI", model, "flux1")
    for name in ("flux1-dev-Q4_K_S.gguf", "flux1-dev-bnb-nf4-v2.safetensors", "svdq-int4-flux.1-dev.safetensors"):
        foreign.write(place / "ComfyUI" / "models" / "diffusion_models", name)
    foreign.write(place / "draw-things", "flux_1_dev_q8p.ckpt")
    return place


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub({SCHNELL.repo: folder / "model"}) as one:
        monkeypatch.setenv("HF_ENDPOINT", one.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield one


@pytest.fixture
def own_studio(hub: Hub, tmp_path: Path, tiny_models: Path) -> Iterator[Studio]:
    with running_studio(tmp_path / "home", tiny_models) as one:
        yield one


@pytest.mark.refusals
def test_comfyuis_files_are_found_trained_on_and_drawn_with(
    page: Page, own_studio: Studio, hub: Hub, folder: Path, photo_files: list[Path]
) -> None:
    page.goto(f"{own_studio.url}/settings")
    field, error = page.get_by_label("ComfyUI's folder"), page.locator("#setting-model_comfyui_folder-error")
    field.fill(str(folder / "draw-things"))
    field.blur()
    expect(error).to_contain_text("has none of ComfyUI's folders")
    own = page.get_by_label("Model folders")
    own.fill(str(folder / "draw-things"))
    own.blur()
    expect(page.locator("#setting-model_folders-error")).to_contain_text("is a model of Draw Things")
    own.fill("")
    own.blur()
    field.fill(f" {folder / 'ComfyUI'} ")
    field.blur()
    expect(page.locator("#saved")).to_have_text("Saved")
    expect(field).to_have_value(str(folder / "ComfyUI"))

    page.goto(f"{own_studio.url}/models")
    files = page.locator("#files")
    for name in ("flux1-dev-Q4_K_S.gguf", "flux1-dev-bnb-nf4-v2.safetensors", "svdq-int4-flux.1-dev.safetensors"):
        line = files.locator(".refused li", has_text=name)
        expect(line).to_contain_text(foreign.SENTENCES[name])
        expect(line).to_contain_text("use the safetensors file of the same model in bf16")
    card = files.locator("[data-model]", has_text="transformer-of-it.safetensors")
    expect(card).to_contain_text("FLUX.1 transformer, fp32")
    expect(card.locator("[data-question]")).to_contain_text("Which one was it made from?")
    card.get_by_role("button", name="Use as FLUX.1 schnell").click()
    expect(card).to_contain_text("ready as flux1-schnell")
    expect(card.get_by_role("button")).to_have_count(0)
    expect(page.locator('[data-model="flux1-schnell"]').first).to_contain_text("ready")
    assert "tokenizer/tokenizer.json" in hub.sent
    assert not any(name.endswith(".safetensors") for name in hub.sent)

    new_project(page, own_studio, photo_files[:2], "House of files")
    page.get_by_role("link", name="Train").click()
    page.wait_for_url("**/train")
    page.get_by_label("Model").select_option("flux1-schnell")
    for label, value in (("Steps", "3"), ("Picture size", "64")):
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_text("Samples and checkpoints").click()
    page.get_by_label("Sample every").fill("0")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/runs/*")
    expect(page.locator("#state")).to_contain_text("done", timeout=60_000)

    page.goto(f"{own_studio.url}/pictures")
    page.wait_for_load_state()
    page.get_by_label("Prompt", exact=True).fill("a photo of sks house")
    page.get_by_role("button", name="More", exact=True).click()
    for label, value in (("Width", "64"), ("Height", "64"), ("Sampler steps", "2")):
        page.get_by_label(label, exact=True).fill(value)
    page.locator("#draw-button").click()
    picture = page.locator("#gallery img").first
    expect(picture).to_be_visible(timeout=60_000)
    expect(picture).to_have_js_property("naturalWidth", 64)
