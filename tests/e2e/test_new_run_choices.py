"""The page of a new run by mouse and by keys: presets, prompts, what is changed, saved settings, pickers; and axe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.axe import faults
from tests.e2e.conftest import Studio
from tests.e2e.test_new_run import call, unfold

PROJECT = {"name": "Chosen", "trigger": "zwx", "class_word": "dog"}


@pytest.fixture
def project(page: Page, studio: Studio, photo_files: list[Path]) -> int:
    """A project with three photos, whose form is open."""
    found = int(call(studio, "POST", "/projects", PROJECT)["id"])
    for path in photo_files[:3]:
        page.request.put(f"{studio.url}/api/projects/{found}/photos/{path.name}", data=path.read_bytes())
    page.goto(f"{studio.url}/projects/{found}/train")
    page.get_by_label("Model").select_option("tiny")
    expect(page.locator("#time-quick-cost")).to_contain_text("steps")
    return found


def settled(page: Page) -> None:
    """The estimate is that of what the form has: nothing is filled in later."""
    page.wait_for_load_state("networkidle")


def prompt(page: Page, number: int) -> Locator:
    return page.get_by_label(f"Prompt {number}", exact=True)


def prompts(page: Page) -> list[str]:
    return [one.input_value() for one in page.locator("#prompts input").all()]


def run_of(page: Page, studio: Studio) -> dict[str, Any]:
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/runs/*")
    run = call(studio, "GET", f"/runs/{page.url.rpartition('/')[2]}")
    call(studio, "POST", f"/runs/{run['id']}/stop", {"now": True})
    return dict(run)


def test_goal_time_and_prompts_are_chosen_with_keys_alone(page: Page, studio: Studio, project: int) -> None:
    expect(page.get_by_label("Animal", exact=True)).to_be_checked()  # by the class word
    page.get_by_label("Balanced", exact=True).focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_label("Quick", exact=True)).to_be_checked()
    steps = page.get_by_label("Steps", exact=True)
    expect(steps).to_have_value("2")
    expect(page.locator('[data-knob="steps"] [data-mark]')).to_be_hidden()  # the preset's, so not changed
    expect(page.locator("#time-quick-cost")).to_contain_text("2 steps")

    assert prompts(page) == ["a photo of zwx dog", "zwx dog on the beach"]
    prompt(page, 2).focus()
    page.keyboard.press("Enter")  # a third line, and no start
    page.keyboard.type("zwx dog in the snow, a dog can run")
    page.keyboard.press("Alt+ArrowUp")
    expect(prompt(page, 2)).to_be_focused()
    assert prompts(page) == ["a photo of zwx dog", "zwx dog in the snow, a dog can run", "zwx dog on the beach"]
    page.get_by_role("button", name="+ Bare class").press("Enter")
    page.get_by_role("button", name="Remove prompt 1").press("Enter")
    expect(page.locator("#prompts .seed").first).to_have_text("seed 42")
    assert prompts(page)[-1] == "a photo of dog"
    page.get_by_label("Style", exact=True).focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="+ A place")).to_be_visible()
    assert prompts(page)[0] == "zwx dog in the snow, a dog can run", "what was typed stays"
    page.reload()  # nothing that was typed is lost
    expect(page.get_by_label("Quick", exact=True)).to_be_checked()
    expect(page.get_by_label("Style", exact=True)).to_be_checked()
    expect(prompt(page, 3)).to_have_value("a photo of dog")
    settled(page)

    config = run_of(page, studio)["config"]
    own = ["{trigger} {class_word} in the snow, a dog can run", "{trigger} {class_word} on the beach"]
    assert config["sample_prompts"] == {"value": [*own, "a photo of {class_word}"], "source": "user"}
    assert (config["steps"], config["find_subjects"]) == (
        {"value": 2, "source": "preset"}, {"value": False, "source": "preset"},
    )  # fmt: skip


def test_the_base_draws_a_prompt_before_any_run(page: Page, project: int) -> None:
    settled(page)
    page.get_by_label("Sampler steps").evaluate("field => field.closest('details').open = true")
    page.get_by_label("Sampler steps").fill("1")
    prompt(page, 1).fill("a red house in the rain")
    page.get_by_role("button", name="Remove prompt 2").click()
    page.get_by_role("button", name="See what the base draws").click()
    picture = page.get_by_role("img", name="What the base draws for prompt 1")
    expect(picture).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="See what the base draws")).to_be_hidden()
    page.reload()
    expect(picture).to_be_visible()
    prompt(page, 1).fill("a red house in the snow")
    expect(picture).to_be_hidden()


def test_only_what_is_changed_is_marked_and_each_has_a_way_back(page: Page, project: int) -> None:
    settled(page)
    expect(page.locator("#changed-words")).to_have_text("1 setting changed.")
    expect(page.locator("[data-mark]:visible")).to_have_count(1)  # the one that was chosen above
    rank = page.get_by_label("Rank", exact=True)
    alpha = page.get_by_label("Alpha")
    usual, alphas = rank.input_value(), alpha.input_value()
    rank.fill("9")
    expect(alpha).to_have_value("9")  # as the run would have it
    unfold(page, "Loss and data")
    page.get_by_label("Mirror photos").check()
    expect(page.locator("#changed-words")).to_have_text("3 settings changed.")
    page.get_by_label("Only what is changed").check()
    expect(page.get_by_label("Mirror photos")).to_be_visible()
    expect(page.get_by_label("Prior weight")).to_be_hidden()
    expect(page.get_by_label("Steps", exact=True)).to_be_hidden()
    page.locator('[data-knob="rank"]').get_by_role("button", name=f"Reset to {usual}").click()
    expect(rank).to_have_value(usual)
    page.get_by_label("Only what is changed").uncheck()
    unfold(page, "Adapter")
    expect(alpha).to_have_value(alphas)
    page.get_by_role("button", name="Reset all").click()
    expect(page.get_by_label("Mirror photos")).not_to_be_checked()
    expect(page.locator("#changed-words")).to_have_text("Nothing is changed.")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Mirror photos")).to_be_checked()
    expect(page.get_by_label("Model")).to_have_value("tiny")


@pytest.mark.refusals
def test_settings_are_saved_used_elsewhere_shared_and_brought_back(
    page: Page, studio: Studio, project: int, tmp_path: Path
) -> None:
    page.get_by_label("Rank", exact=True).fill("9")
    page.get_by_role("button", name="Save…").click()
    page.get_by_label("Name", exact=True).fill("Nine")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#changed-words")).to_have_text("Nothing is changed.")
    saved = page.locator("#configuration")
    expect(saved.locator("option:checked")).to_have_text("Nine")
    page.get_by_label("Rank", exact=True).fill("5")
    page.get_by_label("More about saved settings").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as TOML").click()
    shared = tmp_path / download.value.suggested_filename
    download.value.save_as(shared)
    assert "rank = 9" in shared.read_text()
    page.get_by_label("More about saved settings").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_label("Rank", exact=True)).to_have_value("5")
    page.get_by_role("button", name="Undo").click()
    expect(saved.locator("option:checked")).to_have_text("Nine")
    expect(page.get_by_label("Rank", exact=True)).to_have_value("5")

    saved.select_option(label="none")
    expect(page.get_by_label("Rank", exact=True)).to_have_value("5")
    saved.select_option(label="Nine")
    expect(page.get_by_label("Rank", exact=True)).to_have_value("9")
    shared.write_text(shared.read_text().replace("rank = 9", "rank = 11\nclip_norm = 2.0"))
    page.locator("#settings-file").set_input_files(shared)
    expect(saved.locator("option:checked")).to_have_text("Nine 2")
    expect(page.get_by_label("Rank", exact=True)).to_have_value("11")
    settled(page)
    config = run_of(page, studio)["config"]
    assert (config["rank"], config["clip_norm"]) == (
        {"value": 11, "source": "configuration"}, {"value": 2.0, "source": "configuration"},
    )  # fmt: skip
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"rank": 0, "odd": 1}))
    page.goto(f"{studio.url}/projects/{project}/train")
    page.locator("#settings-file").set_input_files(wrong)
    expect(page.locator("#configuration-error")).to_contain_text("odd there is no setting called odd. rank is 0")


def test_layers_photos_and_sizes_are_picked_by_eye(page: Page, studio: Studio, project: int) -> None:
    unfold(page, "Adapter")
    page.get_by_role("group", name="Which layers").get_by_role("button", name="Attention").click()
    expect(page.get_by_label("Layers", exact=True)).to_have_value("attention")
    expect(page.locator('[data-picker="targets"]')).to_contain_text("blocks")
    unfold(page, "Loss and data")
    page.get_by_role("button", name="house 1.png").press("Space")
    expect(page.get_by_label("Held-out photos")).to_have_value("house 1.png")
    expect(page.locator('[data-picker="held_out"]')).to_contain_text("1 photo held out, 2 trained on")
    unfold(page, "More about the run")
    page.get_by_role("button", name="384 px").click()
    expect(page.get_by_label("Further sizes", exact=True)).to_have_value("384")
    expect(page.locator(".size-row")).to_have_count(2)
    expect(page.locator(".size-row").last).to_contain_text("3 photos")
    settled(page)
    config = run_of(page, studio)["config"]
    assert [config[name]["value"] for name in ("targets", "held_out", "more_sides_px")] == [
        "attention", "house 1.png", [384],
    ]  # fmt: skip


@pytest.mark.refusals
def test_axe_finds_nothing_on_the_form(page: Page, project: int) -> None:
    found = faults(page, "as it opens")
    page.get_by_label("Rank", exact=True).fill("0")
    page.get_by_label("Rank", exact=True).blur()
    for group in page.locator("details.fold").all():
        group.locator("summary").click()
    expect(page.locator("#knob-rank-error")).not_to_have_text("")
    expect(page.locator(".stack-row")).not_to_have_count(0)
    expect(page.locator(".thumbs button")).to_have_count(3)
    found += faults(page, "all unfolded")
    page.get_by_role("button", name="Save…").click()
    found += faults(page, "saving settings")
    assert not found, "\n".join(found)
